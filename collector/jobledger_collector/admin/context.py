"""What every command is given: its settings, its output, and the database."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TextIO

from jobledger_collector.admin.config import AdminConfig
from jobledger_collector.admin.outcome import BadUsage
from jobledger_collector.store.engine import open_engine, reading, transaction
from jobledger_collector.store.handles import Connection, Engine

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

    def reading(self) -> AbstractContextManager[Connection]:
        """Open a transaction that only reads."""
        return reading(self.engine())

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a transaction that is committed at its end, or leaves nothing."""
        return transaction(self.engine())
