"""Bringing a database to this version's tables, and saying whether it is there."""

from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from jobledger_collector.core.errors import DatabaseFailed
from jobledger_collector.store.engine import (
    is_sqlite,
    missing_file,
    reading,
    shown_url,
    transaction,
)

SCRIPTS: Final = "jobledger_collector.store:migrations"
ADVISORY_LOCK: Final = 0x6A6F626C  # "jobl"


def upgrade(engine: Engine) -> bool:
    """Apply what is missing, all or nothing; returns whether anything was.

    Raises DatabaseFailed when the database is of a newer version, or holds
    tables of something else.
    """
    with transaction(engine) as conn:
        _wait_for_others(conn)
        before = _revision(conn)
        _check(engine, conn, before)
        config = _config()
        config.attributes["connection"] = conn
        command.upgrade(config, "head")
        return before != _revision(conn)


def require_current(engine: Engine) -> None:
    """Raise DatabaseFailed, with what to do, unless the tables are this version's."""
    if missing := missing_file(engine):
        raise DatabaseFailed(
            f"There is no database {missing}: check the URL, or make it with"
            " `jobledger-collector migrate`."
        )
    with reading(engine) as conn:
        found = _revision(conn)
        _check(engine, conn, found)
    if found != head():
        raise DatabaseFailed(
            f"The tables of {shown_url(engine)} are of version {found or 'none'}, this program"
            f" needs {head()}: stop the collector, back up, run `jobledger-collector migrate`."
        )


def head() -> str:
    """Return the revision of the tables that this software uses."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _wait_for_others(conn: Connection) -> None:
    """Let only one program migrate at a time; on SQLite a writer is alone already."""
    if not is_sqlite(conn):
        conn.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))


def _check(engine: Engine, conn: Connection, found: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found and found not in known:
        raise DatabaseFailed(
            f"The tables of {shown_url(engine)} are of version {found}, which this program does not"
            " know: install the version of Jobledger that made them, or a later one."
        )
    if not found and inspect(conn).has_table("job_runs"):
        raise DatabaseFailed(
            f"{shown_url(engine)} has a table job_runs that no migration of Jobledger made:"
            " name an empty database."
        )


def _revision(conn: Connection) -> str:
    return MigrationContext.configure(conn).get_current_revision() or ""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    return config
