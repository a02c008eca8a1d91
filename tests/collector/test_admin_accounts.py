"""``jobledger accounts``: one document says who pays."""

import json
from pathlib import Path

import pytest

from jobledger_collector.admin.cli import main
from jobledger_collector.store.accounts import load_account_book
from jobledger_collector.store.cards import read_books
from jobledger_collector.store.engine import open_engine, reading
from tests.collector.billing import ACCOUNTS, MAHIDOL, a_run, open_books

Said = pytest.CaptureFixture[str]
EXAMPLE = Path(__file__).parents[2] / "packaging" / "accounts.example.yaml"


def a_file(tmp_path: Path, text: str) -> str:
    file = tmp_path / "accounts.yaml"
    file.write_text(text, "utf-8")
    return str(file)


def test_the_example_loads_once(tmp_path: Path, capsys: Said) -> None:
    url = f"sqlite:///{tmp_path / 'books.db'}"
    assert main(["--db", url, "accounts", "load", str(EXAMPLE)]) == 0
    assert "Loaded 3 billing accounts for 4 Slurm accounts." in capsys.readouterr().out
    with reading(open_engine(url)) as conn:
        generation = read_books(conn).generation
    assert main(["--db", url, "accounts", "load", str(EXAMPLE)]) == 0
    assert "nothing changed" in capsys.readouterr().out
    with reading(open_engine(url)) as conn:
        assert read_books(conn).generation == generation
    assert main(["--db", url, "rates", "load", str(MAHIDOL)]) == 0


def test_a_document_replaces_the_one_before(
    database_url: str, tmp_path: Path, capsys: Said
) -> None:
    books = open_books(database_url)
    books.ingest(a_run(1), a_run(2, account="acme"))
    only_acme = ACCOUNTS.replace(ACCOUNTS.splitlines(keepends=True)[2], "")
    assert main(["--db", database_url, "accounts", "load", a_file(tmp_path, only_acme)]) == 0
    # physics is no longer declared: its default tier is still mu, so nothing costs other
    assert "Priced 2 runs again: 1 changed (88.00 -> 88.00 THB)" in capsys.readouterr().out
    with reading(books.engine) as conn:
        book = load_account_book(conn)
    assert not book.accounts["physics"].declared
    assert book.accounts["physics"].name == "physics"
    assert book.payer("alpha", "physics").billing_account == "physics"
    assert book.accounts["acme"].declared


def test_accounts_are_listed_for_scripts_and_people(database_url: str, capsys: Said) -> None:
    open_books(database_url)
    main(["--db", database_url, "accounts", "list", "--json"])
    accounts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["id"], one["tier"], one["slurm"]) for one in accounts] == [
        ("acme", "private", ["acme"]), ("physics", "mu", ["physics"]),
    ]  # fmt: skip
    assert accounts[1]["name_th"] == "ภาควิชาฟิสิกส์"
    main(["--db", database_url, "accounts", "list"])
    assert "Department of Physics" in capsys.readouterr().out


def test_a_tier_that_the_card_lacks_is_refused_where_it_stands(
    database_url: str, tmp_path: Path, capsys: Said
) -> None:
    open_books(database_url)
    file = a_file(tmp_path, ACCOUNTS.replace("tier: private", "tier: privat"))
    assert main(["--db", database_url, "accounts", "load", file]) == 5
    assert 'line 4: accounts[2].tier: "privat" is not known here; did you mean "private"?' in (
        capsys.readouterr().err
    )
    main(["--db", database_url, "accounts", "list"])
    assert "private" in capsys.readouterr().out
