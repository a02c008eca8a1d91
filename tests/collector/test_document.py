"""The document: one shape, one text, and figures that add up as they are printed."""

import json
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints, is_typeddict

import pytest

from jobledger_collector.core.document import (
    Document,
    canonical_json,
    number_text,
    sha256_of,
)
from jobledger_collector.core.drafting import is_over
from jobledger_collector.store.engine import transaction
from jobledger_collector.store.invoices import DocumentDamaged, get_invoice, list_invoices
from tests.collector.billing import DECEMBER, NOVEMBER, a_run, at, open_books

EXAMPLE: Final = Path(__file__).parents[1] / "data" / "document-example.json"


@pytest.fixture
def issued(sqlite_url: str) -> Document:
    """A document with current and prior lines, and a hostile name on it."""
    books = open_books(sqlite_url)
    books.ingest(a_run(1))
    books.issue()
    start = at("2026-11-05T08:00:00")
    books.ingest(
        a_run(1, end=a_run(1).end + 1, observed=NOVEMBER),
        a_run(2, user="<b>=1+1</b>\u202e", submit=start, start=start, end=start + 5000),
    )
    books.issue(202611, DECEMBER)
    with books.engine.connect() as conn:
        invoice = get_invoice(conn, "INV-2026-000002")
    assert invoice is not None
    return invoice.document


def test_the_example_and_an_issued_document_have_the_declared_shape(issued: Document) -> None:
    for document in (json.loads(EXAMPLE.read_text("utf-8")), issued):
        assert problems(document, Document, "document") == []


def problems(value: Any, shape: Any, where: str) -> list[str]:  # noqa: ANN401 - JSON, types
    """Where a JSON value departs from a TypedDict, list or plain type."""
    if is_typeddict(shape):
        hints = get_type_hints(shape)
        if not isinstance(value, dict) or value.keys() != hints.keys():
            return [f"{where}: keys differ"]
        return [
            problem
            for key, hint in hints.items()
            for problem in problems(value[key], hint, f"{where}.{key}")
        ]
    arguments = get_args(shape)
    if isinstance(value, list):
        return [
            problem
            for index, item in enumerate(value)
            for problem in problems(item, arguments[0], f"{where}[{index}]")
        ]
    if arguments:
        return [] if value in arguments else [f"{where}: {value!r} is none of {arguments}"]
    return [] if type(value) is shape else [f"{where}: {value!r} is no {shape}"]


@pytest.mark.parametrize("source", ["example", "issued"])
def test_what_is_printed_adds_up(source: str, issued: Document) -> None:
    document = json.loads(EXAMPLE.read_text("utf-8")) if source == "example" else issued

    def minor(amount: str) -> int:
        whole, _, fraction = amount.partition(".")
        assert len(fraction) == document["exponent"]
        return int(whole + fraction)

    lines, totals = document["lines"], document["totals"]
    assert all(
        minor(line["list_amount"]) - minor(line["discount"]) == minor(line["net"]) for line in lines
    )
    assert sum(minor(line["net"]) for line in lines) == minor(totals["subtotal"])
    assert minor(totals["list_amount"]) - minor(totals["discount"]) == minor(totals["subtotal"])
    assert minor(totals["subtotal"]) + minor(totals["tax"]) == minor(totals["total"])
    assert document["tax"]["amount"] == totals["tax"]
    annex = document["annex"]
    listed = sum(minor(job["cost"]) for job in annex["jobs"])
    assert listed + minor(annex["others_cost"]) == minor(totals["subtotal"])
    assert annex["jobs_total"] == len(annex["jobs"]) + annex["others_jobs"]


def test_the_text_is_canonical_and_keeps_every_letter(issued: Document) -> None:
    text = canonical_json(issued)
    shuffled = json.loads(json.dumps(issued, sort_keys=False))
    assert canonical_json(dict(reversed(shuffled.items()))) == text  # type: ignore[arg-type]
    assert "เวลาใช้งานแกนประมวลผล" in text
    assert json.loads(text) == issued


def test_a_document_that_was_changed_is_refused_and_not_shown(sqlite_url: str) -> None:
    books = open_books(sqlite_url)
    books.ingest(a_run(1))
    books.issue()
    with transaction(books.engine) as conn:
        conn.exec_driver_sql("DROP TRIGGER invoices_frozen")
        conn.exec_driver_sql("UPDATE invoices SET document = replace(document, '16.00', '61.00')")
    with books.engine.connect() as conn:
        assert len(list_invoices(conn)) == 1
        with pytest.raises(DocumentDamaged, match="not what was issued"):
            get_invoice(conn, "INV-2026-000001")


def test_a_reader_gets_only_documents_of_own_accounts(sqlite_url: str) -> None:
    books = open_books(sqlite_url)
    books.ingest(a_run(1), a_run(2, account="acme"))
    books.issue()
    with books.engine.connect() as conn:
        assert [row.billing_account for row in list_invoices(conn, accounts=["acme"])] == ["acme"]
        assert list_invoices(conn, accounts=[]) == []
        assert get_invoice(conn, "INV-2026-000002", accounts=["acme"]) is None
        assert get_invoice(conn, "INV-2026-000001", accounts=["acme"]) is not None


@pytest.mark.parametrize(
    ("series", "year", "sequence", "number"),
    [
        ("INV", 2026, 1, "INV-2026-000001"),
        ("INV", 2026, 999_999, "INV-2026-999999"),
        ("INV", 2026, 1_000_000, "INV-2026-1000000"),
    ],
)
def test_a_number(series: str, year: int, sequence: int, number: str) -> None:
    assert number_text(series, year, sequence) == number


@pytest.mark.parametrize(
    ("moment", "over"),
    [("2026-10-31T23:59:59", False), ("2026-11-01T00:00:00", True)],
)
def test_a_period_ends_at_midnight_where_the_books_are_kept(moment: str, over: bool) -> None:
    assert is_over(202610, "Asia/Bangkok", at(moment)) is over


def test_the_hash_is_of_the_text() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_of("") == empty
