"""The set-based reads and writes of ingest, one implementation a database.

The modules ``bulk_postgres`` and ``bulk_sqlite`` each have these functions;
the tests of the store run the same cases over both.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

from sqlalchemy import Connection

from jobledger_collector.core.record import RunKey
from jobledger_collector.store import bulk_postgres, bulk_sqlite
from jobledger_collector.store.engine import is_sqlite
from jobledger_collector.store.rows import ChargeRow, PriceId, RunRow

Replaced = tuple[str, int, int, int, str, int]
"""A row for ``run_revisions``, in REVISION_COLUMNS."""
Superseded = tuple[str, int, int, str, int, int]
"""(cluster, job id, submit, item, segment, change): a standing charge to close."""

Rating = tuple[str, int, int, str, str, int]
"""(cluster, job id, submit, flags, billing account, period): how a run is rated."""


class Bulk(Protocol):
    """What ingest asks of a database; every method is one or few statements."""

    def insert_new(self, conn: Connection, runs: Sequence[RunRow], price_id: PriceId) -> bool:
        """Insert runs and what they owe; False if one is known: the transaction is then lost."""

    def upsert_runs(self, conn: Connection, runs: Sequence[RunRow]) -> None:
        """Insert runs or replace their rows."""

    def insert_charges(self, conn: Connection, rows: Sequence[ChargeRow]) -> None:
        """Insert charges of any kind."""

    def supersede(self, conn: Connection, rows: Sequence[Superseded]) -> None:
        """Close standing charges."""

    def update_ratings(self, conn: Connection, rows: Sequence[Rating]) -> None:
        """Set flags, billing account and period of runs."""

    def insert_revisions(self, conn: Connection, rows: Sequence[Replaced]) -> None:
        """Keep rows of runs that are about to be replaced."""

    def find_seen(self, conn: Connection, keys: Iterable[RunKey]) -> dict[RunKey, tuple[str, int]]:
        """Return (digest, observed) of the runs that are known."""

    def find_runs(self, conn: Connection, keys: Iterable[RunKey]) -> list[Sequence[Any]]:
        """Return the rows of the runs that are known, in RUN_COLUMNS, locked until the end."""

    def find_marks(
        self, conn: Connection, keys: Iterable[RunKey]
    ) -> dict[RunKey, tuple[str, bool]]:
        """Return the digest of known runs, and whether that is all of their history."""

    def look_at_runs(self, conn: Connection, keys: Iterable[RunKey]) -> list[Sequence[Any]]:
        """Return the rows of the runs that are known, in RUN_COLUMNS, locking none."""

    def find_standing(self, conn: Connection, keys: Iterable[RunKey]) -> list[Sequence[Any]]:
        """Return the standing charges of runs: CHARGE_COLUMNS and the invoice, locked."""

    def find_last_change(self, conn: Connection, keys: Iterable[RunKey]) -> dict[RunKey, int]:
        """Return the highest number of a change of each run's charges, where there was one."""


def bulk_of(conn: Connection) -> Bulk:
    """Return the implementation for this database."""
    return cast("Bulk", bulk_sqlite if is_sqlite(conn) else bulk_postgres)
