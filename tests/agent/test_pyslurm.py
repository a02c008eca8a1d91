"""pyslurm as a fast look: what it says is what sacct says, twice at most, never a proof.

Its child runs in a Python of its own, here one whose pyslurm tells what a real
one (25.11.2, on a real Slurm) was recorded telling.
"""

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from jobledger_agent.parsing.jsondump import Unfit
from jobledger_agent.parsing.rows import Origin
from jobledger_agent.records.job import UNKNOWN, SlurmJob, Unreadable
from jobledger_agent.settings.config import ConfigError, parse
from jobledger_agent.settings.sections import AgentConfig, PyslurmSection
from jobledger_agent.slurm.pyslurm import FIRST_LOOK_S, OVERLAP_S, PyslurmSource, probe
from jobledger_agent.slurm.pyslurm_jobs import job_of
from jobledger_agent.slurm.turn import alone
from jobledger_agent.source import Block, SourceError
from jobledger_agent.sources.feeds import feeds
from jobledger_agent.sources.files import FileSource
from tests.agent.dumps import DATA, read

RECORDED: Final = DATA / "slurm-25.11" / "pyslurm" / "pyslurm-jobs-to_dict.json.gz"
NOW: Final = 1_795_203_000
ORIGIN: Final = Origin("alpha", {}, UTC, NOW)
STAND_IN: Final = """
import gzip, json, os
__version__ = "25.11.2"
class Told:
    def __init__(self, told): self.told = told
    def to_dict(self): return self.told
class Job:
    allocated_tres = requested_tres = None
    def __init__(self, told):
        for name, value in told.items():
            setattr(self, name, Told(value) if name.endswith("_tres") else value)
class JobFilter:
    def __init__(self, start_time, end_time, clusters):
        self.begin, self.end, self.clusters = start_time, end_time, clusters
class Jobs:
    @staticmethod
    def load(wanted):
        told = json.loads(gzip.open(RECORDED).read())
        told = [job for job in told if job["cluster"] in wanted.clusters]
        told = [job for job in told if job["eligible_time"] < wanted.end]
        told = [job for job in told if (job["end_time"] or wanted.end) >= wanted.begin]
        return {number: Job(job) for number, job in enumerate(told)}
class db:
    pass
db.Job, db.JobFilter, db.Jobs = Job, JobFilter, Jobs
"""
NO_TRES: Final = STAND_IN.replace("allocated_tres = requested_tres = None", "pass")


@cache
def recorded() -> Sequence[dict[str, Any]]:
    told: Sequence[dict[str, Any]] = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return told


@cache
def by_sacct() -> dict[tuple[int, int], SlurmJob]:
    jobs = read(FileSource(DATA / "slurm-25.11" / "allfields-D-epoch.txt")).jobs
    return {(job.job_id, job.submit): job for job in jobs if job.cluster == "alpha"}


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of its own, whose pyslurm each test writes."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


def python(venv: Path, pyslurm: str | None = STAND_IN, recording: Path = RECORDED) -> Path:
    (library,) = (venv / "lib").glob("python*/site-packages")
    module = library / "pyslurm.py"
    module.unlink(missing_ok=True)
    if pyslurm is not None:
        module.write_text(f"RECORDED = {str(recording)!r}\n{pyslurm}")
    return venv / "bin" / "python"


def section(venv_python: Path, timeout_s: int = 30, cluster: str = "alpha") -> PyslurmSection:
    return PyslurmSection(clusters=(cluster,), python=venv_python, timeout_s=timeout_s)


def jobs_in(blocks: Sequence[Block]) -> list[SlurmJob]:
    return [job for block in blocks for job in block.readings if isinstance(job, SlurmJob)]


# ------------------------------------------------------------------ the border

UNTOLD: Final = {"alloc_cpus": UNKNOWN, "cancelled_by_uid": UNKNOWN, "total_cpu_ms": UNKNOWN,
                 "max_rss_bytes": UNKNOWN, "steps": 0}  # fmt: skip


