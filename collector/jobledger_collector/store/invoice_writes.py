"""Issuing, in SQL: claim what is owed, take a number, freeze the document.

One billing account is one transaction. What it claims is decided first (every
charge gets the new invoice's id), and only then summed: no charge that arrives
meanwhile can be claimed without being summed, or summed without being claimed.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    MetaData,
    Table,
    Text,
    and_,
    case,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from jobledger_collector.core.charge import NO_PRICE
from jobledger_collector.core.drafting import AnnexRun, PriceKey
from jobledger_collector.core.errors import CollectorError
from jobledger_collector.core.invoicing import Bill, ChargeSum, Line
from jobledger_collector.store.books import hold_generation
from jobledger_collector.store.engine import is_sqlite
from jobledger_collector.store.schema import (
    charges,
    document_series,
    invoice_lines,
    invoices,
    job_runs,
    prices,
)
from jobledger_collector.store.usage_pages import cost_rank

ISSUED: Final = "issued"
"""``status`` of a document as it is issued."""

ISSUING_LOCK: Final = 0x6A6F6269
"""PostgreSQL's advisory lock that one issuer holds at a time."""

_temporary = MetaData()
_waiting = Table(
    "waiting_runs",
    _temporary,
    Column("cluster", Text, nullable=False),
    Column("job_id", BigInteger, nullable=False),
    Column("submit", BigInteger, nullable=False),
    Column("billing_account", Text, nullable=False),
    Index("waiting_runs_lookup_idx", "billing_account", "job_id", "submit", "cluster"),
    prefixes=["TEMPORARY"],
)
"""Runs with billable charges, by account: found in one pass over the charges
instead of one a billing account. Its index finds an account's runs, and also
whether a run is an account's: so a claim is quick in whichever order it is done."""

_RUN: Final = ("cluster", "job_id", "submit")


class DateBackwards(CollectorError):
    """The clock is behind the last document of the series."""


class Issued(NamedTuple):
    """The columns of an invoice that its bill does not say; ``issued_at`` in epoch seconds."""

    id: int
    billing_account: str
    period: int
    number: str
    series: str
    year: int
    sequence: int
    issue_date: str
    issued_at: int
    issued_by: str
    currency: str
    document: str
    document_sha256: str


def _owed(period: int) -> tuple[ColumnElement[bool], ...]:
    """What is neither invoiced nor replaced, of this period or an earlier one.

    A reversal (kind -1) is owed too: it gives back what an earlier invoice took.
    """
    return (
        charges.c.invoice_id.is_(None),
        or_(charges.c.superseded_by == 0, charges.c.kind == -1),
        charges.c.period <= period,
    )


def find_waiting(conn: Connection, period: int, account: str | None) -> list[str]:
    """Billing accounts with something billable, in order; fills the temporary table.

    In a transaction of its own; what it finds is checked again when claimed.
    """
    _temporary.drop_all(conn)
    _temporary.create_all(conn)
    columns = [charges.c[name] for name in (*_RUN, "billing_account")]
    found = select(*columns).where(*_owed(period), charges.c.price_id != NO_PRICE).distinct()
    if account is not None:
        found = found.where(charges.c.billing_account == account)
    conn.execute(insert(_waiting).from_select([column.name for column in _waiting.c], found))
    if not is_sqlite(conn):  # its planner knows nothing of a table this young
        conn.execute(text(f"ANALYZE {_waiting.name}"))
    accounts = select(_waiting.c.billing_account).distinct()
    return sorted(conn.execute(accounts).scalars())


def unpriced(conn: Connection, period: int, account: str | None) -> dict[str, int]:
    """Charges without a price, by billing account: kept out of every document."""
    counted = (
        select(charges.c.billing_account, func.count())
        .where(*_owed(period), charges.c.price_id == NO_PRICE)
        .group_by(charges.c.billing_account)
    )
    if account is not None:
        counted = counted.where(charges.c.billing_account == account)
    return {name: int(count) for name, count in conn.execute(counted)}


def lock_issuing(conn: Connection) -> int:
    """Wait until no one else issues; the books' generation, which stays until the end.

    SQLite's writing transaction is that lock already.
    """
    if not is_sqlite(conn):
        conn.execute(select(func.pg_advisory_xact_lock(ISSUING_LOCK)))
    return hold_generation(conn)


def issued_number(conn: Connection, account: str, period: int) -> str | None:
    """The number of the account's document of this period, None when there is none."""
    found = select(invoices.c.number).where(
        invoices.c.billing_account == account, invoices.c.period == period
    )
    return conn.execute(found).scalar_one_or_none()


def next_invoice_id(conn: Connection) -> int:
    """The id that the next invoice takes; only under ``lock_issuing``."""
    return int(conn.execute(select(func.coalesce(func.max(invoices.c.id), 0))).scalar_one()) + 1


def claim(conn: Connection, account: str, period: int, invoice_id: int) -> int:
    """Put every priced charge that the account owes on the invoice; how many."""
    matches = [charges.c[name] == _waiting.c[name] for name in _RUN]
    claimed = conn.execute(
        update(charges)
        .where(
            _waiting.c.billing_account == account,
            *matches,
            charges.c.billing_account == account,
            charges.c.price_id != NO_PRICE,
            *_owed(period),
        )
        .values(invoice_id=invoice_id)
    )
    return claimed.rowcount


