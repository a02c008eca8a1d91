"""jobledger export: CSV to a file or to the screen."""

from pathlib import Path

import pytest

from jobledger_collector.admin.cli import main
from jobledger_collector.exports import JOB_HEADINGS, LINE_HEADINGS
from tests.collector.billing import Books, a_run, open_books


@pytest.fixture
def books(sqlite_url: str) -> Books:
    filled = open_books(sqlite_url)
    filled.ingest(a_run(1), a_run(2, account="acme", user="=cmd()"))
    filled.issue()
    return filled


@pytest.mark.parametrize(
    ("what", "headings", "rows"), [("jobs", JOB_HEADINGS, 2), ("lines", LINE_HEADINGS, 4)]
)
def test_a_file_is_what_the_screen_shows(
    books: Books,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    what: str,
    headings: tuple[str, ...],
    rows: int,
) -> None:
    out = tmp_path / "out.csv"
    assert main(["--db", books.url, "export", what, "--period", "2026-10"]) == 0
    shown = capsys.readouterr().out
    assert main(["--db", books.url, "export", what, "--period", "2026-10", "--out", str(out)]) == 0
    assert out.read_bytes() == shown.encode()
    lines = shown.split("\r\n")
    assert lines[0] == ",".join(headings)
    assert len(lines) == rows + 2


def test_filters_choose_jobs(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--db", books.url, "export", "jobs", "--account", "acme"]) == 0
    shown = capsys.readouterr().out
    assert "'=cmd()" in shown
    assert "physics" not in shown


def test_an_old_file_stays_when_the_new_one_cannot_be_written(
    books: Books, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--db", books.url, "export", "jobs", "--out", str(tmp_path)]) == 1
    assert "Cannot write" in capsys.readouterr().err
    assert list(tmp_path.glob(".*.part")) == []
