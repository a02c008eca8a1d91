"""backfill, verify and replay on a real Slurm, beside an agent that runs and without it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.slurm import truth
from tests.slurm.conf import CLUSTER
from tests.slurm.lab import Lab, a_lab
from tests.slurm.river import River
from tests.slurm.workload import submit

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

JOBS = 8
SINCE_S = 2 * 86_400
PURGED = "DELETE FROM job_runs WHERE job_id IN (SELECT job_id FROM job_runs LIMIT 3)"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with a_lab() as slurm:
        for number in range(JOBS):
            submit(slurm, slurm.job_users[number % 2], script="true")
        deadline = time.monotonic() + 60
        while sum(row.end > 0 for row in truth.rows(slurm)) < JOBS:
            assert time.monotonic() < deadline
            time.sleep(0.3)
        time.sleep(2)  # an end of this very second is in no span yet
        yield slurm


@pytest.fixture
def river(lab: Lab, tmp_path: Path) -> Iterator[River]:
    """A collector with empty books, and the settings of an agent that does not run yet."""
    river = River(f"sqlite:///{tmp_path}/books.db", free_ports(1)[0], lab, tmp_path)
    try:
        river.command("jobledger_collector.cli", "migrate", "--db", river.url)
        river.start_collector()
        yield river
    finally:
        river.close()


def agent(river: River, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobledger_agent.cli", *arguments]
    settings = ("--config", str(river.folder / "agent.toml"))
    return subprocess.run(
        [*command, *settings], capture_output=True, text=True, timeout=90, check=False
    )


def books(river: River, sql: str) -> list[tuple[int, ...]]:
    path = river.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=20)) as database, database:
        return database.execute(sql).fetchall()


def stored(river: River) -> int:
    return books(river, "SELECT count(*) FROM job_runs")[0][0]


def since() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() - SINCE_S))


def test_backfill_verify_and_replay(river: River) -> None:
    empty = agent(river, "verify", "--since", since(), "--json")
    assert empty.returncode == 1, empty.stderr
    days = [json.loads(line) for line in empty.stdout.splitlines()]
    assert sum(day["missing"] for day in days) == JOBS
    filled = agent(river, "backfill", "--since", since(), "--cluster", CLUSTER, "--json")
    assert filled.returncode == 0, filled.stderr
    assert json.loads(filled.stdout)["verdicts"] == {"new": JOBS}
    assert "3 of 3 days" in filled.stderr
    assert stored(river) == JOBS
    assert not list(river.folder.glob("spool.db*"))  # neither the agent's nor its own is left
    equal = agent(river, "verify", "--since", since())
    assert equal.returncode == 0, equal.stdout + equal.stderr
    assert equal.stdout.count("equal") == 3
    books(river, PURGED)
    differs = agent(river, "verify", "--since", since())
    assert differs.returncode == 1
    assert "DIFFERS" in differs.stdout
    again = agent(river, "replay", "--since", since(), "--json")
    assert json.loads(again.stdout)["verdicts"] == {"new": 3, "known": JOBS - 3}
    assert agent(river, "verify", "--since", since()).returncode == 0


def test_they_work_beside_an_agent_that_runs(river: River) -> None:
    river.start_agent()
    deadline = time.monotonic() + 40
    while stored(river) < JOBS:
        assert time.monotonic() < deadline, river.log()
        time.sleep(0.2)
    books(river, PURGED)
    said = agent(river, "backfill", "--since", since(), "--json")
    assert json.loads(said.stdout)["verdicts"] == {"new": 3, "known": JOBS - 3}, said.stderr
    equal = agent(river, "verify", "--since", since())
    assert equal.returncode == 0, equal.stdout + equal.stderr
    held = agent(river, "replay", "--held", "--json")
    assert json.loads(held.stdout) == {"released": 0}
    river.must_run()


def position_in(spool: Path) -> str:
    """How far a backfill came; "" before it stored anything."""
    if not spool.exists():
        return ""
    with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as database:
        try:
            row = database.execute("SELECT position FROM positions").fetchone()
        except sqlite3.OperationalError:
            return ""  # its tables are being made
    return str(row[0]) if row else ""


def test_a_killed_backfill_goes_on(river: River) -> None:
    """Years of empty days and a few of jobs: killed again and again, it comes to the end once."""
    days = 180
    long_ago = time.strftime("%Y-%m-%d", time.gmtime(time.time() - days * 86_400))
    command = [sys.executable, "-m", "jobledger_agent.cli", "backfill", "--since", long_ago,
               "--config", str(river.folder / "agent.toml")]  # fmt: skip
    spool, position = river.folder / "spool.db.backfill", ""
    for _ in range(3):
        with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as killed:
            deadline = time.monotonic() + 20
            while (reached := position_in(spool)) == position:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            os.killpg(killed.pid, signal.SIGKILL)
        position = position_in(spool) or reached
    before = json.loads(position)["reached"][CLUSTER]
    assert time.time() - days * 86_400 < before < time.time()
    done = agent(river, "backfill", "--since", long_ago, "--json")
    assert done.returncode == 0, done.stderr
    assert stored(river) == JOBS
    assert agent(river, "verify", "--since", since()).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("backfill",), 2, "--since is missing"),
        (("verify", "--since", "2099-01-01"), 2, "must be earlier"),
        (("verify", "--day", "2026-01-01", "--since", "2026-01-01"), 2, "give --day, or"),
        (("replay", "--held", "--since", "2026-01-01"), 2, "give --held, or"),
        (("verify", "--day", "soon"), 2, "is no time"),
        (("verify", "--day", "2026-01-01", "--cluster", "beta"), 3, "reads cluster beta"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    river: River, arguments: tuple[str, ...], code: int, told: str
) -> None:
    said = agent(river, *arguments)
    assert said.returncode == code
    assert told in said.stderr
    assert "Traceback" not in said.stderr
