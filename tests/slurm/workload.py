"""Jobs of every kind that accounting treats differently, submitted to a lab."""

import time

from tests.slurm.daemons import LabError
from tests.slurm.lab import Lab

RUNNING_TIMEOUT_S = 30
HOSTILE_NAME = "a|b\nCOMPLETED|1|2\r\n\t'\";--,=\\N{}$(id) ☃"
HETEROGENEOUS = """\
#!/bin/sh
#SBATCH -n 1 -o /dev/null
#SBATCH hetjob
#SBATCH -n 2
sleep 2
"""


def submit(lab: Lab, user: str, *options: str, script: str = "sleep 1") -> str:
    """Submit one batch job; its id."""
    out = lab.must(
        "sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={script}", user=user
    )
    return out.strip().partition(";")[0]


def wait_for_state(lab: Lab, job: str, *states: str) -> None:
    """Return once the job is in one of ``states``."""
    deadline = time.monotonic() + RUNNING_TIMEOUT_S
    while time.monotonic() < deadline:
        seen = set(lab.must("squeue", "-h", "-a", "-t", "all", "-j", job, "-o", "%T").split())
        if seen and seen <= set(states):
            return
        time.sleep(0.2)
    raise LabError(f"job {job} is not {' or '.join(states)} after {RUNNING_TIMEOUT_S} s")


def submit_everything(lab: Lab) -> None:
    """Submit one job of each kind and do to it what makes it that kind."""
    one, two = lab.job_users[0], lab.job_users[-1]
    submit(lab, one, "--ntasks=2", "--mem=1G", "--job-name=plain")
    submit(lab, two, "--job-name=failing", script="exit 3")
    submit(lab, two, "--job-name=killed", script="kill -9 $$")
    submit(lab, one, "--gres=gpu:a100:2", "--mem=3G", "--job-name=typed-gpu")
    submit(lab, one, "--gres=gpu:1", "--job-name=untyped-gpu")
    submit(lab, two, "--nodes=2", "--job-name=two-nodes", script="srun sleep 1")
    submit(lab, one, "--exclusive", "--job-name=exclusive")
    submit(lab, one, f"--job-name={HOSTILE_NAME}", f"--comment={HOSTILE_NAME}")
    submit(lab, two, "--array=1-5%2", "--job-name=array")
    submit(lab, two, "--job-name=steps", script="srun -n1 true; srun -n1 sleep 1; srun false")
    submit_heterogeneous(lab, two)
    for act in (cancel_before_start, cancel_pending_array, cancel_running, requeue, suspend):
        act(lab, one)


def submit_heterogeneous(lab: Lab, user: str) -> None:
    """One job of two components, each accounted as a job."""
    path = lab.home / "het.sh"
    path.write_text(HETEROGENEOUS)
    path.chmod(0o755)
    lab.must("sbatch", "--parsable", str(path), user=user)


def cancel_before_start(lab: Lab, user: str) -> None:
    """A job that never starts: nothing to pay."""
    lab.must("scancel", submit(lab, user, "--hold", "--job-name=never-started"), user=user)


def cancel_pending_array(lab: Lab, user: str) -> None:
    """A hundred tasks that never start are one row."""
    lab.must("scancel", submit(lab, user, "--hold", "--array=1-100"), user=user)


def cancel_running(lab: Lab, user: str) -> None:
    """A job pays for what it ran until it was cancelled."""
    job = submit(lab, user, "--job-name=cancelled", script="sleep 300")
    wait_for_state(lab, job, "RUNNING")
    time.sleep(1.5)
    lab.must("scancel", job, user=user)


def requeue(lab: Lab, user: str) -> None:
    """Two runs under one job id, each with its own submit time, each paid."""
    first_long = 'if [ -n "$SLURM_RESTART_COUNT" ]; then sleep 2; else sleep 300; fi'
    job = submit(lab, user, "--requeue", "--job-name=requeued", script=first_long)
    wait_for_state(lab, job, "RUNNING")
    time.sleep(1.5)
    lab.must("scontrol", "requeue", job)
    # Slurm holds a requeued job back for two minutes, from some moment after the
    # command; nobody waits for that here.
    deadline = time.monotonic() + RUNNING_TIMEOUT_S
    line = "BeginTime"
    while line and "RUNNING" not in line:
        if time.monotonic() > deadline:
            raise LabError(f"job {job} did not start again after its requeue: {line}")
        if "BeginTime" in line:
            lab.run("scontrol", "update", f"JobId={job}", "StartTime=now")
        time.sleep(0.5)
        line = lab.must("squeue", "-h", "-j", job, "-o", "%T %r %S").strip()


def suspend(lab: Lab, user: str) -> None:
    """A job that stands still for a while."""
    job = submit(lab, user, "--job-name=suspended", script="sleep 8")
    wait_for_state(lab, job, "RUNNING")
    lab.must("scontrol", "suspend", job)
    time.sleep(2.5)
    lab.must("scontrol", "resume", job)
