"""The doctor beside a real Slurm: well, then made ill in each way that silently loses records."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobledger_agent.operating import doctor
from jobledger_agent.operating.preflight import Check, Level
from tests.slurm.conf import CLUSTER
from tests.slurm.lab import Lab, a_lab
from tests.slurm.workload import submit

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(180)]

SETTLES_WITHIN_S = 30
SETTINGS = """\
[collector]
address = "127.0.0.1:1"
[spool]
path = "{folder}/spool.db"
max_bytes = 16777216
[kick]
file = ""
[[source]]
kind = "sacct"
clusters = ["{cluster}"]
slurm_conf = "{conf}"
timeout_s = 20
"""
TELLS = {"slurmctld": "scontrol show config", "slurmdbd": "sacctmgr -nP show configuration"}
BESIDE_SLURM = {"collector", "clock"}
"""No collector runs here; tests/agent/test_doctor.py looks at it."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with a_lab() as slurm:
        yield slurm


@pytest.fixture
def folder(lab: Lab, tmp_path: Path) -> Path:
    """A spool's folder that belongs to a plain user, as the packages make it."""
    if lab.is_root:
        shutil.chown(tmp_path, lab.job_users[0])
    return tmp_path


def examine(
    lab: Lab, folder: Path, conf: Path | None = None, cluster: str = CLUSTER
) -> dict[str, Check]:
    path = folder / "agent.toml"
    path.write_text(SETTINGS.format(folder=folder, cluster=cluster, conf=conf or lab.slurm_conf))
    return {check.name: check for check in doctor.findings(path)}


def failed(checks: dict[str, Check]) -> set[str]:
    wrong = {name for name, check in checks.items() if check.level is Level.FAILED}
    return wrong - BESIDE_SLURM


def reread(lab: Lab, daemon: str) -> None:
    record = json.loads((lab.home / "pids" / f"{daemon}.json").read_text())
    os.kill(record["pid"], signal.SIGHUP)


@contextmanager
def changed(lab: Lab, file: str, new: str, daemon: str, told: tuple[str, str]) -> Iterator[None]:
    """Put ``new`` in place of a daemon's line, or at the end, until the block is left.

    ``told`` is the setting as the daemon tells it, before and after. It is waited for
    both times: a daemon that is told twice at once to read its settings may hang.
    """
    path = lab.home / "etc" / "main" / file
    original = path.read_text()
    key = new.partition("=")[0]
    lines = [line for line in original.splitlines() if not line.startswith(f"{key}=")]
    question = TELLS[daemon]
    path.write_text("\n".join([*lines, new, ""]))
    try:
        reread(lab, daemon)
        until(lab, question, f"{key} = {told[1]} ")
        yield
    finally:
        path.write_text(original)
        reread(lab, daemon)
        until(lab, question, f"{key} = {told[0]} ")


def until(lab: Lab, command: str, told: str) -> None:
    """Wait until a command says so; a daemon that reads its settings anew may not answer."""
    deadline = time.monotonic() + SETTLES_WITHIN_S
    said = ""
    while told not in said:
        assert time.monotonic() < deadline, f"{command} does not say {told}"
        time.sleep(0.2)
        said = " ".join(lab.run(*command.split()).stdout.split())


def test_a_healthy_slurm(lab: Lab, folder: Path) -> None:
    submit(lab, lab.job_users[0], script="true")
    until(lab, "sacct -X -a -n -o State", "COMPLETED")
    running = submit(lab, lab.job_users[0], script="sleep 60")
    until(lab, f"sacct -X -a -n -j {running} -o State", "RUNNING")
    checks = examine(lab, folder)
    lab.must("scancel", running)
    assert failed(checks) == set(), checks
    assert checks[f"canary of {CLUSTER}"].level is Level.OK
    assert checks[f"open runs of {CLUSTER}"].told.startswith("1 in accounting")
    assert checks[f"DBD queue of {CLUSTER}"].level is Level.OK
    assert checks["munge"].level is Level.OK
    assert checks["permission to see all jobs"].level is Level.OK


def test_jobs_hidden_from_the_agents_user_and_the_command_that_mends_it(
    lab: Lab, folder: Path
) -> None:
    if not lab.is_root:
        pytest.skip("the owner of a private Slurm sees everything")
    with changed(lab, "slurmdbd.conf", "PrivateData=jobs", "slurmdbd", ("none", "jobs")):
        check = examine(lab, folder)["permission to see all jobs"]
        assert check.level is Level.FAILED
        command = check.told.split("`")[1]
        lab.must("sacctmgr", "-i", *command.split()[1:])
        assert examine(lab, folder)["permission to see all jobs"].level is Level.OK
    lab.must("sacctmgr", "-i", *command.replace("Operator", "None").split()[1:])


def test_a_user_that_slurmdbd_does_not_know_and_the_command_that_adds_it(
    lab: Lab, folder: Path
) -> None:
    if not lab.is_root:
        pytest.skip("only root can look on behalf of another user")
    shutil.chown(folder, "bin")
    with changed(lab, "slurmdbd.conf", "PrivateData=jobs", "slurmdbd", ("none", "jobs")):
        check = examine(lab, folder)["permission to see all jobs"]
        assert check.level is Level.FAILED
        lab.must("sacctmgr", "-i", *check.told.split("`")[1].split()[1:])
        assert examine(lab, folder)["permission to see all jobs"].level is Level.OK


def test_a_slurmctld_that_records_no_jobs(lab: Lab, folder: Path) -> None:
    usual = "associations,limits,qos"
    told = (usual, "associations,limits,nojobs,nosteps,qos")
    with changed(lab, "slurm.conf", f"AccountingStorageEnforce={usual},nojobs", "slurmctld", told):
        checks = examine(lab, folder)
    assert failed(checks) == {"AccountingStorageEnforce"}
    assert "Remove nojobs" in checks["AccountingStorageEnforce"].told


def test_slurmdbd_that_is_away(lab: Lab, folder: Path) -> None:
    assert lab.layout is not None
    conf = folder / "slurm.conf"
    port = f"AccountingStoragePort={lab.layout.slurmdbd_port}"
    conf.write_text(lab.slurm_conf.read_text().replace(port, "AccountingStoragePort=1"))
    checks = examine(lab, folder, conf)
    assert failed(checks) == {"slurmdbd"}, checks
    assert checks["accounting"].level is Level.UNCHECKED
    assert checks["munge"].level is Level.OK


def test_munge_that_is_away(lab: Lab, folder: Path) -> None:
    conf = folder / "slurm.conf"
    conf.write_text(lab.slurm_conf.read_text().replace("/main.sock", "/nobody.sock"))
    checks = examine(lab, folder, conf)
    assert {"munge", "slurmdbd", "slurmctld"} <= failed(checks)
    assert "systemctl start munge" in checks["munge"].told


def test_a_cluster_that_slurmdbd_does_not_know(lab: Lab, folder: Path) -> None:
    checks = examine(lab, folder, cluster="nosuch")
    assert "clusters" in failed(checks)
    assert f"only {CLUSTER}" in checks["clusters"].told
