"""What one person may read of the books: the only door from pages to the store.

Every question about jobs and invoices goes through here and is narrowed to the
viewer's scope here, so no page can forget to. What lies outside the scope is
answered exactly as what does not exist.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple

from jobledger_collector.core.explain import Explanation
from jobledger_collector.core.periods import DAY_S, period_bounds, zone
from jobledger_collector.core.record import RunKey
from jobledger_collector.exports import export_invoice_jobs, export_jobs, export_lines
from jobledger_collector.store import invoices, run_views, usage_views
from jobledger_collector.store.cards import Books, read_books
from jobledger_collector.store.explanations import explain_run
from jobledger_collector.store.invoices import Invoice, InvoiceRow
from jobledger_collector.store.operations_views import cluster_names
from jobledger_collector.store.usage_views import Cursor, JobFilter, Page, Sort, Sums
from jobledger_web.access import Viewer
from jobledger_web.database import Connection, reading
from jobledger_web.sessions import viewer

PAGE_ROWS: Final = 50
BIGGEST_ID: Final = 2**63 - 1
"""The largest number that the store can hold: no id is beyond it."""


class RunDetail(NamedTuple):
    """One run in full: its newest revision by column name, its charges, its past."""

    run: dict[str, Any]
    explanation: Explanation
    revisions: list[run_views.RevisionRow]
    open_invoices: frozenset[str]
    """Invoices that its charges are on and that the viewer may open."""


class DayCost(NamedTuple):
    """What the runs that ended on a day cost, in 10^-14 of the major unit."""

    day: date
    cost_e14: int


class Ledger:
    """The books as one viewer sees them, at one moment."""

    def __init__(self, conn: Connection, reader: Viewer) -> None:
        self._conn = conn
        self._viewer = reader

    def _own(self, wanted: JobFilter) -> JobFilter:
        return replace(wanted, scope=self._viewer.scope)

    def books(self) -> Books:
        """Currency and time zone of the books."""
        return read_books(self._conn)

    def months(self) -> list[tuple[int, int]]:
        """Periods (yyyymm, 0 for open) and their runs, newest first."""
        return usage_views.months(self._conn, self._own(JobFilter()))

    def clusters(self) -> list[str]:
        """Clusters to choose from; members see the names too."""
        return cluster_names(self._conn)

    def page(self, wanted: JobFilter, sort: Sort, *, descending: bool, at: Cursor | None) -> Page:
        """One page of jobs. Raises ValueError when the cursor is of another order."""
        return usage_views.page_jobs(
            self._conn, self._own(wanted), sort, descending=descending, at=at, limit=PAGE_ROWS
        )

    def totals(self, wanted: JobFilter) -> Sums:
        """Sums over the jobs of the filter."""
        return usage_views.totals(self._conn, self._own(wanted))

    def by_account(self, wanted: JobFilter) -> list[tuple[str, Sums]]:
        """Sums by billing account, the costliest first."""
        found = usage_views.by_account(self._conn, self._own(wanted))
        return sorted(found, key=lambda one: (-one[1].cost_e14, one[0]))

    def days(self, wanted: JobFilter, timezone: str) -> list[DayCost]:
        """Cost of each day of the filter's period, which must be a month."""
        if not wanted.period:
            return []
        start, end = period_bounds(wanted.period, timezone)
        local = zone(timezone)
        first = datetime.fromtimestamp(start, UTC).astimezone(local).date()
        days = [date.fromordinal(first.toordinal() + n) for n in range(round_days(end - start))]
        costs = dict.fromkeys(days, 0)
        halves = run_views.half_hour_costs(self._conn, self._own(wanted), start)
        for half_hour, cost_e14 in halves.items():
            instant = datetime.fromtimestamp(start + half_hour * run_views.HALF_HOUR_S, UTC)
            day = instant.astimezone(local).date()
            costs[day] = costs.get(day, 0) + cost_e14
        return [DayCost(day, cost) for day, cost in costs.items()]

    def run(self, cluster: str, job_id: int, submit: int) -> RunDetail | None:
        """One run in full; None when it does not exist or is not the viewer's to see."""
        if max(job_id, submit) > BIGGEST_ID:
            return None
        found = run_views.find_run(
            self._conn, self._own(JobFilter(cluster=cluster)), job_id, submit
        )
        explained = explain_run(self._conn, RunKey(cluster, job_id, submit))
        if found is None or explained is None:
            return None
        numbers = {one.charge.invoice for one in explained.charges if one.charge.invoice}
        return RunDetail(
            found,
            explained,
            run_views.run_revision_rows(self._conn, cluster, job_id, submit),
            frozenset(number for number in numbers if self._may_open(number)),
        )

    def _payers(self) -> frozenset[str] | None:
        return None if self._viewer.scope is None else self._viewer.scope.accounts

    def _may_open(self, number: str) -> bool:
        return self.invoice(number) is not None

    def invoices(self, period: int | None, account: str | None) -> list[InvoiceRow]:
        """Issued invoices, newest first."""
        return invoices.list_invoices(
            self._conn, period=period, account=account, accounts=self._payers()
        )

    def invoice(self, number: str) -> Invoice | None:
        """One invoice; None when it does not exist or is not the viewer's to see."""
        return invoices.get_invoice(self._conn, number, accounts=self._payers())

    def jobs_csv(self, wanted: JobFilter) -> Iterator[str]:
        """Every job of the filter as CSV, streamed."""
        return export_jobs(self._conn, self._own(wanted))

    def lines_csv(self, number: str) -> Iterator[str]:
        """The lines of one invoice as CSV, streamed; headings only if it is not the viewer's."""
        return export_lines(self._conn, number=self._own_number(number))

    def billed_csv(self, number: str) -> Iterator[str]:
        """The jobs of one invoice as CSV, streamed; headings only if it is not the viewer's."""
        return export_invoice_jobs(self._conn, self._own_number(number))

    def _own_number(self, number: str) -> str:
        return number if self._may_open(number) else ""


def round_days(seconds: int) -> int:
    """Whole days in a month of ``seconds``, which a change of the clocks may bend by hours."""
    return (seconds + DAY_S // 2) // DAY_S


@contextmanager
def ledger() -> Iterator[Ledger]:
    """Open the books for the person who is signed in, at one moment."""
    reader = viewer()
    with reading() as conn:
        yield Ledger(conn, reader)
