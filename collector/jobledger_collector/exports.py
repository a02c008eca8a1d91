"""CSV for spreadsheets and finance systems: RFC 4180, UTF-8, CRLF, streamed.

The same selection of the same books gives the same bytes: the order is fixed
and nothing says when it was written. Text that a spreadsheet would run as a
formula is made harmless; numbers stay numbers.
"""

import csv
import datetime as dt
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from jobledger_collector.core.charge import MICRO
from jobledger_collector.core.money import (
    QUANTITY_PLACES,
    format_cost,
    format_decimal,
    format_minor,
    format_price,
)
from jobledger_collector.core.periods import format_period, zone
from jobledger_collector.currency import exponent_of, shown_places
from jobledger_collector.store.cards import read_books
from jobledger_collector.store.handles import Connection
from jobledger_collector.store.invoices import BilledRun, LineRow, iter_billed_runs, iter_lines
from jobledger_collector.store.usage_views import JobFilter, JobRow, iter_jobs

JOB_HEADINGS: Final = (
    "cluster", "job_id", "submit", "start", "end", "period", "user", "account",
    "billing_account", "partition", "qos", "state", "elapsed_s", "cpu_s", "gpu_s", "mem_mib_s",
    "node_s", "list_cost", "cost", "currency", "revision", "invoice", "flags",
)  # fmt: skip
"""Columns of the jobs' CSV. Times are ISO 8601 with the books' offset; costs exact."""

LINE_HEADINGS: Final = (
    "number", "issue_date", "period", "billing_account", "line", "prior_period", "sku", "unit",
    "quantity", "list_price", "unit_price", "list_amount", "discount", "net", "currency",
)  # fmt: skip
"""Columns of the invoice lines' CSV; amounts as printed."""

BILLED_HEADINGS: Final = (
    "invoice", "cluster", "job_id", "submit", "start", "end", "period", "user", "account",
    "partition", "qos", "state", "list_cost", "cost", "currency",
)  # fmt: skip
"""Columns of one invoice's jobs; costs exact, before the lines were rounded."""

FORMULA: Final = re.compile(
    r"[\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]"
)
"""What a spreadsheet takes for a formula: full-width forms too, and behind what it drops."""

CHUNK_ROWS: Final = 500
"""Rows that one piece of CSV text holds."""

Cell = str | int


def export_jobs(conn: Connection, wanted: JobFilter) -> Iterator[str]:
    """CSV of runs with their costs, in pieces of text; ordered by (cluster, id, submit)."""
    timezone = read_books(conn).timezone
    return _csv(JOB_HEADINGS, (_job_cells(job, timezone) for job in iter_jobs(conn, wanted)))


def export_lines(
    conn: Connection,
    *,
    period: int | None = None,
    account: str | None = None,
    number: str | None = None,
) -> Iterator[str]:
    """CSV of the lines of issued documents, in pieces of text; by number and line."""
    lines = iter_lines(conn, period=period, account=account, number=number)
    return _csv(LINE_HEADINGS, (_line_cells(line) for line in lines))


def export_invoice_jobs(conn: Connection, number: str) -> Iterator[str]:
    """CSV of every run on one document with what it bills of it, in pieces of text."""
    kept = read_books(conn)
    runs = iter_billed_runs(conn, number)
    return _csv(
        BILLED_HEADINGS,
        (_billed_cells(run, number, kept.currency, kept.timezone) for run in runs),
    )


def harmless(text: str) -> str:
    """Text that no spreadsheet runs: what looks like a formula gets a leading quote.

    Leading spaces and control characters do not hide it: spreadsheets drop them.
    """
    hidden = text[:1] in {"\t", "\r", "\n"}
    return f"'{text}" if hidden or FORMULA.match(text) else text


def _csv(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(headings)
    for count, row in enumerate(rows, 1):
        writer.writerow(row)
        if count % CHUNK_ROWS == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _job_cells(job: JobRow, timezone: str) -> tuple[Cell, ...]:
    places = shown_places(job.currency)
    return (
        harmless(job.cluster),
        job.job_id,
        *(local_time(when, timezone) for when in (job.submit, job.start, job.end)),
        format_period(job.period),
        *map(harmless, (job.user, job.account, job.billing_account)),
        *map(harmless, (job.partition, job.qos, job.state)),
        *(job.elapsed_s, job.cpu_s, job.gpu_s, job.mem_mib_s, job.node_s),
        format_cost(job.list_e14, places),
        format_cost(job.cost_e14, places),
        job.currency,
        job.revision,
        job.invoice or "",
        harmless(job.flags),
    )


def _line_cells(line: LineRow) -> tuple[Cell, ...]:
    exponent = exponent_of(line.currency)
    return (
        line.number,
        line.issue_date,
        format_period(line.period),
        harmless(line.billing_account),
        line.line,
        "yes" if line.prior_period else "no",
        harmless(line.sku),
        harmless(line.unit),
        format_decimal(line.quantity_micro, MICRO, QUANTITY_PLACES),
        format_price(line.list_e8, exponent),
        format_price(line.unit_e8, exponent),
        *(
            format_minor(minor, exponent)
            for minor in (line.list_minor, line.discount_minor, line.net_minor)
        ),
        line.currency,
    )


def _billed_cells(run: BilledRun, number: str, currency: str, timezone: str) -> tuple[Cell, ...]:
    places = shown_places(currency)
    return (
        number,
        harmless(run.cluster),
        run.job_id,
        *(local_time(when, timezone) for when in (run.submit, run.start, run.end)),
        format_period(run.period),
        *map(harmless, (run.user, run.account, run.partition, run.qos, run.state)),
        format_cost(run.list_e14, places),
        format_cost(run.cost_e14, places),
        currency,
    )


def local_time(epoch_s: int, timezone: str) -> str:
    """An instant as ISO 8601 with the zone's offset; empty for 0 (unknown)."""
    if epoch_s <= 0:
        return ""
    try:
        return dt.datetime.fromtimestamp(epoch_s, zone(timezone)).isoformat()
    except (OverflowError, ValueError):  # the last hours of 9999 are 10000 east of Greenwich
        return dt.datetime.fromtimestamp(epoch_s, dt.UTC).isoformat()
