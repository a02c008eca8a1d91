"""What a reader may ask of job runs, and the row that answers.

The read side's vocabulary: the filter, the row and the sums, and how joined
rows of runs and charges become one exact JobRow. Costs are integers in 10^-14
of the currency's major unit (``charge.COST_SCALE``): quantity x price, summed
in Python, where integers have no limit; SQLite's have 64 bits.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, and_, or_, select

from jobledger_collector.core.charge import NO_PRICE
from jobledger_collector.store.schema import books, charges, invoices, job_runs, prices

NOT_INVOICED: Final = 0
"""An id that no invoice has."""

STREAM_ROWS: Final = 2_000
"""Rows fetched at a time by a streaming read: bounds its memory."""

RUN_COLUMNS: Final = tuple(
    job_runs.c[name]
    for name in (
        "cluster", "job_id", "submit", "start", "end", "user", "account", "billing_account",
        "partition", "qos", "state", "elapsed_s", "cpu_s", "gpu_s", "mem_mib_s", "node_s",
        "period", "revision", "flags",
    )
)  # fmt: skip
"""The columns of a run that a JobRow holds, in its order; the key leads."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a member may see: own runs and those of named billing accounts."""

    user: str = ""
    accounts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which runs: every criterion that is given must hold.

    ``period`` is yyyymm of the run's end (0: runs that are open); ``account``
    is the Slurm account; ``invoiced`` whether its standing charges are on an
    invoice; ``scope`` is what the reader may see at all (None: everything).
    """

    period: int | None = None
    cluster: str | None = None
    account: str | None = None
    billing_account: str | None = None
    user: str | None = None
    state: str | None = None
    invoiced: bool | None = None
    scope: Scope | None = None


class JobRow(NamedTuple):
    """One job run with its exact cost. Times are epoch seconds, 0 unknown.

    ``list_e14`` and ``cost_e14`` in 10^-14 of ``currency``'s major unit;
    ``invoice`` is the number of the invoice its standing charges are on (the
    latest, where a correction put them on several).
    """

    cluster: str
    job_id: int
    submit: int
    start: int
    end: int
    user: str
    account: str
    billing_account: str
    partition: str
    qos: str
    state: str
    elapsed_s: int
    cpu_s: int
    gpu_s: int
    mem_mib_s: int
    node_s: int
    period: int
    revision: int
    flags: str
    list_e14: int
    cost_e14: int
    currency: str
    invoice: str | None


@dataclass(frozen=True, slots=True)
class Sums:
    """What a set of runs used and costs, exactly.

    ``unpriced`` counts the runs with an item that no price was found for (flag
    ``no_price``).
    """

    jobs: int = 0
    elapsed_s: int = 0
    cpu_s: int = 0
    gpu_s: int = 0
    mem_mib_s: int = 0
    node_s: int = 0
    list_e14: int = 0
    cost_e14: int = 0
    unpriced: int = 0


class PriceFigures(NamedTuple):
    """The two figures of a price that sums need, in 10^-8 of the major unit."""

    list_e8: int
    unit_e8: int


@dataclass(frozen=True, slots=True)
class Lookups:
    """What joined rows refer to by id: prices, invoice numbers, the currency."""

    prices: dict[int, PriceFigures]
    invoices: dict[int, str]
    currency: str


def run_key() -> tuple[Column[Any], ...]:
    """The columns that identify a run: the deterministic order of every list."""
    return (job_runs.c.cluster, job_runs.c.job_id, job_runs.c.submit)


def standing_charge_of_run() -> ColumnElement[bool]:
    """Joins a run with the charges that stand for it."""
    return and_(
        charges.c.cluster == job_runs.c.cluster,
        charges.c.job_id == job_runs.c.job_id,
        charges.c.submit == job_runs.c.submit,
        charges.c.superseded_by == 0,
    )


def conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    """The filter as SQL over ``job_runs``: each element must hold."""
    columns = (
        (job_runs.c.period, wanted.period),
        (job_runs.c.cluster, wanted.cluster),
        (job_runs.c.account, wanted.account),
        (job_runs.c.billing_account, wanted.billing_account),
        (job_runs.c.user, wanted.user),
        (job_runs.c.state, wanted.state),
    )
    held = [column == value for column, value in columns if value is not None]
    if wanted.invoiced is not None:
        held.append(_on_invoice() if wanted.invoiced else ~_on_invoice())
    if wanted.scope is not None:
        held.append(_visible(wanted.scope))
    return held


def _on_invoice() -> ColumnElement[bool]:
    # Under a name of its own: the query around it may join the charges too.
    standing = charges.alias("invoiced_charges")
    own = [standing.c[column.name] == column for column in run_key()]
    return (
        select(standing.c.item)
        .where(*own, standing.c.superseded_by == 0, standing.c.invoice_id.isnot(None))
        .correlate(job_runs)
        .exists()
    )


def _visible(scope: Scope) -> ColumnElement[bool]:
    # An empty login must not match the runs whose user Slurm did not name.
    own = and_(job_runs.c.user == scope.user, job_runs.c.user != "")
    return or_(own, job_runs.c.billing_account.in_(sorted(scope.accounts)))


def load_lookups(conn: Connection) -> Lookups:
    """Prices, invoice numbers and currency; few rows beside the runs.

    Read it after the rows that refer to it were asked for, so that every id
    they hold is known.
    """
    figures = conn.execute(select(prices.c.id, prices.c.list_e8, prices.c.unit_e8))
    numbers = conn.execute(select(invoices.c.id, invoices.c.number))
    currency = conn.execute(select(books.c.currency)).scalar_one_or_none()
    return Lookups(
        prices={row.id: PriceFigures(row.list_e8, row.unit_e8) for row in figures},
        invoices={row.id: row.number for row in numbers},
        currency=currency or "",
    )


def fold(rows: Iterable[Sequence[Any]], lookups: Lookups) -> Iterator[JobRow]:
    """Joined rows to one JobRow a run.

    A row is RUN_COLUMNS, then price_id, quantity_micro and invoice_id (None
    where the run has no charge); the rows of one run are adjacent.
    """
    width = len(RUN_COLUMNS)
    for _, joined in groupby(rows, key=itemgetter(0, 1, 2)):
        list_e14 = cost_e14 = 0
        invoice = NOT_INVOICED
        for row in joined:
            price_id, quantity_micro, invoice_id = row[width:]
            if price_id is not None and price_id != NO_PRICE:
                figures = lookups.prices[price_id]
                list_e14 += quantity_micro * figures.list_e8
                cost_e14 += quantity_micro * figures.unit_e8
            invoice = max(invoice, invoice_id or NOT_INVOICED)
        facts = (list_e14, cost_e14, lookups.currency, lookups.invoices.get(invoice))
        yield JobRow._make((*row[:width], *facts))
