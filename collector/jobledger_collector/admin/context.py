"""What every command is given: its settings, its output, and the database."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TextIO

from jobledger_collector.admin.config import AdminConfig
from jobledger_collector.admin.outcome import BadUsage
from jobledger_collector.core.errors import DatabaseFailed
from jobledger_collector.store.engine import missing_file, open_engine, reading, transaction
from jobledger_collector.store.handles import Connection, Engine
from jobledger_collector.store.migrate import upgrade

NO_DATABASE = (
    "No database was named: give --db URL (for example sqlite:////var/lib/jobledger/jobledger.db),"
    " set JOBLEDGER_DB, or set url under [database] in jobledger.toml"
)


@dataclass(frozen=True, slots=True)
class Context:
    """A command's surroundings; commands reach nothing else of the process."""

    config: AdminConfig
    out: TextIO
    err: TextIO
    now_s: Callable[[], int]
    """The time of day in epoch seconds."""
    person: str
    """Who is at the keyboard, as the operating system knows them."""

    def engine(self) -> Engine:
        """Return the database; raises BadUsage when none was named."""
        if not self.config.database_url:
            raise BadUsage(NO_DATABASE)
        return open_engine(self.config.database_url)

    def make_tables(self) -> None:
        """Make the tables of a SQLite database that does not exist yet.

        Any other database is left to ``jobledger-collector migrate``.
        """
        engine = self.engine()
        if missing_file(engine):
            upgrade(engine)

    def reading(self) -> AbstractContextManager[Connection]:
        """Open a transaction that only reads."""
        return reading(self._present())

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a transaction that is committed at its end, or leaves nothing."""
        return transaction(self._present())

    def _present(self) -> Engine:
        """Return the database; a SQLite file that is not there is not made by looking at it."""
        engine = self.engine()
        missing = missing_file(engine)
        if missing:
            raise DatabaseFailed(
                f"There is no database {missing}: check --db, or make it with"
                " `jobledger-collector migrate` or by loading a rate card"
            )
        return engine
