"""How Alembic runs a migration: on the connection it is given.

A migration must not queue behind a long query and stop everybody else, so it
gives up on a lock after a few seconds. ``migrate.upgrade`` sees to it that two
programs that start together wait for each other.
"""

from alembic import context
from sqlalchemy import text

from jobledger_collector.store.engine import is_sqlite
from jobledger_collector.store.schema import metadata

LOCK_MS = 4_000
STATEMENT_MS = 600_000

connection = context.config.attributes["connection"]
if not is_sqlite(connection):
    connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
    connection.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_MS}"))
context.configure(connection=connection, target_metadata=metadata)
context.run_migrations()