def test_a_run_has_the_same_content_as_by_sacct() -> None:
    compared = 0
    for told in recorded():
        job = job_of(told, ORIGIN)
        sacct = by_sacct()[job.job_id, job.submit]
        if not sacct.end:
            continue
        compared += 1
        assert {name: getattr(job, name) for name in UNTOLD} == UNTOLD
        differs = {
            name
            for name, mine, other in zip(SlurmJob._fields, job, sacct, strict=True)
            if mine != other and name not in UNTOLD and name != "observed"
        }
        # A signal is told as one; a user who is gone, by number (and is left out by the source).
        assert differs <= {14: {"exit_code"}, 177: {"user"}}.get(job.job_id, set()), job
    assert compared > 270


def test_runs_of_requeued_and_resized_jobs_are_not_told() -> None:
    """The reason why another source must read the same clusters."""
    told = {(job.job_id, job.submit) for job in (job_of(each, ORIGIN) for each in recorded())}
    hidden = [job for key, job in by_sacct().items() if key not in told and job.start]
    assert {job.state for job in hidden} >= {"REQUEUED", "RESIZING", "NODE_FAIL", "PREEMPTED"}


@pytest.mark.parametrize(
    "told",
    [
        None, [], {}, {**recorded()[0], "allocated_tres": None}, {**recorded()[0], "id": "1"},
        {**recorded()[0], "submit_time": None}, {**recorded()[0], "state": 7},
        {**recorded()[0], "end_time": -5.5},
    ],
)  # fmt: skip
def test_what_cannot_be_priced_is_unfit(told: object) -> None:
    with pytest.raises(Unfit):
        job_of(told, ORIGIN)


# ------------------------------------------------------------------ the source


def test_each_run_is_told_once_open_and_once_ended(venv: Path, tmp_path: Path) -> None:
    """However often it is looked at, also by an agent that was restarted."""
    job = next(each for each in recorded() if each["state"] == "COMPLETED" and each["gpus"])
    running = {**job, "state": "RUNNING", "end_time": None}
    told: list[tuple[int, str]] = []
    position = ""
    for minute, now in enumerate(range(NOW, NOW + 600, 60)):
        recording = tmp_path / "told.json.gz"
        state = {**job, "end_time": NOW + 170} if minute >= 3 else running
        recording.write_bytes(gzip.compress(json.dumps([state]).encode()))
        source = PyslurmSource(
            section(python(venv, recording=recording)),
            now=lambda now=now: now,  # type: ignore[misc]
        )
        blocks = list(source.read(position))
        told += [(minute, job.state) for job in jobs_in(blocks)]
        position = blocks[-1].position
        assert {block.complete_through for block in blocks} == {0}
    assert told == [(0, "RUNNING"), (3, "COMPLETED")]
    assert len(position) < 200


def test_the_first_look_is_short_and_the_next_goes_on(venv: Path) -> None:
    clock = [NOW]
    source = PyslurmSource(section(python(venv)), now=lambda: clock[0])
    first = list(source.read(""))
    assert all(job.end >= NOW - FIRST_LOOK_S for job in jobs_in(first) if job.end)
    clock[0] += 3600
    later = jobs_in(list(source.read(first[-1].position)))
    assert all(job.end > NOW - OVERLAP_S for job in later if job.end)
    assert not {job[:3] for job in later} & {job[:3] for job in jobs_in(first) if job.end}


def test_nobody_is_told_by_number(venv: Path) -> None:
    (gone,) = (each for each in recorded() if each["id"] == 177)
    source = PyslurmSource(section(python(venv)), now=lambda: gone["end_time"] + 10)
    told = {job.job_id: job for job in jobs_in(list(source.read("")))}
    assert gone["user_name"] == "12099"
    assert 177 not in told
    assert len(told) > 20