def claimed_sums(conn: Connection, invoice_id: int, period: int) -> list[ChargeSum]:
    """What was claimed, summed by price, split into this period and earlier ones."""
    prior = case((charges.c.period < period, 1), else_=0)
    columns = [prices.c[name] for name in ("id", "sku", "meter", "unit", "list_e8", "unit_e8")]
    rows = conn.execute(
        select(*columns, prior, func.sum(charges.c.quantity_micro))
        .select_from(charges.join(prices, prices.c.id == charges.c.price_id))
        .where(charges.c.invoice_id == invoice_id)
        .group_by(*columns, prior)
    )
    return [
        ChargeSum(*row[:6], prior_period=bool(row[6]), quantity_micro=int(row[7])) for row in rows
    ]


def claimed_runs(conn: Connection, invoice_id: int) -> int:
    """How many runs the invoice's charges are of."""
    runs = (
        select(*(charges.c[name] for name in _RUN))
        .where(charges.c.invoice_id == invoice_id)
        .distinct()
        .subquery()
    )
    return int(conn.execute(select(func.count()).select_from(runs)).scalar_one())


def costliest_runs(conn: Connection, invoice_id: int, period: int, limit: int) -> list[AnnexRun]:
    """The costliest runs of the invoice with what each is billed, at most ``limit``."""
    key = [charges.c[name] for name in _RUN]
    top = (
        select(*key)
        .select_from(charges.join(prices, prices.c.id == charges.c.price_id))
        .where(charges.c.invoice_id == invoice_id)
        .group_by(*key)
        .order_by(func.sum(cost_rank(charges.c.quantity_micro, prices.c.unit_e8)).desc(), *key)
        .limit(limit)
        .subquery("top")
    )
    own = and_(*(charges.c[name] == top.c[name] for name in _RUN))
    run = and_(*(job_runs.c[name] == top.c[name] for name in _RUN))
    prior = case((charges.c.period < period, 1), else_=0)
    columns = (*top.c, job_runs.c.user, job_runs.c.account, job_runs.c.end)
    rows = conn.execute(
        select(*columns, charges.c.price_id, prior, func.sum(charges.c.quantity_micro))
        .select_from(top.join(charges, own).join(job_runs, run))
        .where(charges.c.invoice_id == invoice_id)
        .group_by(*columns, charges.c.price_id, prior)
    )
    billed: dict[tuple[str, int, int, str, str, int], dict[PriceKey, int]] = {}
    for row in rows:
        quantities = billed.setdefault(tuple(row[:6]), {})
        quantities[PriceKey(row[6], bool(row[7]))] = int(row[8])
    return [AnnexRun(*run_facts, quantities) for run_facts, quantities in sorted(billed.items())]


def take_number(conn: Connection, series: str, year: int, issue_date: str) -> int:
    """The next number of the series in this year, from 1; only under ``lock_issuing``.

    It is taken in the issuing transaction, so what is rolled back leaves no gap.
    Raises DateBackwards when the series has a document of a later date.
    """
    last_date = conn.execute(
        select(func.max(document_series.c.last_date)).where(document_series.c.series == series)
    ).scalar_one_or_none()
    if last_date and issue_date < last_date:
        raise DateBackwards(
            f"Today is {issue_date} by this computer's clock, but series {series} already has a"
            f" document of {last_date}: set the clock right, numbers and dates go forward together"
        )
    this = and_(document_series.c.series == series, document_series.c.year == year)
    taken: int | None = conn.execute(
        select(document_series.c.next_number).where(this)
    ).scalar_one_or_none()
    if taken is None:
        first = {"series": series, "year": year, "next_number": 2, "last_date": issue_date}
        conn.execute(insert(document_series).values(**first))
        return 1
    conn.execute(
        update(document_series).where(this).values(next_number=taken + 1, last_date=issue_date)
    )
    return taken


def store_invoice(conn: Connection, issued: Issued, bill: Bill) -> None:
    """Write the invoice and its lines; from here on the database refuses any change."""
    conn.execute(
        insert(invoices).values(
            **issued._asdict(),
            subtotal_minor=bill.subtotal_minor,
            tax_minor=bill.tax_minor,
            total_minor=bill.total_minor,
            status=ISSUED,
        )
    )
    conn.execute(insert(invoice_lines), [_line_values(issued.id, line) for line in bill.lines])


def _line_values(invoice_id: int, line: Line) -> Mapping[str, object]:
    return {
        "invoice_id": invoice_id,
        "line": line.line,
        "price_id": line.price_ids[-1],
        "prior_period": int(line.prior_period),
        "sku": line.sku,
        "unit": line.unit,
        "quantity_micro": line.quantity_micro,
        "list_e8": line.list_e8,
        "unit_e8": line.unit_e8,
        "list_minor": line.list_minor,
        "discount_minor": line.discount_minor,
        "net_minor": line.net_minor,
    }
