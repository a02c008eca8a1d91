"""CSV: safe to open, the same bytes each time, and it adds up."""

import csv
import io
from collections.abc import Iterable
from decimal import Decimal

import pytest

from jobledger_collector.exports import (
    BILLED_HEADINGS,
    JOB_HEADINGS,
    LINE_HEADINGS,
    export_invoice_jobs,
    export_jobs,
    export_lines,
    harmless,
    local_time,
)
from jobledger_collector.store.usage_views import JobFilter
from tests.collector.billing import DECEMBER, NOVEMBER, Books, a_run, open_books

HOSTILE = '=HYPERLINK("http://evil","a"),\n"b'


@pytest.fixture
def books(database_url: str) -> Books:
    filled = open_books(database_url)
    filled.ingest(
        *(a_run(number) for number in range(1, 4)),
        a_run(4, user=HOSTILE, qos="-1", partition="@SUM(A1)"),
        a_run(5, user="สมชาย", account="acme"),
        a_run(6, end=0, start=0, state="PENDING"),
    )
    filled.issue()
    filled.ingest(a_run(1, end=a_run(1).end - 600, observed=NOVEMBER), a_run(7))
    filled.issue(202611, DECEMBER)
    return filled


def rows_of(pieces: Iterable[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(pieces), newline="")))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("alice", "alice"),
        ("", ""),
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\rx", "'\rx"),
        ("\nx", "'\nx"),
        ("  =1", "'  =1"),
        ("\ufeff=1", "'\ufeff=1"),
        ("\ufeff =1", "'\ufeff =1"),
        ("\x00\t=1", "'\x00\t=1"),
        ("\uff1d1", "'\uff1d1"),
        ("a=1", "a=1"),
        ("สมชาย", "สมชาย"),
    ],
)
def test_text_that_a_spreadsheet_would_run_is_made_harmless(text: str, written: str) -> None:
    assert harmless(text) == written


def test_jobs_are_quoted_by_the_rules_and_end_in_crlf(books: Books) -> None:
    with books.engine.connect() as conn:
        text = "".join(export_jobs(conn, JobFilter()))
    lines = text.split("\r\n")
    assert lines[0] == ",".join(JOB_HEADINGS)
    assert lines[-1] == ""
    assert '"\'=HYPERLINK(""http://evil"",""a""),\n""b"' in text
    assert len(rows_of([text])) == 7


def test_a_jobs_row(books: Books) -> None:
    with books.engine.connect() as conn:
        rows = {row["job_id"]: row for row in rows_of(export_jobs(conn, JobFilter()))}
    assert rows["5"] == {
        "cluster": "alpha",
        "job_id": "5",
        "submit": "2026-10-12T07:59:00+07:00",
        "start": "2026-10-12T08:00:00+07:00",
        "end": "2026-10-12T10:00:00+07:00",
        "period": "2026-10",
        "user": "สมชาย",
        "account": "acme",
        "billing_account": "acme",
        "partition": "main",
        "qos": "normal",
        "state": "COMPLETED",
        "elapsed_s": "7200",
        "cpu_s": "28800",
        "gpu_s": "0",
        "mem_mib_s": "58982400",
        "node_s": "7200",
        "list_cost": "72.00",
        "cost": "72.00",
        "currency": "THB",
        "revision": "1",
        "invoice": "INV-2026-000001",
        "flags": "",
    }
    assert (rows["6"]["start"], rows["6"]["end"], rows["6"]["cost"]) == ("", "", "0.00")


def test_the_same_selection_is_the_same_bytes(books: Books) -> None:
    with books.engine.connect() as conn:
        first = "".join(export_jobs(conn, JobFilter(period=202610)))
        second = "".join(export_jobs(conn, JobFilter(period=202610)))
        lines = ["".join(export_lines(conn, period=202611)) for _ in range(2)]
    assert first == second
    assert lines[0] == lines[1]


def test_lines_are_those_of_the_documents_and_credits_stay_numbers(books: Books) -> None:
    with books.engine.connect() as conn:
        rows = rows_of(export_lines(conn))
        of_one = rows_of(export_lines(conn, number="INV-2026-000001"))
        of_period = rows_of(export_lines(conn, period=202611))
    assert list(rows[0]) == list(LINE_HEADINGS)
    numbers = [(row["number"], row["line"]) for row in rows]
    assert numbers == sorted(numbers)
    assert {row["number"] for row in of_one} == {"INV-2026-000001"}
    assert [(row["sku"], row["quantity"], row["net"]) for row in of_period] == [
        ("cpu-std", "7.333333", "7.33"),
        ("mem-std", "14.666667", "7.33"),
    ]
    assert all(
        Decimal(row["list_amount"]) - Decimal(row["discount"]) == Decimal(row["net"])
        for row in rows
    )


def test_an_invoices_jobs_are_all_there_with_credits_as_numbers(books: Books) -> None:
    with books.engine.connect() as conn:
        rows = rows_of(export_invoice_jobs(conn, "INV-2026-000003"))
        nets = [Decimal(row["net"]) for row in rows_of(export_lines(conn, period=202611))]
    assert list(rows[0]) == list(BILLED_HEADINGS)
    costs = {row["job_id"]: Decimal(row["cost"]) for row in rows}
    assert costs == {"1": Decimal("-1.3333335"), "7": Decimal(16)}
    assert abs(sum(costs.values(), Decimal()) - sum(nets, Decimal())) <= Decimal("0.01")


def test_nothing_chosen_is_a_heading_alone(books: Books) -> None:
    with books.engine.connect() as conn:
        assert "".join(export_lines(conn, period=199901)) == ",".join(LINE_HEADINGS) + "\r\n"


@pytest.mark.parametrize(
    ("epoch_s", "written"),
    [
        (0, ""),
        (1_793_584_800, "2026-11-02T09:00:00+07:00"),
        (253_402_300_799, "9999-12-31T23:59:59+00:00"),
    ],
)
def test_an_instant_is_written_where_the_books_are_kept(epoch_s: int, written: str) -> None:
    assert local_time(epoch_s, "Asia/Bangkok") == written
