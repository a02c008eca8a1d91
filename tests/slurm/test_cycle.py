"""The cycle on a real Slurm that is made to do what loses records elsewhere.

Its clock is an hour ahead: no run of these tests ends within the window, so that
what arrives was found by another way.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobledger_agent.reading import window
from jobledger_agent.reading.cycle import Cycle, CycleSettings
from jobledger_agent.records.job import SlurmJob
from jobledger_agent.records.tree import TreeEntry, TreeKind
from jobledger_agent.slurm.sacct import sacct_cycle
from jobledger_agent.source import SourceError
from tests.slurm import truth
from tests.slurm.conf import CLUSTER
from tests.slurm.lab import Lab, a_lab
from tests.slurm.workload import requeue, submit, wait_for_state

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

AHEAD_S = 3_600
PATIENCE_S = 60


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with a_lab() as slurm:
        yield slurm


class Agent:
    """A cycle on this Slurm, and all that it yielded."""

    def __init__(self, lab: Lab, *, ahead_s: int = 0, cluster: str = CLUSTER, **paths: Any) -> None:  # noqa: ANN401
        self.position = ""
        self.runs: dict[tuple[int, int], SlurmJob] = {}
        self.tree: dict[tuple[TreeKind, str], TreeEntry] = {}
        self.through = 0
        self.ahead_s = ahead_s
        wanted = CycleSettings(lookback_s=7_200, open_every_s=0, settle_s=0, sweep_days=0)
        self.cycle: Cycle = sacct_cycle(
            [cluster], wanted, now=self.now, slurm_conf=str(lab.slurm_conf), timeout_s=30, **paths
        )

    def now(self) -> int:
        return int(time.time()) + self.ahead_s

    def read(self) -> None:
        for block in self.cycle.read(self.position):
            for run in block.readings:
                assert isinstance(run, SlurmJob)
                self.runs[run.job_id, run.submit] = run
            for entry in block.tree:
                self.tree[entry.kind, entry.name] = entry
            self.position, self.through = block.position, block.complete_through

    def read_until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, self.cycle.facts()
            self.read()
            time.sleep(0.3)

    def ends(self, job: str) -> list[int]:
        """Ends of this job's runs, in the order of their submission."""
        return [run.end for key, run in sorted(self.runs.items()) if key[0] == int(job)]


def wait_until_idle(lab: Lab) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while lab.must("squeue", "-h").strip():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def same_as_slurmdbd(lab: Lab, agent: Agent) -> None:
    """Every run that slurmdbd has ended is there with its end, and no other."""
    assert {row.key: row.end for row in truth.rows(lab) if row.end} == {
        key: run.end for key, run in agent.runs.items() if run.end
    }


def test_jobs_that_end_while_slurmdbd_is_away_all_arrive_with_their_own_ends(lab: Lab) -> None:
    """Conformance cases 22 and 23."""
    agent = Agent(lab)
    first = submit(lab, lab.job_users[0])
    agent.read_until(lambda: any(agent.ends(first)))
    before = agent.through
    running = submit(lab, lab.job_users[0], script="sleep 3")
    wait_for_state(lab, running, "RUNNING")
    agent.read()
    lab.stop_slurmdbd()
    during = [submit(lab, lab.job_users[0]) for _ in range(2)]
    wait_until_idle(lab)
    position = agent.position
    with pytest.raises(SourceError, match="failed with exit"):
        agent.read()
    assert agent.cycle.facts()[CLUSTER].dbd_queue > 0, "they wait in slurmctld"
    assert window.read_position(agent.position) == window.read_position(position)
    back = int(time.time())
    lab.start_slurmdbd()
    agent.read_until(lambda: all(any(agent.ends(job)) for job in (running, *during)))
    assert all(0 < end <= back for job in (running, *during) for end in agent.ends(job))
    agent.read_until(lambda: agent.cycle.facts()[CLUSTER].dbd_queue == 0)
    agent.read()
    assert agent.through > before
    same_as_slurmdbd(lab, agent)


def test_a_run_killed_while_suspended_ends_as_of_its_suspension(lab: Lab) -> None:
    """Conformance case 8: no window holds that End, its absence among the open runs tells it."""
    agent = Agent(lab, ahead_s=AHEAD_S)
    job = submit(lab, lab.job_users[0], script="sleep 300")
    wait_for_state(lab, job, "RUNNING")
    agent.read_until(lambda: agent.ends(job) == [0])
    lab.must("scontrol", "suspend", job)
    suspended = int(time.time())
    time.sleep(2.5)
    agent.read()
    assert agent.ends(job) == [0]
    lab.must("scancel", job)
    agent.read_until(lambda: any(agent.ends(job)))
    assert suspended - 1 <= agent.ends(job)[0] <= suspended + 1
    assert int(time.time()) > suspended + 2
    same_as_slurmdbd(lab, agent)


def test_both_runs_of_a_requeued_job_arrive(lab: Lab) -> None:
    """Conformance case 3."""
    agent = Agent(lab)
    agent.read()
    requeue(lab, lab.job_users[0])
    job = lab.must("squeue", "-h", "-o", "%A").split()[0]
    agent.read_until(lambda: len(agent.ends(job)) == 2 and all(agent.ends(job)))
    same_as_slurmdbd(lab, agent)


