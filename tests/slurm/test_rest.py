"""A real slurmrestd beside a real sacct: the same jobs, by a socket file and by token."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from jobledger_agent import clock
from jobledger_agent.daemon.feed import Intake, read_through
from jobledger_agent.health import Health
from jobledger_agent.reading.accounting import Accounting, TooMuch
from jobledger_agent.records.job import UNKNOWN, Reading, SlurmJob
from jobledger_agent.records.tree import TreeKind
from jobledger_agent.settings import config
from jobledger_agent.settings.sections import AgentConfig
from jobledger_agent.slurm.slurmrestd import Slurmrestd
from jobledger_agent.slurm.slurmrestd_http import Caller, Server
from jobledger_agent.source import SourceError
from jobledger_agent.sources.feeds import accountings, feeds
from jobledger_agent.spooling.spool import Spool
from tests.ports import free_ports
from tests.slurm.conf import CLUSTER
from tests.slurm.lab import Lab, a_lab

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmrestd refuses to run as SlurmUser"),
]

USER = "daemon"
"""Neither root nor SlurmUser, which slurmrestd refuses to be."""
READY_TIMEOUT_S = 20
SETTLE_TIMEOUT_S = 60
UNTOLD = {"uid": UNKNOWN, "alloc_cpus": UNKNOWN, "cancelled_by_uid": UNKNOWN, "sluid": 0,
          "assoc_id": 0, "restarts": UNKNOWN, "exit_code": 0, "reservation": "",
          "observed": 0}  # fmt: skip
"""What Slurm 22.05 does not tell by JSON, or tells wrongly."""


class Rest(NamedTuple):
    """A lab and where its slurmrestd listens."""

    lab: Lab
    socket_file: str
    port: str
    token_file: Path


Way = Callable[[Rest], Slurmrestd]


@pytest.fixture(scope="module")
def rest() -> Iterator[Rest]:
    with ExitStack() as stack:
        lab = stack.enter_context(a_lab(tokens=True))
        folder = lab.home / "rest"
        folder.mkdir()
        shutil.chown(folder, USER)
        (port,) = free_ports(1)
        stack.enter_context(slurmrestd(lab, "rest_auth/local", f"unix:{folder}/socket"))
        stack.enter_context(slurmrestd(lab, "rest_auth/jwt", f"127.0.0.1:{port}"))
        token_file = lab.home / "token"
        token_file.write_text(lab.must("scontrol", "token", f"username={USER}"))
        submit_all(lab)
        yield Rest(lab, f"unix:{folder}/socket", f"http://127.0.0.1:{port}", token_file)


@contextmanager
def slurmrestd(lab: Lab, auth: str, listen: str) -> Iterator[None]:
    """The program, as its own user; by token it speaks to the daemons by token, too."""
    environment = lab.environment | ({"SLURM_JWT": "daemon"} if "jwt" in auth else {})
    command = ["runuser", "-u", USER, "-g", USER, "--", "slurmrestd", "-a", auth, listen]
    with (lab.home / "log" / "slurmrestd.out").open("ab") as log:
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until_heard(listen)
        yield
    finally:
        child.terminate()
        child.wait(10)


def wait_until_heard(listen: str) -> None:
    address = listen if listen.startswith("unix:") else f"http://{listen}"
    server = Server(address, Caller("", None), timeout_s=5)
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            with server.get("/"):
                return
        except SourceError as error:
            if time.monotonic() > deadline:
                raise AssertionError(error) from error
            time.sleep(0.1)


def submit_all(lab: Lab) -> None:
    """Jobs that end in every way that a cluster without failures knows; waits for their ends."""
    user = lab.job_users[0]

    def submit(*options: str) -> str:
        batch = ("sbatch", "--parsable", "-D", "/tmp", "-o", "/dev/null")  # noqa: S108
        return lab.must(*batch, *options, user=user).strip()

    submit("-n2", "--wrap", "srun sleep 1")
    submit("--gres=gpu:a100:1", "--wrap", "sleep 1")
    submit("--array=1-3%2", "--wrap", "sleep 1")
    submit("-n1", ":", "-n2", "--wrap", "sleep 1")
    submit("--wrap", "exit 3")
    submit("-J", "evil|x\n99|COMPLETED", "--wrap", "sleep 1")
    held = submit("--hold", "--wrap", "sleep 1")
    requeued, resized = submit("--wrap", "sleep 60"), submit("-N2", "--wrap", "sleep 60")
    submit("--wrap", "sleep 500")
    lab.must("scancel", held)
    running = {requeued, resized}
    wait(lambda: running <= set(lab.must("squeue", "-h", "-t", "R", "-o", "%A").split()))
    time.sleep(1)
    lab.must("scontrol", "requeue", requeued)
    lab.must("scontrol", "update", f"jobid={resized}", "NumNodes=1")
    time.sleep(1)
    lab.must("scancel", resized)
    wait(lambda: len(lab.must("squeue", "-h", "-t", "R,CG").splitlines()) <= 1)
    wait(lambda: "COMPLETING" not in lab.must("sacct", "-a", "-n", "-o", "state"))
    time.sleep(2)  # the last messages to slurmdbd


def wait(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def by_socket(rest: Rest) -> Slurmrestd:
    return Slurmrestd((CLUSTER,), Server(rest.socket_file, Caller("", None), timeout_s=20))


def by_token(rest: Rest) -> Slurmrestd:
    return Slurmrestd((CLUSTER,), Server(rest.port, Caller(USER, rest.token_file), timeout_s=20))


def by_sacct(rest: Rest, folder: Path) -> Accounting:
    settings = settings_of(folder, f'kind = "sacct"\nslurm_conf = "{rest.lab.slurm_conf}"')
    ((_, accounting),) = accountings(settings)
    accounting.negotiate()
    return accounting


def settings_of(folder: Path, source: str) -> AgentConfig:
    path = folder / "agent.toml"
    spool = f'[spool]\npath = "{folder}/spool.db"\n'
    path.write_text(f'{spool}[[source]]\nclusters = ["{CLUSTER}"]\n{source}\n')
    return config.load(path, {})


def jobs_of(answer: AbstractContextManager[Iterator[Reading]]) -> dict[tuple[int, int], SlurmJob]:
    with answer as readings:
        jobs = [reading for reading in readings if isinstance(reading, SlurmJob)]
    found = {(job.job_id, job.submit): job for job in jobs}
    assert len(found) == len(jobs), "a run was told twice"
    return found


def told(jobs: dict[tuple[int, int], SlurmJob]) -> dict[tuple[int, int], SlurmJob]:
    """What both ways can tell."""
    growing = {"slurm_elapsed_s": 0}
    return {
        key: job._replace(**UNTOLD, **({} if job.end else growing))  # type: ignore[arg-type]
        for key, job in jobs.items()
    }


@pytest.mark.parametrize("way", [by_socket, by_token])
def test_both_ways_tell_the_same_of_each_job(rest: Rest, tmp_path: Path, way: Way) -> None:
    http, sacct = way(rest), by_sacct(rest, tmp_path)
    span = (clock.now_s() - 3600, clock.now_s())
    ended = told(jobs_of(http.ended(CLUSTER, span)))
    assert ended == told(jobs_of(sacct.ended(CLUSTER, span)))
    assert {job.state for job in ended.values()} >= {
        "COMPLETED", "CANCELLED", "FAILED", "REQUEUED", "RESIZING",
    }  # fmt: skip
    assert len(ended) >= 13
    running = told(jobs_of(http.open(CLUSTER)))
    assert running == told(jobs_of(sacct.open(CLUSTER)))
    assert len(running) == 1
    ids = sorted({job_id for job_id, _ in ended} | {9_999})
    assert told(jobs_of(http.by_id(CLUSTER, ids))) == told(jobs_of(sacct.by_id(CLUSTER, ids)))
    assert jobs_of(http.by_id(CLUSTER, range(5_000, 5_200))) == {}
    assert http.controller(CLUSTER).dbd_queue == sacct.controller(CLUSTER).dbd_queue == 0


def test_steps_add_up_to_the_same(rest: Rest, tmp_path: Path) -> None:
    ids = sorted({job_id for job_id, _ in jobs_of(by_socket(rest).by_id(CLUSTER, range(1, 60)))})
    http = by_socket(rest).step_use(CLUSTER, ids)
    sacct = by_sacct(rest, tmp_path).step_use(CLUSTER, ids)
    rows = [job_id for job_id, _ in sacct]
    single = {key[0]: use for key, use in sacct.items() if rows.count(key[0]) == 1}
    assert {job_id: use for (job_id, _), use in http.items() if job_id in single} == {
        job_id: use for job_id, use in single.items() if (job_id, 0) in http
    }
    assert len(http) >= 8


def test_the_tree_is_the_same_but_for_ids(rest: Rest, tmp_path: Path) -> None:
    """Slurmrestd of 22.05 tells associations without their ids."""

    def essence(accounting: Accounting) -> set[tuple[object, ...]]:
        numbers = {"parent_id", "lineage"}
        return {
            (
                entry.kind,
                "" if entry.kind is TreeKind.ASSOCIATION else entry.name,
                tuple(pair for pair in entry.attributes if pair[0] not in numbers),
            )
            for entry in accounting.tree(CLUSTER)
        }

    assert essence(by_socket(rest)) == essence(by_sacct(rest, tmp_path))


def test_a_token_that_slurm_refuses_is_a_complaint_and_not_an_empty_answer(
    rest: Rest, tmp_path: Path
) -> None:
    forged = rest.token_file.read_text().strip()[:-6] + "AAAAAA"
    (tmp_path / "token").write_text(forged)
    server = Server(rest.port, Caller(USER, tmp_path / "token"), timeout_s=20)
    http = Slurmrestd((CLUSTER,), server)
    with pytest.raises(SourceError, match=r"authentication.*check token_file and user"):
        http.negotiate()
    nobody = Slurmrestd((CLUSTER,), Server(rest.port, Caller("", None), timeout_s=20))
    with pytest.raises(SourceError, match="HTTP 401: check token_file"):
        nobody.negotiate()


def test_a_source_of_this_kind_fills_a_spool(rest: Rest, tmp_path: Path) -> None:
    settings = settings_of(tmp_path, f'kind = "slurmrestd"\naddress = "{rest.socket_file}"')
    (feed,) = feeds(settings)
    spool = Spool(settings.spool.path)
    with closing(spool):
        intake = Intake(spool, Health(), None, lambda: None, threading.Event())
        read_through(feed, intake)
        waiting = spool.stats().records
        read_through(feed, intake)
        assert spool.stats().records == waiting >= 14, "what was read before is no news"


def test_a_silent_slurmdbd_is_given_up_in_time(rest: Rest) -> None:
    """Last: it stops slurmdbd for a while."""
    http = Slurmrestd((CLUSTER,), Server(rest.socket_file, Caller("", None), timeout_s=3))
    http.negotiate()
    pid = json.loads((rest.lab.home / "pids" / "slurmdbd.json").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(TooMuch, match="no answer in 3 s"):
            jobs_of(http.ended(CLUSTER, (clock.now_s() - 60, clock.now_s())))
        assert time.monotonic() - started < 6
    finally:
        os.kill(pid, signal.SIGCONT)
