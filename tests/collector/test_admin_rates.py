"""``jobledger rates``: cards go into the books once, in order, and price what they cover."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from jobledger_collector.admin.cli import main
from jobledger_collector.store.engine import open_engine, reading
from jobledger_collector.store.schema import rate_cards
from tests.collector.billing import MAHIDOL, a_run, open_books

Said = pytest.CaptureFixture[str]
FIRST = MAHIDOL.read_text("utf-8")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'books.db'}"


def a_file(tmp_path: Path, *changes: tuple[str, str]) -> str:
    text = FIRST
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    file = tmp_path / f"card{abs(hash(changes))}.yaml"
    file.write_text(text, "utf-8")
    return str(file)


NEXT = (("version: 1", "version: 2"), ("2025-10-01T", "2026-10-01T"), ('mu: "1"', 'mu: "2"'))


def test_a_card_is_checked_without_a_database(capsys: Said) -> None:
    assert main(["rates", "check", str(MAHIDOL)]) == 0
    said = capsys.readouterr().out
    assert "valid: mahidol-hpc v1, 5 SKUs, 3 tiers, 0 overrides, in THB" in said
    assert "2025-10-01 00:00:00 (Asia/Bangkok)" in said


def test_a_card_is_loaded_once(url: str, capsys: Said) -> None:
    assert main(["--db", url, "rates", "load", str(MAHIDOL)]) == 0
    assert "Loaded mahidol-hpc v1" in capsys.readouterr().out
    assert main(["--db", url, "rates", "load", str(MAHIDOL)]) == 0
    assert "nothing changed" in capsys.readouterr().out
    with reading(open_engine(url)) as conn:
        assert [row.version for row in conn.execute(select(rate_cards))] == [1]


def test_loading_says_what_it_changed(database_url: str, tmp_path: Path, capsys: Said) -> None:
    open_books(database_url).ingest(a_run(1), a_run(2, account="acme"))
    assert main(["--db", database_url, "rates", "load", a_file(tmp_path, *NEXT)]) == 0
    said = capsys.readouterr().out
    assert "Loaded mahidol-hpc v2, in force from 2026-10-01 00:00:00" in said
    # run 1 at tier mu: 16 -> 24; run 2 at tier private: 72, but at version 2's rows
    assert "Priced 2 runs again: 2 changed (88.00 -> 96.00 THB)" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((('mu: "1"', 'mu: "2"'),), "never changes: give the new prices the next version (2)"),
        ((("version: 1", "version: 2"),), "takes effect at the same instant"),
        ((*NEXT, ("currency: THB", "currency: USD")), "are kept in THB and Asia/Bangkok"),
        ((*NEXT, ("timezone: Asia/Bangkok", "timezone: UTC")), "are kept in THB and Asia/Bangkok"),
        ((("version: 1", "version: 2"), ("2025-10-01T", "2024-10-01T")), "out of order"),
    ],
)
def test_a_card_that_contradicts_the_books_is_refused(
    url: str, tmp_path: Path, capsys: Said, changes: tuple[tuple[str, str], ...], said: str
) -> None:
    main(["--db", url, "rates", "load", str(MAHIDOL)])
    capsys.readouterr()
    assert main(["--db", url, "rates", "load", a_file(tmp_path, *changes)]) == 1
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert main(["--db", url, "rates", "list", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_versions_are_listed_for_scripts_and_people(url: str, tmp_path: Path, capsys: Said) -> None:
    for file in (str(MAHIDOL), a_file(tmp_path, *NEXT)):
        main(["--db", url, "rates", "load", file])
    capsys.readouterr()
    main(["--db", url, "rates", "list", "--json"])
    cards = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(card["card"], card["version"]) for card in cards] == [
        ("mahidol-hpc", 1), ("mahidol-hpc", 2),
    ]  # fmt: skip
    assert "document" not in cards[0]
    main(["--db", url, "rates", "list"])
    assert "2026-10-01 00:00:00" in capsys.readouterr().out


def test_a_version_is_shown_as_prices_and_as_it_was_loaded(
    url: str, tmp_path: Path, capsys: Said
) -> None:
    for file in (str(MAHIDOL), a_file(tmp_path, *NEXT)):
        main(["--db", url, "rates", "load", file])
    capsys.readouterr()
    main(["--db", url, "rates", "show", "mahidol-hpc"])
    newest = capsys.readouterr().out
    assert "mahidol-hpc v2" in newest
    main(["--db", url, "rates", "show", "mahidol-hpc", "--version", "1", "--document"])
    assert capsys.readouterr().out == FIRST
    assert main(["--db", url, "rates", "show", "mahidol-hpc", "--version", "9"]) == 1
    assert "no rate card mahidol-hpc v9" in capsys.readouterr().err


def test_agreements_are_shown(url: str, capsys: Said) -> None:
    main(["--db", url, "rates", "load", str(MAHIDOL.with_name("extended.yaml"))])
    main(["--db", url, "rates", "show", "extended"])
    said = capsys.readouterr().out
    for terms in ("price 0.5", "0.8 of the tier", "tier gov", "user alice", "qos=scavenger"):
        assert terms in said


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (None, 5, "Cannot read"),
        (b"\xff\xfe\x00", 5, "is not UTF-8 text"),
        (b"x" * (4 * 1024 * 1024 + 1), 5, "is larger than"),
        (b"", 5, "is empty"),
        (b"JobID|State\n1|COMPLETED\n", 5, "must be a mapping"),
        (FIRST.replace('"0.5"', "0.5").encode(), 5, 'write "0.5" with the quotes'),
        (FIRST.replace("currency: THB", "currency: XAU").encode(), 3, "ISO 4217"),
        (FIRST.replace("currency: THB", "currency: ABC").encode(), 3, "ISO 4217"),
    ],
)
def test_a_wrong_file_is_one_sentence_and_changes_nothing(
    url: str, tmp_path: Path, capsys: Said, content: bytes | None, code: int, said: str
) -> None:
    file = tmp_path / "wrong.yaml"
    if content is not None:
        file.write_bytes(content)
    for command in ("check", "load"):
        assert main(["--db", url, "rates", command, str(file)]) == code
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.count("\n") == 1
    assert not Path(url.removeprefix("sqlite:///")).exists()


@pytest.mark.parametrize(
    ("database", "code", "said"),
    [
        ("sqlite:////nowhere/at/all.db", 4, "There is no database /nowhere/at/all.db"),
        ("mysql://db/books", 4, "neither SQLite nor PostgreSQL"),
        ("nonsense", 4, "cannot be read"),
        ("postgresql://nobody@127.0.0.1:1/books", 4, "is not available"),
    ],
)
def test_a_wrong_database_is_one_sentence(
    capsys: Said, database: str, code: int, said: str
) -> None:
    assert main(["--db", database, "rates", "list"]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_without_a_database_it_says_how_to_name_one(
    capsys: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("JOBLEDGER_DB", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["rates", "list"]) == 2
    assert "--db URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    "group", ["rates", "accounts", "people", "agents", "quarantine", "explain", "jobs", "invoices"]
)
def test_every_group_has_help_with_examples(group: str, capsys: Said) -> None:
    with pytest.raises(SystemExit) as ended:
        main([group, "--help"])
    assert ended.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_the_program_has_help_and_a_version(capsys: Said) -> None:
    for option, said in (("--help", "exit codes:"), ("--version", "jobledger 0.")):
        with pytest.raises(SystemExit) as ended:
            main([option])
        assert ended.value.code == 0
        assert said in capsys.readouterr().out


def test_bad_usage_is_exit_code_2(capsys: Said) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rates"])
    assert ended.value.code == 2
    assert "ACTION" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error(url: str) -> None:
    main(["--db", url, "rates", "load", str(MAHIDOL.with_name("extended.yaml"))])
    program = f"{sys.executable} -m jobledger_collector.admin.cli --db {url}"
    show = f"{program} rates show extended --document"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{show} | true"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