def test_a_repaired_runaway_is_no_longer_open(lab: Lab) -> None:
    """Its End lies in the past, and nobody told slurmctld (conformance case 34)."""
    agent = Agent(lab, ahead_s=AHEAD_S)
    job = submit(lab, lab.job_users[0])
    table = f"slurm_acct_db.{CLUSTER}_job_table"
    ended = f"select 1 from {table} where id_job={job} and time_end"  # noqa: S608
    deadline = time.monotonic() + PATIENCE_S
    while not lab.query(ended):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    # Under an id that slurmctld never knew: it remembers its own for some minutes.
    runaway = f"id_job=id_job+90000, time_end=0, state=1 where id_job={job}"
    lab.query(f"update {table} set {runaway}")  # noqa: S608
    job = str(int(job) + 90_000)
    agent.read()
    assert agent.ends(job) == [0]
    lab.must("sacctmgr", "-i", "show", "runawayjobs")
    agent.read_until(lambda: any(agent.ends(job)))
    (run,) = (run for run in agent.runs.values() if run.job_id == int(job))
    assert run.end == run.start
    same_as_slurmdbd(lab, agent)


def test_an_empty_answer_is_believed_only_beside_a_known_run(lab: Lab) -> None:
    """Conformance case 26: for a cluster that slurmdbd lost, sacct says nothing, with success."""
    agent = Agent(lab)
    agent.read()
    known = window.read_position(agent.position)
    assert known[CLUSTER].canaries
    with pytest.raises(SourceError, match=f"knows no cluster gone, only {CLUSTER}"):
        Agent(lab, cluster="gone").read()
    blind = Agent(lab, cluster="gone", sacctmgr="", sdiag="")
    blind.read()
    assert blind.runs == {}, "that is what sacct says of it"
    blind = Agent(lab, cluster="gone", sacctmgr="", sdiag="")
    blind.position = window.write_position({"gone": known[CLUSTER]})
    with pytest.raises(SourceError, match="no longer shows"):
        blind.read()
    assert blind.through <= known[CLUSTER].watermark


def as_user(folder: Path, user: str) -> str:
    """A sacct that runs as this user."""
    folder.mkdir()
    path = folder / "sacct"
    path.write_text(f'#!/bin/sh\nexec /usr/sbin/runuser -u {user} -- /usr/bin/sacct "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_private_data_that_hides_jobs_is_noticed(lab: Lab, tmp_path: Path) -> None:
    """An agent whose user sees only its own jobs finds the others' canaries no more."""
    if not lab.is_root:
        pytest.skip("needs several users")
    one = lab.job_users[0]
    jobs = [submit(lab, user) for user in lab.job_users]
    wait_until_idle(lab)
    sacct = as_user(tmp_path / "bin", one)
    agent = Agent(lab, sacct=sacct)
    agent.read_until(lambda: len({run.uid for run in agent.runs.values() if run.end}) >= 2)
    agent.read()
    proved = agent.through
    settings_file = lab.home / "etc" / "main" / "slurmdbd.conf"
    open_to_all = settings_file.read_text()
    try:
        settings_file.write_text(open_to_all + "PrivateData=jobs\n")
        lab.stop_slurmdbd()
        lab.start_slurmdbd()
        again = Agent(lab, sacct=sacct)
        again.position, again.runs = agent.position, dict(agent.runs)
        with pytest.raises(
            SourceError, match=r"finished runs that it has shown before.*PrivateData"
        ):
            again.read()
        assert again.through <= proved
    finally:
        settings_file.write_text(open_to_all)
        lab.stop_slurmdbd()
        lab.start_slurmdbd()
    again.read()
    again.read()
    assert again.through >= proved
    assert all(end for job in jobs for end in again.ends(job))


def test_the_account_tree_as_it_is_and_becomes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptions with the delimiter and newlines in them forge nothing."""
    monkeypatch.setattr("jobledger_agent.records.tree.EVERY_S", 0)
    hostile = "a|b\nphysics|evil\nbio|worse"
    lab.must("sacctmgr", "-i", "add", "account", "odd", f"description={hostile}",
             "organization=x|y", "parent=physics", f"cluster={CLUSTER}")  # fmt: skip
    agent = Agent(lab)
    agent.read()

    def said(kind: TreeKind, name: str) -> dict[str, str]:
        return dict(agent.tree[kind, name].attributes)

    assert said(TreeKind.ACCOUNT, "odd") == {"description": hostile, "organization": "x|y"}
    assert said(TreeKind.ACCOUNT, "physics")["description"] == "physics"
    assert said(TreeKind.ACCOUNT, "bio")["description"] == "bio"
    assert said(TreeKind.USER, lab.job_users[0])["default_account"] == "physics"
    assert said(TreeKind.QOS, "normal")["usage_factor"] == "1.000000"
    parents = {
        dict(entry.attributes)["account"]: dict(entry.attributes).get("parent", "")
        for (kind, _), entry in agent.tree.items()
        if kind is TreeKind.ASSOCIATION and "user" not in dict(entry.attributes)
    }
    assert parents == {"root": "", "physics": "root", "bio": "root", "odd": "physics"}
    whole, agent.tree = agent.tree, {}
    agent.read()
    assert agent.tree == {}, "nothing changed"
    lab.must("sacctmgr", "-i", "modify", "account", "odd", "set", "description=plain")
    agent.read()
    assert list(agent.tree) == [(TreeKind.ACCOUNT, "odd")]
    lab.must("sacctmgr", "-i", "delete", "account", "odd")
    agent.tree = {}
    agent.read()
    assert {key: entry.gone for key, entry in agent.tree.items()} == {
        (TreeKind.ACCOUNT, "odd"): True,
        next(
            key for key, entry in whole.items()
            if key[0] is TreeKind.ASSOCIATION and ("account", "odd") in entry.attributes
        ): True,
    }  # fmt: skip
