"""``jobledger quarantine``, ``explain`` and ``agents``: what operators look at."""

import json

import pytest

from jobledger_collector.admin.agents import duration
from jobledger_collector.admin.cli import main
from jobledger_collector.core.record import Quarantined
from jobledger_collector.core.reporter import Greeting, Health
from jobledger_collector.store import agents, quarantine
from jobledger_collector.store.engine import reading, transaction
from jobledger_collector.store.quarantined import iter_quarantine
from tests.collector.billing import NOVEMBER, Books, a_run, open_books

Said = pytest.CaptureFixture[str]
HOSTILE = b"9|\xff\xfe\x1b[2J|evil\n"


@pytest.fixture
def books(database_url: str) -> Books:
    """Books with three records in the quarantine, one of which came twice."""
    books = open_books(database_url)
    records = [
        Quarantined("alpha", "dump.txt:7", "It ended before it started.", b"7|COMPLETED", 11),
        Quarantined("beta", "dump.txt:8", "AllocTRES is empty.", HOSTILE, len(HOSTILE)),
        Quarantined("", "dump.txt:9", "Not a record.", "งาน".encode(), 9),
    ]
    with transaction(books.engine) as conn:
        quarantine.keep(conn, "agent-1", records, NOVEMBER)
        quarantine.keep(conn, "agent-1", records[:1], NOVEMBER + 60)
    return books


def said_json(capsys: Said, *arguments: str) -> list[dict[str, object]]:
    assert main(list(arguments)) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_each_record_is_one_object_a_line(books: Books, capsys: Said) -> None:
    rows = said_json(capsys, "--db", books.url, "quarantine", "--json")
    assert [(row["cluster"], row["reason"], row["times"]) for row in rows] == [
        ("alpha", "It ended before it started.", 2),
        ("beta", "AllocTRES is empty.", 1),
        ("", "Not a record.", 1),
    ]
    assert (rows[0]["first_seen"], rows[0]["last_seen"]) == (NOVEMBER, NOVEMBER + 60)
    assert rows[1]["raw"] == "9|\\xff\\xfe\x1b[2J|evil\n"
    assert rows[2]["raw"] == "งาน"
    assert rows == said_json(capsys, "--db", books.url, "quarantine", "list", "--json")


def test_one_cluster_and_no_more_than_asked(books: Books, capsys: Said) -> None:
    alpha = said_json(capsys, "--db", books.url, "quarantine", "--json", "--cluster", "alpha")
    assert [row["cluster"] for row in alpha] == ["alpha"]
    two = said_json(capsys, "--db", books.url, "quarantine", "--json", "--limit", "2")
    assert len(two) == 2


def test_a_hostile_record_moves_no_cursor(books: Books, capsys: Said) -> None:
    assert main(["--db", books.url, "quarantine", "--limit", "3"]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out
    assert "It ended before it started." in captured.out
    assert "The first 3" in captured.err


def test_pages_leave_no_record_out(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobledger_collector.store.quarantined.PAGE_ROWS", 2)
    with reading(books.engine) as conn:
        assert len(list(iter_quarantine(conn))) == 3
        assert len(list(iter_quarantine(conn, limit=3))) == 3
        assert not list(iter_quarantine(conn, limit=0))


def test_a_job_is_explained_by_its_id(books: Books, capsys: Said) -> None:
    first = a_run(7)
    again = a_run(7, submit=first.submit + 9000, start=first.start + 9000, end=first.end + 9000)
    books.ingest(first, again, a_run(8))
    assert main(["--db", books.url, "explain", "alpha/7"]) == 0
    said = capsys.readouterr().out
    assert said.count("alpha/7, submitted") == 2
    assert "4 × 7200 s = 28800 core-seconds ÷ 3600 = 8.000000 Core-Hours × 1 THB = 8 THB" in said
    assert "tier mu; not yet invoiced." in said
    books.issue()
    runs = said_json(capsys, "--db", books.url, "explain", f"alpha/7@{first.submit}", "--json")
    assert [(run["job_id"], run["submit"], run["cost"]) for run in runs] == [
        (7, first.submit, "16")
    ]
    charges = runs[0]["charges"]
    assert isinstance(charges, list)
    assert {charge["invoice"] for charge in charges} == {"INV-2026-000001"}


def test_a_changed_run_is_explained_with_its_past(books: Books, capsys: Said) -> None:
    run = a_run(7)
    books.ingest(run)
    books.issue()
    books.ingest(run._replace(end=run.end + 3600, observed=run.observed + 5000))
    assert main(["--db", books.url, "explain", "alpha/7"]) == 0
    said = capsys.readouterr().out
    assert "revision 2" in said
    assert "replaced by change 1; on invoice INV-2026-000001." in said
    assert "-28800 core-seconds" in said
    assert "reversal of an invoiced charge; not yet invoiced." in said


@pytest.mark.parametrize(
    ("job", "code", "said"),
    [
        ("alpha/99", 1, "know no run alpha/99"),
        ("alpha/7@1", 1, "know no run alpha/7@1"),
        ("alpha", 2, "write CLUSTER/JOBID"),
        ("alpha/7.batch", 2, "write CLUSTER/JOBID"),
        ("alpha/" + "9" * 30, 2, "write CLUSTER/JOBID"),
    ],
)
def test_what_cannot_be_explained_is_said(
    books: Books, capsys: Said, job: str, code: int, said: str
) -> None:
    assert main(["--db", books.url, "explain", job]) == code
    assert said in capsys.readouterr().err


def test_agents_with_their_lag(books: Books, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobledger_collector.admin.cli.now_s", lambda: NOVEMBER + 100)
    with transaction(books.engine) as conn:
        for name in ("head1", "head2"):
            agents.greet(conn, Greeting(name, "0.1.0", ("alpha",), 5), NOVEMBER)
        health = Health(12, NOVEMBER - 30, 5, "")
        agents.note_health(conn, "head1", health, NOVEMBER + 90)
    rows = said_json(capsys, "--db", books.url, "agents", "--json")
    assert [(row["name"], row["lag_s"]) for row in rows] == [("head1", 130), ("head2", None)]
    assert main(["--db", books.url, "agents"]) == 0
    said = capsys.readouterr().out
    assert "2 min 10 s" in said
    assert "?" in said


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0, "0 s"), (59, "59 s"), (3_600, "1 h"), (90_061, "1 d 1 h"), (61, "1 min 1 s")],
)
def test_durations_are_short(seconds: int | None, text: str) -> None:
    assert duration(seconds) == text
