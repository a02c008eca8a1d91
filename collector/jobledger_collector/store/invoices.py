"""Reading documents as they were issued: for the web, the command line, the CSV.

What was issued is frozen: nothing here computes, and a document whose text does
not match its stored hash is refused, not shown.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import ColumnElement, Connection, Select, case, select

from jobledger_collector.core.document import Document, sha256_of
from jobledger_collector.core.errors import CollectorError
from jobledger_collector.store.schema import charges, invoice_lines, invoices, job_runs, prices
from jobledger_collector.store.usage_rows import STREAM_ROWS

INVOICES_MAX: Final = 10_000
"""Rows that a list of invoices holds, newest first."""


class DocumentDamaged(CollectorError):
    """A stored document is not what was issued: its hash does not match."""


class InvoiceRow(NamedTuple):
    """One issued document without its text. Money in minor units of ``currency``.

    ``period`` is yyyymm, ``issue_date`` an ISO date in the books' time zone,
    ``issued_at`` epoch seconds, ``status`` "issued".
    """

    id: int
    number: str
    billing_account: str
    period: int
    series: str
    year: int
    sequence: int
    issue_date: str
    issued_at: int
    issued_by: str
    currency: str
    subtotal_minor: int
    tax_minor: int
    total_minor: int
    status: str
    document_sha256: str


@dataclass(frozen=True, slots=True)
class Invoice:
    """One issued document: its row, and what was said."""

    row: InvoiceRow
    document: Document


class LineRow(NamedTuple):
    """One line of one issued document, for exports. Units as in ``Line``."""

    number: str
    billing_account: str
    period: int
    issue_date: str
    currency: str
    line: int
    prior_period: bool
    sku: str
    unit: str
    quantity_micro: int
    list_e8: int
    unit_e8: int
    list_minor: int
    discount_minor: int
    net_minor: int


class BilledRun(NamedTuple):
    """What one document bills of one run; times in epoch seconds.

    ``list_e14`` and ``cost_e14`` in 10^-14 of the currency's major unit;
    negative where the correction of an earlier invoice prevails.
    """

    cluster: str
    job_id: int
    submit: int
    user: str
    account: str
    partition: str
    qos: str
    state: str
    start: int
    end: int
    period: int
    list_e14: int
    cost_e14: int


_ROW: Final = tuple(invoices.c[name] for name in InvoiceRow._fields)
_RUN_FACTS: Final = tuple(job_runs.c[name] for name in BilledRun._fields[:10])


def list_invoices(
    conn: Connection,
    *,
    period: int | None = None,
    account: str | None = None,
    accounts: Iterable[str] | None = None,
) -> list[InvoiceRow]:
    """Issued documents, newest first; at most INVOICES_MAX.

    ``accounts`` are the billing accounts that the reader may see (None: all).
    """
    found = (
        select(*_ROW)
        .where(*_chosen(period, account))
        .order_by(invoices.c.issued_at.desc(), invoices.c.id.desc())
        .limit(INVOICES_MAX)
    )
    if accounts is not None:
        found = found.where(invoices.c.billing_account.in_(sorted(accounts)))
    return [InvoiceRow(*row) for row in conn.execute(found)]


def get_invoice(
    conn: Connection, number: str, *, accounts: Iterable[str] | None = None
) -> Invoice | None:
    """One document by its number; None when there is none that the reader may see.

    Raises DocumentDamaged when the stored text is not what was issued.
    """
    found = select(*_ROW, invoices.c.document).where(invoices.c.number == number)
    if accounts is not None:
        found = found.where(invoices.c.billing_account.in_(sorted(accounts)))
    row = conn.execute(found).one_or_none()
    if row is None:
        return None
    invoice = InvoiceRow(*row[:-1])
    return Invoice(invoice, _document(invoice, row[-1]))


def _document(invoice: InvoiceRow, text: str) -> Document:
    if sha256_of(text) != invoice.document_sha256:
        raise DocumentDamaged(
            f"The stored document of {invoice.number} is not what was issued (its SHA-256 differs):"
            " restore it from a backup of the database and find out who changed it"
        )
    return cast("Document", json.loads(text))


def iter_lines(
    conn: Connection,
    *,
    period: int | None = None,
    account: str | None = None,
    number: str | None = None,
) -> Iterator[LineRow]:
    """Lines of issued documents in order of series, year, number and line; streamed."""
    own = ("number", "billing_account", "period", "issue_date", "currency")
    columns = [
        *(invoices.c[name] for name in own),
        *(invoice_lines.c[name] for name in LineRow._fields[len(own) :]),
    ]
    found = (
        select(*columns)
        .select_from(invoice_lines.join(invoices, invoices.c.id == invoice_lines.c.invoice_id))
        .where(*_chosen(period, account, number))
        .order_by(invoices.c.series, invoices.c.year, invoices.c.sequence, invoice_lines.c.line)
    )
    for row in _streamed(conn, found):
        line = LineRow(*row)
        yield line._replace(prior_period=bool(line.prior_period))


def iter_billed_runs(conn: Connection, number: str) -> Iterator[BilledRun]:
    """Every run on one document with what it bills of it, by cluster, id, submit."""
    key = (charges.c.cluster, charges.c.job_id, charges.c.submit)
    runs = (
        (charges.c.cluster == job_runs.c.cluster)
        & (charges.c.job_id == job_runs.c.job_id)
        & (charges.c.submit == job_runs.c.submit)
    )
    figures = (charges.c.quantity_micro, prices.c.list_e8, prices.c.unit_e8)
    found = (
        select(*_RUN_FACTS, charges.c.period, *figures)
        .select_from(
            charges.join(invoices, invoices.c.id == charges.c.invoice_id)
            .join(prices, prices.c.id == charges.c.price_id)
            .join(job_runs, runs)
        )
        .where(invoices.c.number == number)
        .order_by(*key, charges.c.superseded_by, charges.c.kind, charges.c.item, charges.c.segment)
    )
    for _, rows in groupby(_streamed(conn, found), key=itemgetter(0, 1, 2)):
        yield _billed(list(rows))


def _billed(rows: list[tuple[Any, ...]]) -> BilledRun:
    period = max(row[10] for row in rows)
    list_e14 = sum(row[11] * row[12] for row in rows)
    cost_e14 = sum(row[11] * row[13] for row in rows)
    return BilledRun._make((*rows[0][:10], period, list_e14, cost_e14))


def lines_add_up(conn: Connection, number: str) -> bool:
    """Whether the charges on a document still come to the quantities of its lines."""
    prior = case((charges.c.period < invoices.c.period, 1), else_=0)
    figures = (prices.c.sku, prices.c.unit, prices.c.list_e8, prices.c.unit_e8, prior)
    found = (
        select(*figures, charges.c.quantity_micro)
        .select_from(
            charges.join(invoices, invoices.c.id == charges.c.invoice_id).join(
                prices, prices.c.id == charges.c.price_id
            )
        )
        .where(invoices.c.number == number)
    )
    charged: dict[tuple[Any, ...], int] = {}
    for *place, quantity_micro in _streamed(conn, found):
        charged[tuple(place)] = charged.get(tuple(place), 0) + quantity_micro
    printed = {
        (line.sku, line.unit, line.list_e8, line.unit_e8, int(line.prior_period)): (
            line.quantity_micro
        )
        for line in iter_lines(conn, number=number)
    }
    return {place: total for place, total in charged.items() if total} == printed


def _chosen(
    period: int | None, account: str | None, number: str | None = None
) -> list[ColumnElement[bool]]:
    wanted: Mapping[str, int | str | None] = {
        "period": period,
        "billing_account": account,
        "number": number,
    }
    return [invoices.c[name] == value for name, value in wanted.items() if value is not None]


def _streamed(conn: Connection, statement: Select[Any]) -> Iterator[tuple[Any, ...]]:
    rows = conn.execute(
        statement, execution_options={"stream_results": True, "yield_per": STREAM_ROWS}
    )
    return (tuple(row) for row in rows)
