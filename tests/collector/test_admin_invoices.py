"""jobledger invoices: what finance types, and what it prints."""

import csv
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobledger_collector.admin.cli import main
from tests.collector.billing import Books, a_run, open_books

Run = Callable[..., int]


@pytest.fixture
def books(sqlite_url: str) -> Books:
    filled = open_books(sqlite_url)
    filled.ingest(a_run(1), a_run(2, account="acme"))
    return filled


@pytest.fixture
def run(books: Books, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The program on these books, with a seller in its environment."""
    monkeypatch.chdir(tmp_path)
    for key in ("NAME", "ADDRESS", "TAX_ID"):
        monkeypatch.setenv(f"JOBLEDGER_SELLER_{key}", "Example")
    return lambda *words: main(["--db", books.url, *words])


Out = pytest.CaptureFixture[str]


def test_issue_says_what_it_issued(run: Run, capsys: Out) -> None:
    assert run("invoices", "issue", "--period", "2026-10") == 0
    assert capsys.readouterr().out.splitlines() == [
        "issued  INV-2026-000001  acme  77.04 THB",
        "issued  INV-2026-000002  physics  16.00 THB",
        "2 documents issued for 2026-10",
    ]
    assert run("invoices", "issue", "--period", "2026-10") == 0
    assert capsys.readouterr().out == "0 documents issued for 2026-10\n"


def test_a_dry_run_issues_nothing(run: Run, capsys: Out) -> None:
    assert run("invoices", "issue", "--period", "2026-10", "--dry-run", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["account"], row["result"], row["number"]) for row in rows] == [
        ("acme", "would issue", None),
        ("physics", "would issue", None),
    ]
    assert run("invoices", "--json") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "words",
    [("invoices", "--json"), ("invoices", "list", "--json"), ("invoices", "--json", "list")],
)
def test_the_list_for_scripts(run: Run, capsys: Out, words: tuple[str, ...]) -> None:
    run("invoices", "issue", "--period", "2026-10")
    capsys.readouterr()
    assert run(*words) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shown = ("number", "account", "period", "subtotal", "tax", "total", "currency", "status")
    assert [tuple(row[key] for key in shown) for row in rows] == [
        ("INV-2026-000002", "physics", "2026-10", "16.00", "0.00", "16.00", "THB", "issued"),
        ("INV-2026-000001", "acme", "2026-10", "72.00", "5.04", "77.04", "THB", "issued"),
    ]


def test_the_list_for_people_and_by_account(run: Run, capsys: Out) -> None:
    run("invoices", "issue", "--period", "2026-10")
    capsys.readouterr()
    assert run("invoices", "--account", "acme") == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["NUMBER", "DATE", "ACCOUNT"]
    assert row.split()[0::2][:2] == ["INV-2026-000001", "acme"]


def test_show_prints_the_document_and_its_hash(run: Run, capsys: Out) -> None:
    run("invoices", "issue", "--period", "2026-10")
    capsys.readouterr()
    assert run("invoices", "show", "INV-2026-000001") == 0
    shown = capsys.readouterr().out
    assert "to Acme Co. Ltd. (acme), tier private" in shown
    assert "total 77.04 THB" in shown
    assert run("invoices", "show", "INV-2026-000001", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    canonical = json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() in shown


def test_csv_of_lines_and_of_jobs(run: Run, capsys: Out, tmp_path: Path) -> None:
    run("invoices", "issue", "--period", "2026-10")
    capsys.readouterr()
    assert run("invoices", "csv", "INV-2026-000002") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["sku"], row["net"]) for row in rows] == [("cpu-std", "8.00"), ("mem-std", "8.00")]
    out = tmp_path / "jobs.csv"
    assert run("invoices", "csv", "INV-2026-000002", "--jobs", "--out", str(out)) == 0
    assert [row["job_id"] for row in csv.DictReader(io.StringIO(out.read_text("utf-8")))] == ["1"]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_pdf_in_both_languages(run: Run, capsys: Out, tmp_path: Path) -> None:
    run("invoices", "issue", "--period", "2026-10")
    for language in ("en", "th"):
        assert run("invoices", "pdf", "INV-2026-000001", "--lang", language) == 0
        assert (tmp_path / f"INV-2026-000001-{language}.pdf").read_bytes()[:5] == b"%PDF-"
    assert "wrote INV-2026-000001-th.pdf" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("issue", "--period", "2026-13"), 2, "is not a month"),
        (("issue", "--period", "2999-01"), 1, "has not begun"),
        (("show", "INV-2026-000009"), 1, "There is no document"),
        (("pdf", "INV-2026-000009"), 1, "There is no document"),
        (("csv", "nonsense"), 1, "There is no document"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    run: Run, capsys: Out, words: tuple[str, ...], code: int, said: str
) -> None:
    assert run("invoices", *words) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert shown.err.count("\n") == 1


def test_without_a_seller_nothing_is_issued(
    run: Run, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("NAME", "ADDRESS", "TAX_ID"):
        monkeypatch.delenv(f"JOBLEDGER_SELLER_{key}")
    assert run("invoices", "issue", "--period", "2026-10") == 3
    assert "[seller]" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_leaves_none(run: Run, capsys: Out, tmp_path: Path) -> None:
    run("invoices", "issue", "--period", "2026-10")
    out = tmp_path / "no" / "such" / "lines.csv"
    assert run("invoices", "csv", "INV-2026-000001", "--out", str(out)) == 1
    assert "Cannot write" in capsys.readouterr().err
