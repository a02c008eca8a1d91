"""Fault 36: slurmdbd lost or added a job, and nobody told the agent."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.faults.fakeslurm import FakeSlurm
from tests.faults.truth import Run, add_up
from tests.faults.world import AGENT, World, until

DAY_S = 86_400
HOUR_S = 3_600
COUNT = 80
KEYS = ("missing", "differing", "extra_runs")


def of_the_past(job_id: int, ago_s: int, **over: int) -> Run:
    """A run of an hour that ended so long ago."""
    end = int(time.time()) - ago_s
    return Run(job_id, end - HOUR_S, end - HOUR_S, end, **over)  # type: ignore[arg-type]


def changed_truth(slurm: FakeSlurm) -> tuple[Run, Run, Run, Run]:
    """Let slurmdbd gain one run of the day before yesterday, change one and lose one."""
    added = of_the_past(9_000, 2 * DAY_S + 1_000)
    before = next(run for run in slurm.runs.values() if run.job_id == 60)
    after = before._replace(cpus=before.cpus + 6)
    lost = next(run for run in slurm.runs.values() if run.job_id == 70)
    slurm.loses([lost])
    slurm.has(added, after)
    return added, before, after, lost


def past(slurm: FakeSlurm) -> None:
    """Give slurmdbd four days of runs."""
    slurm.has(*(of_the_past(n, n * HOUR_S) for n in range(1, COUNT + 1)))


def test_fault_36_the_sweep_notices_and_mends(world: World, tmp_path: Path) -> None:
    """The daily look at the past finds all three, takes what it can and says the rest."""
    slurm = FakeSlurm(tmp_path)
    past(slurm)
    config = slurm.settings(tmp_path, sweep_days=5)
    options = ("--config", str(config), "--metrics-listen", f"127.0.0.1:{world.metrics_port}")
    world.start_collector()
    first = world.start_agent("once", "--config", str(config))
    world.finishes(first)
    world.assert_exact(add_up(slurm.runs.values()))
    *_, lost = changed_truth(slurm)
    world.start_agent("run", *options, off_s=DAY_S)  # the next day's sweep
    expected = add_up([*slurm.runs.values(), lost])
    until("what was missing is there", lambda: world.stored() == expected)
    until("one is extra", lambda: world.metric("jobledger_agent_sweep_extra") == 1)
    assert world.metric("jobledger_agent_sweep_missing_total") == 1
    assert world.metric("jobledger_agent_sweep_differing_total") == 1
    world.assert_exact(expected, revisions=1)


def test_fault_36_verify_and_replay(world: World, tmp_path: Path) -> None:
    """A person asks: verify says what differs, replay tells it again, verify is content."""
    slurm = FakeSlurm(tmp_path)
    past(slurm)
    config = slurm.settings(tmp_path)
    world.start_collector()
    world.finishes(world.start_agent("once", "--config", str(config)))
    settings = config.read_text() + (
        f'[collector]\naddress = "127.0.0.1:{world.proxy.port}"\n[agent]\nname = "agent"\n'
        f'[spool]\npath = "{world.spool}"\n[metrics]\nlisten = ""\n'
    )
    config.write_text(settings)
    span = ("--since", time.strftime("%Y-%m-%d", time.gmtime(time.time() - 5 * DAY_S)))

    def agent(command: str, status: int) -> Counter[str]:
        done = subprocess.run(
            [sys.executable, "-m", AGENT, command, "--config", str(config), *span, "--json"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == status, (done.stdout, done.stderr)
        found: Counter[str] = Counter()
        for line in done.stdout.splitlines():
            day = json.loads(line)
            found.update({key: day.get(key, 0) for key in KEYS})
        return found

    agent("verify", 0)
    *_, lost = changed_truth(slurm)
    assert agent("verify", 1) == {"missing": 1, "differing": 1, "extra_runs": 1}
    agent("replay", 0)
    world.assert_exact(add_up([*slurm.runs.values(), lost]), revisions=1)
    assert agent("verify", 1) == {"missing": 0, "differing": 0, "extra_runs": 1}
    slurm.has(lost)
    agent("verify", 0)
