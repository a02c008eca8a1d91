"""jobledger jobs: one object a run for scripts, a table for people."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobledger_collector.admin.cli import main
from tests.collector.billing import Books, a_run, at, open_books

Run = Callable[..., list[str]]
SEPTEMBER = at("2026-09-03T08:00:00")


@pytest.fixture
def books(database_url: str) -> Books:
    filled = open_books(database_url)
    filled.ingest(
        a_run(1),
        a_run(2, account="acme", user="bob"),
        a_run(3, end=0, state="RUNNING"),
        a_run(4, start=0, state="CANCELLED", alloc_tres=()),
        a_run(5, submit=SEPTEMBER, start=SEPTEMBER, end=SEPTEMBER + 1, state="FAILED"),
        a_run(6, cluster="beta", alloc_tres=(("cpu", 1), ("gres/gpu", 1), ("gres/gpu:a100", 1))),
    )
    filled.issue(account="acme")
    return filled


@pytest.fixture
def run(books: Books, capsys: pytest.CaptureFixture[str]) -> Run:
    def printed(*words: str) -> list[str]:
        assert main(["--db", books.url, "jobs", *words]) == 0
        return capsys.readouterr().out.splitlines()

    return printed


def objects(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_json_has_every_run_with_exact_decimal_strings(run: Run) -> None:
    rows = {row["job_id_raw"]: row for row in objects(run("--json"))}
    assert list(rows) == [1, 2, 3, 4, 5, 6]
    assert rows[2] == {
        "cluster": "alpha",
        "job_id_raw": 2,
        "submit": at("2026-10-12T07:59:00"),
        "start": at("2026-10-12T08:00:00"),
        "end": at("2026-10-12T10:00:00"),
        "user": "bob",
        "account": "acme",
        "partition": "main",
        "qos": "normal",
        "state": "COMPLETED",
        "elapsed_s": 7200,
        "cpu_s": 28800,
        "gpu_s": 0,
        "mem_mib_s": 58982400,
        "node_s": 7200,
        "list_cost": "72.00",
        "cost": "72.00",
        "currency": "THB",
        "revision": 1,
        "invoice": "INV-2026-000001",
        "billing_account": "acme",
        "flags": [],
    }
    assert (rows[1]["invoice"], rows[1]["cost"], rows[1]["list_cost"]) == (None, "16.00", "72.00")
    assert rows[5]["cost"] == "0.002222"  # 0.001111 core-hours + 0.002222 GiB-hours at 0.5
    assert rows[6]["cost"] == "26.00"  # 2 core-hours, 2 GPU-hours of an A100 at 12


@pytest.mark.parametrize("job_id", [3, 4])
def test_a_run_without_usage_has_zeros_and_null_times(run: Run, job_id: int) -> None:
    (row,) = (row for row in objects(run("--json")) if row["job_id_raw"] == job_id)
    assert (row["elapsed_s"], row["cpu_s"], row["cost"]) == (0, 0, "0.00")
    assert row["end" if job_id == 3 else "start"] is None


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (("--period", "2026-09"), [5]),
        (("--cluster", "beta"), [6]),
        (("--account", "acme"), [2]),
        (("--billing-account", "acme"), [2]),
        (("--user", "bob"), [2]),
        (("--state", "running"), [3]),
        (("--user", "nobody"), []),
        (("--limit", "2"), [1, 2]),
    ],
)
def test_filters(run: Run, words: tuple[str, ...], chosen: list[int]) -> None:
    assert [row["job_id_raw"] for row in objects(run("--json", *words))] == chosen


def test_the_table_ends_with_what_it_comes_to(run: Run) -> None:
    lines = run("--limit", "3")
    assert lines[0].split()[:4] == ["CLUSTER", "JOB", "END", "USER"]
    assert "2026-10-12T10:00" in lines[1]
    assert lines[-1] == "6 runs, the first 3 shown (--limit, --json): 114.002222 THB"


def test_a_wrong_period_is_one_sentence(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--db", books.url, "jobs", "--period", "October"]) == 2
    assert "is not a month" in capsys.readouterr().err
