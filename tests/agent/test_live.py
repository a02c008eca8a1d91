"""A living Slurm, as far as ``sacct`` shows it: from its answers to the collector, once."""

import json
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from jobledger_agent.operating import doctor
from jobledger_agent.operating.preflight import Check
from jobledger_proto.v1 import usage_pb2_grpc
from tests.agent.notebook import Notebook

# Slurm's part is played by a program that answers from a file, as sacct would.
SACCT = """#!{python}
import json, sys
from pathlib import Path
arguments = sys.argv[1:]
state = json.loads(Path({state!r}).read_text())
def value(option):
    return arguments[arguments.index(option) + 1]
if state["error"]:
    sys.exit(state["error"])
if arguments == ["-e"]:
    print(*state["columns"])
elif "-X" in arguments:
    delimiter = next(a.partition("=")[2] for a in arguments if a.startswith("--delimiter="))
    ended = "-S" in arguments
    for job in state["jobs"]:
        end = int(job["End"]) if job["End"] != "Unknown" else 0
        if bool(end) != ended and "-j" not in arguments:
            continue
        if ended and not int(value("-S")[3:]) <= end <= int(value("-E")[3:]):
            continue
        fields = [job.get(column, "") for column in value("-o").split(",")]
        print("".join(field + delimiter for field in fields))
"""
COLUMNS = [
    "Cluster", "JobIDRaw", "JobID", "DBIndex", "Submit", "Eligible", "Start", "End",
    "ElapsedRaw", "Suspended", "State", "ExitCode", "AllocTRES", "ReqTRES", "AllocCPUS",
    "NNodes", "NodeList", "UID", "User", "Account", "AssocID", "Partition", "QOS",
    "ReservationId", "WCKey", "TimelimitRaw", "TotalCPU", "MaxRSS",
]  # fmt: skip


class FakeSlurm:
    """An ``sacct`` whose answers the test writes."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / "slurm.json"
        self.sacct = folder / "sacct"
        self.jobs: list[dict[str, str]] = []
        self.tell()
        self.sacct.write_text(SACCT.format(python=sys.executable, state=str(self._state)))
        self.sacct.chmod(self.sacct.stat().st_mode | stat.S_IXUSR)

    def tell(self, error: str = "") -> None:
        state = {"columns": COLUMNS, "jobs": self.jobs, "error": error}
        fresh = self._state.with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.replace(self._state)  # an sacct in the middle of its answer sees the old one

    def starts(self, job_id: int) -> dict[str, str]:
        now = int(time.time())
        job = dict.fromkeys(COLUMNS, "") | {
            "Cluster": "alpha", "JobIDRaw": str(job_id), "JobID": str(job_id), "DBIndex": "7",
            "Submit": str(now - 100), "Eligible": str(now - 100), "Start": str(now - 90),
            "End": "Unknown", "ElapsedRaw": "90", "Suspended": "00:00:00", "State": "RUNNING",
            "ExitCode": "0:0", "AllocTRES": "billing=2,cpu=2,mem=1024M,node=1",
            "ReqTRES": "billing=2,cpu=2,mem=1024M,node=1", "AllocCPUS": "2", "NNodes": "1",
            "NodeList": "n1", "UID": "1000", "User": "alice", "Account": "physics",
            "AssocID": "3", "Partition": "batch", "QOS": "normal", "TimelimitRaw": "60",
        }  # fmt: skip
        self.jobs.append(job)
        return job

    def ends(self, job: dict[str, str]) -> None:
        end = int(time.time())
        job["End"], job["State"] = str(end), "COMPLETED"
        job["ElapsedRaw"] = str(end - int(job["Start"]))


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path)


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def settings(tmp_path: Path, slurm: FakeSlurm, notebook: Notebook) -> Iterator[Path]:
    server = grpc.server(futures.ThreadPoolExecutor(8))
    usage_pb2_grpc.add_LedgerServiceServicer_to_server(notebook, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    path = tmp_path / "agent.toml"
    path.write_text(
        f"""
        [collector]
        address = "127.0.0.1:{port}"
        [spool]
        path = "{tmp_path}/spool.db"
        max_bytes = 16777216
        [metrics]
        listen = ""
        [[source]]
        kind = "sacct"
        clusters = ["alpha"]
        sacct = "{slurm.sacct}"
        sdiag = "/nonexistent/sdiag"
        sacctmgr = "/nonexistent/sacctmgr"
        scontrol = "/nonexistent/scontrol"
        slurm_conf = "{slurm.sacct}"
        poll_interval_s = 1
        lookback_s = 3600
        """
    )
    yield path
    server.stop(None).wait()


Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def start(settings: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[str]] = []

    def run() -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "jobledger_agent.cli", "run", "--config", str(settings)]
        log = (settings.parent / "agent.log").open("a")
        running.append(subprocess.Popen(command, stderr=log, text=True))
        log.close()
        return running[-1]

    yield run
    for agent in running:
        if agent.poll() is None:
            agent.kill()
        agent.wait()


def until(holds: Callable[[], bool], within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_each_run_arrives_when_it_starts_and_when_it_ends_and_never_again(
    slurm: FakeSlurm, notebook: Notebook, start: Start, settings: Path
) -> None:
    slurm.ends(slurm.starts(1))
    second = slurm.starts(2)
    slurm.tell()
    agent = start()
    until(lambda: sorted(notebook.jobs) == [1, 2])
    time.sleep(2.5)  # several polls read both again
    assert sorted(notebook.jobs) == [1, 2]
    slurm.ends(second)
    slurm.tell()
    until(lambda: sorted(notebook.jobs) == [1, 2, 2], within_s=5)
    slurm.tell(error="error: slurmdbd: Connection refused")
    until(lambda: "Connection refused" in (settings.parent / "agent.log").read_text())
    slurm.ends(slurm.starts(3))
    slurm.tell()
    until(lambda: sorted(notebook.jobs) == [1, 2, 2, 3], within_s=5)
    agent.kill()
    agent.wait()
    slurm.ends(slurm.starts(4))
    slurm.tell()
    again = start()
    until(lambda: sorted(notebook.jobs) == [1, 2, 2, 3, 4])
    time.sleep(1.5)
    again.terminate()
    assert again.wait(15) == 0
    assert sorted(notebook.jobs) == [1, 2, 2, 3, 4]


def test_the_doctor_finds_a_live_source_well_and_ill(slurm: FakeSlurm, settings: Path) -> None:
    def look() -> dict[str, Check]:
        return {check.name: check for check in doctor.findings(settings)}

    slurm.ends(slurm.starts(1))
    slurm.tell()
    canary = look()["canary of alpha"]
    assert canary.told == "job 1, which has ended, is found again by its id"
    slurm.tell(error="sacct: error: cannot reach slurmdbd")
    ill = look()["sacct:alpha"]
    assert not ill.is_well
    assert "cannot reach slurmdbd" in ill.told
    slurm.sacct.unlink()
    assert not look()[str(slurm.sacct)].is_well
