"""From a job's end to the collector's acknowledgement: soon with a kick, soon enough without.

Two agents watch one Slurm with the same long poll interval; slurmctld's epilog
touches the file of the first.
"""

import sqlite3
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.slurm import truth
from tests.slurm.lab import Lab, folder_for_daemons
from tests.slurm.river import River
from tests.slurm.workload import submit

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

REPOSITORY = Path(__file__).parents[2]
KICK = REPOSITORY / "packaging" / "epilog" / "jobledger-kick"
INSTALLED_FILE = "/run/jobledger-agent/kick"
POLL_INTERVAL_S = 10
JOBS = 24
KICKED_MEDIAN_MAX_S = 5
ROUNDED_S = 1
"""Slurm's seconds are whole: a wait looks up to one second longer than it was."""
UNKICKED_MAX_S = POLL_INTERVAL_S + 5 + ROUNDED_S
LOOK_S = 0.05

Key = tuple[int, int]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with folder_for_daemons() as home:
        yield home


@pytest.fixture(scope="module")
def kick(home: Path) -> Path:
    """The file that the epilog touches."""
    file = home / "kick"
    file.touch()
    file.chmod(0o666)
    return file


@pytest.fixture(scope="module")
def lab(home: Path, kick: Path) -> Iterator[Lab]:
    """A Slurm whose controller runs the epilog that is shipped; it learns of it as it starts."""
    epilog = home / "jobledger-kick"
    epilog.write_text(KICK.read_text().replace(INSTALLED_FILE, str(kick)))
    epilog.chmod(0o755)
    slurm = Lab(home, controller_lines=f"EpilogSlurmctld={epilog}\n")
    try:
        slurm.up()
        yield slurm
    finally:
        slurm.down()


@pytest.fixture(scope="module")
def rivers(
    lab: Lab, kick: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[River, River]]:
    folders = [tmp_path_factory.mktemp(name) for name in ("kicked", "unkicked")]
    kicked, unkicked = (
        River(f"sqlite:///{folder}/books.db", port, lab, folder,
              poll_interval_s=POLL_INTERVAL_S, kick=file)
        for folder, port, file in zip(folders, free_ports(2), (str(kick), ""), strict=True)
    )  # fmt: skip
    try:
        kicked.open()
        unkicked.open()
        yield kicked, unkicked
    finally:
        kicked.close()
        unkicked.close()


def ended_in(river: River) -> set[Key]:
    """Runs that have ended in a river's books."""
    path = river.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as books:
        rows = books.execute('SELECT job_id, submit FROM job_runs WHERE "end" > 0')
        return {(int(job), int(submit)) for job, submit in rows}


def watch(rivers: tuple[River, River], lab: Lab, jobs: int) -> list[dict[Key, float]]:
    """Submit jobs a few at a time; when each end was first in each river's books."""
    seen: list[dict[Key, float]] = [{}, {}]
    submitted = 0
    deadline = time.monotonic() + 150
    while min(map(len, seen)) < jobs:
        assert time.monotonic() < deadline, "\n".join(river.log() for river in rivers)
        if submitted < jobs and len(seen[0]) >= submitted - 4:
            script = f"sleep {1 + submitted % 3}"
            submit(lab, lab.job_users[submitted % len(lab.job_users)], script=script)
            submitted += 1
        for river, found in zip(rivers, seen, strict=True):
            river.must_run()
            now = time.time()
            for key in ended_in(river):
                found.setdefault(key, now)
        time.sleep(LOOK_S)
    return seen


def test_a_kick_brings_a_job_to_the_collector_in_seconds(
    lab: Lab, rivers: tuple[River, River], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = watch(rivers, lab, JOBS)
    ends = {row.key: row.end for row in truth.rows(lab) if row.end}
    assert len(ends) == JOBS
    kicked, unkicked = (sorted(found[key] - ends[key] for key in ends) for found in seen)
    with capsys.disabled():
        for name, waits in (("with", kicked), ("without", unkicked)):
            sys.stdout.write(
                f"\n{name} a kick, poll {POLL_INTERVAL_S} s: median"
                f" {statistics.median(waits):.1f} s, longest {waits[-1]:.1f} s"
            )
    assert statistics.median(kicked) < KICKED_MEDIAN_MAX_S, kicked
    assert kicked[-1] < UNKICKED_MAX_S, kicked
    assert unkicked[-1] < UNKICKED_MAX_S, unkicked
    for river in rivers:
        assert ended_in(river) == set(ends)
