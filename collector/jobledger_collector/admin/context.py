"""What every command is given: its settings, its output, and the database."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from sqlalchemy import Engine

from jobledger_collector.admin.config import AdminConfig
from jobledger_collector.admin.outcome import BadUsage
from jobledger_collector.store.engine import open_engine

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
    now: Callable[[], datetime.datetime]
    """The aware current time in UTC."""
    person: str
    """Who is at the keyboard, as the operating system knows them."""

    def database(self) -> Engine:
        """Open the database; raises BadUsage when none was named."""
        if not self.config.database_url:
            raise BadUsage(NO_DATABASE)
        return open_engine(self.config.database_url)

    def epoch_s(self) -> int:
        """Return the current time in epoch seconds."""
        return int(self.now().timestamp())