def test_what_cannot_be_read_does_not_stop_its_neighbours(venv: Path, tmp_path: Path) -> None:
    good = next(each for each in recorded() if each["state"] == "COMPLETED")
    recording = tmp_path / "told.json.gz"
    broken = {**good, "id": 900, "allocated_tres": {"x": {"type_and_name": "a b", "count": 1}}}
    recording.write_bytes(gzip.compress(json.dumps([broken, good]).encode()))
    source = PyslurmSource(section(python(venv, recording=recording)), now=lambda: good["end_time"])
    (block,) = source.read("")
    bad, job = block.readings
    assert isinstance(bad, Unreadable)
    assert (bad.cluster, bad.origin) == ("alpha", "pyslurm for cluster alpha")
    assert isinstance(job, SlurmJob)


SILENT = "import time; time.sleep(30)"
DYING = "import sys; sys.exit(3)"
CUT = STAND_IN + "db.Jobs.load = staticmethod(lambda wanted: os._exit(0))\n"
RPC_ERROR = STAND_IN + (
    "class E(Exception): pass\n"
    "def fail(_): raise E('Failed to get Jobs from slurmdbd')\n"
    "db.Jobs.load = staticmethod(fail)\n"
)


@pytest.mark.parametrize(
    ("pyslurm", "message"),
    [
        (None, "cannot import pyslurm"),
        (NO_TRES, "pyslurm 25.11.2 does not tell what a job held"),
        (DYING, "ended with 3"),
        (RPC_ERROR, r"ended with 1 \(.*Failed to get Jobs from slurmdbd\)"),
        (CUT, "cut off"),
        (SILENT, "no answer in 1 s; it was stopped"),
    ],
    ids=["missing", "old", "dies", "refused", "cut", "silent"],
)
def test_a_pyslurm_that_gives_no_answer_is_a_complaint(
    venv: Path, pyslurm: str | None, message: str
) -> None:
    timeout_s = 1 if pyslurm == SILENT else 30
    source = PyslurmSource(section(python(venv, pyslurm), timeout_s), now=lambda: NOW)
    with pytest.raises(SourceError, match=message):
        list(source.read(""))


def test_an_answer_about_another_cluster_is_a_complaint(venv: Path) -> None:
    other = STAND_IN.replace('job["cluster"] in wanted.clusters', "True")
    source = PyslurmSource(section(python(venv, other), cluster="gamma"), now=lambda: NOW)
    with pytest.raises(SourceError, match=r"told of job \d+ of cluster alpha"):
        list(source.read(""))


def test_one_question_at_a_time(venv: Path, tmp_path: Path) -> None:
    lock = tmp_path / "slurm.lock"
    source = PyslurmSource(section(python(venv), timeout_s=1), lock_path=lock, now=lambda: NOW)
    with (
        alone(lock, 1, "the test"),
        pytest.raises(SourceError, match="another jobledger-agent has been asking Slurm"),
    ):
        list(source.read(""))


# -------------------------------------------------------------- what people see


@pytest.mark.parametrize(
    ("pyslurm", "message"),
    [
        (STAND_IN, ""),
        (None, "cannot import pyslurm .*; install pyslurm 25.11 or newer there, made for this"),
        (NO_TRES, "does not tell what a job held; install pyslurm 25.11"),
        (DYING, "ended with 3"),
    ],
    ids=["good", "missing", "old", "dies"],
)
def test_the_doctor_hears_what_is_wrong(venv: Path, pyslurm: str | None, message: str) -> None:
    said = probe(section(python(venv, pyslurm)))
    assert re.search(message, said)
    assert bool(said) == bool(message)


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "none cannot be run" in probe(section(tmp_path / "none"))


def settings_of(*kinds: str) -> AgentConfig:
    tables = [{"kind": kind, "clusters": ["alpha"]} for kind in kinds]
    return parse({"source": tables}, {}, "the test")


def test_it_is_never_the_only_source_of_a_cluster() -> None:
    with pytest.raises(ConfigError, match="which does not see runs that were requeued"):
        settings_of("pyslurm")
    fast, complete = feeds(settings_of("pyslurm", "sacct"))
    assert (fast.is_live, fast.tells_lag) == (True, False)
    assert complete.tells_lag
