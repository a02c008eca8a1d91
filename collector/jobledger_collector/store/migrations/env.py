"""How Alembic runs a migration: on the connection it is given, one at a time.

A migration must not queue behind a long query and stop everybody else, so it
gives up on a lock after a few seconds; two collectors that start together wait
for each other at the advisory lock.
"""

from alembic import context
from sqlalchemy import text

from jobledger_collector.store.engine import is_sqlite
from jobledger_collector.store.schema import metadata

LOCK_MS = 4_000
STATEMENT_MS = 600_000
ADVISORY_LOCK = 0x6A6F626C  # "jobl"

connection = context.config.attributes["connection"]
if not is_sqlite(connection):
    connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
    connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
    connection.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_MS}"))
context.configure(connection=connection, target_metadata=metadata)
context.run_migrations()
