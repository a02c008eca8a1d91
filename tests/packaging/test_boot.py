"""The installed agent under a real systemd: it reads a real Slurm, and cannot do much else.

systemd is process 1 of a clean Debian in namespaces of its own (machine.py); Slurm
and the collector run outside and are reached through loopback and munge's socket.
"""

import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.packaging.machine import Machine, wait_for
from tests.packaging.test_deb import another_version
from tests.ports import free_ports
from tests.slurm import truth
from tests.slurm.conf import CLUSTER
from tests.slurm.lab import Lab, a_lab, missing_programs
from tests.slurm.workload import submit, wait_for_state
from tests.system.programs import start_collector
from tests.tidy.source import REPOSITORY

pytestmark = [pytest.mark.packages, pytest.mark.timeout(600)]

AGENT = "jobledger-agent.service"
ROUND = "jobledger-agent-once.service"
TIMER = "jobledger-agent-once.timer"
DROP_INS = f"/run/systemd/system/{AGENT}.d"
TOKEN_FILE = "/etc/credstore/jobledger-agent.token"
SETTINGS = """\
[agent]
name = "packaged"
[collector]
address = "127.0.0.1:{port}"
[metrics]
listen = "127.0.0.1:{metrics}"
[[source]]
kind = "sacct"
clusters = ["{cluster}"]
slurm_conf = "{slurm_conf}"
poll_interval_s = 1
"""


class Site(NamedTuple):
    """A lab, a collector that asks for a token, and a machine with the agent installed."""

    lab: Lab
    machine: Machine
    url: str
    folder: Path


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if missing_programs():
        pytest.skip("Slurm is not installed: make test-packages installs it")
    # Not below /tmp or /var/tmp: the unit has those to itself.
    with a_lab("/srv") as slurm:
        yield slurm


@pytest.fixture(scope="module")
def site(
    lab: Lab,
    deb: Path,
    a_machine: Callable[..., Machine],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    url = f"sqlite:///{folder}/books.db"
    jobledger(url, "migrate", module="jobledger_collector.cli")
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    port, metrics = free_ports(2)
    collector = start_collector(
        url, port, folder / "collector.log",
        environment={"JOBLEDGER_COLLECTOR_SERVER_TOKEN_FILE": str(token)},
    )  # fmt: skip
    with collector:
        machine = a_machine(lab.home)
        machine.install(deb)
        machine.boot()
        settings = SETTINGS.format(
            port=port, metrics=metrics, cluster=CLUSTER, slurm_conf=lab.slurm_conf
        )
        machine.write("/etc/jobledger/agent.toml", settings.encode())
        machine.write(TOKEN_FILE, token.read_bytes(), mode=0o600)
        machine.write(f"{DROP_INS}/credentials.conf", credentials_drop_in())
        machine.must("systemctl", "daemon-reload")
        yield Site(lab, machine, url, folder)


def credentials_drop_in() -> bytes:
    """The one that is shipped, without the line of the key, as it says itself."""
    text = (REPOSITORY / "systemd/drop-ins/agent-credentials.conf").read_text()
    return "".join(re.findall(r"(?m)^(?!.*KEY_FILE).*\n", text)).encode()


def jobledger(url: str, *arguments: str, module: str = "jobledger_collector.admin.cli") -> str:
    """Run a program of ours on the site's database; what it printed."""
    where = ("--db", url)
    words = (*arguments, *where) if module.endswith("collector.cli") else (*where, *arguments)
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def delivered(site: Site) -> set[tuple[int, int]]:
    """(job id, submit) of every ended run in the books."""
    rows = map(json.loads, jobledger(site.url, "jobs", "--json").splitlines())
    return {(int(row["job_id_raw"]), int(row["submit"])) for row in rows if row["end"]}


def run_jobs(site: Site, count: int = 2) -> None:
    """Let jobs of both users begin and end."""
    users = site.lab.job_users
    for number in range(count):
        wait_for_state(
            site.lab, submit(site.lab, users[number % len(users)], script="true"), "COMPLETED"
        )


def expect_all_delivered(site: Site, unit: str = AGENT) -> None:
    """Every run that slurmdbd knows to have ended is in the books."""
    wait_for(
        lambda: (
            not site.lab.must("squeue", "-h").strip()
            and {row.key for row in truth.rows(site.lab)} == delivered(site)
        ),
        lambda: (
            f"{len(delivered(site))} of {len(truth.rows(site.lab))} were delivered:\n"
            f"{site.machine.journal(unit)[-4000:]}"
        ),
    )


def started(site: Site) -> str:
    """Start the service from where nothing runs; its process as the machine counts."""
    site.machine.must("systemctl", "stop", TIMER, ROUND, AGENT)
    site.machine.run("systemctl", "reset-failed", AGENT)
    # Type=notify: this returns when the agent has said READY=1.
    site.machine.must("systemctl", "start", AGENT)
    assert site.machine.shown(AGENT, "ActiveState") == "active"
    return site.machine.shown(AGENT, "MainPID")


# --------------------------------------------------------------------- the main thing


def test_records_of_a_real_slurm_arrive_through_the_unit(site: Site) -> None:
    run_jobs(site)
    started(site)
    expect_all_delivered(site)
    assert len(delivered(site)) >= 2
    run_jobs(site)
    expect_all_delivered(site)
    assert site.machine.shown(AGENT, "NRestarts") == "0"


def test_the_credential_is_root_s_and_the_agent_s_alone(site: Site) -> None:
    started(site)
    folder = f"/run/credentials/{AGENT}"
    uid = site.machine.must("id", "-u", "jobledger-agent").strip()
    assert site.machine.must("stat", "-c", "%a %u", folder).split() == ["500", uid]
    assert site.machine.run("runuser", "-u", "daemon", "--", "ls", folder).returncode != 0
    # Its original it could not read by itself.
    done = site.machine.run("runuser", "-u", "jobledger-agent", "--", "cat", TOKEN_FILE)
    assert done.returncode != 0


def test_munge_names_the_agent_s_own_user_through_private_users(site: Site) -> None:
    pid = started(site)
    uid = site.machine.must("id", "-u", "jobledger-agent").strip()
    # Its users are itself and root, nobody else ...
    mapped = [line.split() for line in site.machine.read(f"/proc/{pid}/uid_map").splitlines()]
    assert mapped == [["0", "0", "1"], [uid, uid, "1"]]
    # ... and that is who munge says it is, which is all that Slurm goes by.
    socket = site.lab.home / "munge/main.sock"
    made = as_the_agent(site, "python3", "-c", CREDENTIAL, str(socket), namespaces=("-m", "-U"))
    shown = subprocess.run(
        ["unmunge", "--socket", socket, "--no-output", "--metadata=-", "--keys=UID,STATUS"],
        input=made.stdout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Success" in shown.stdout, made.stderr + shown.stderr
    assert f"({uid})" in shown.stdout


CREDENTIAL = """\
import ctypes, sys
munge = ctypes.CDLL("libmunge.so.2")
munge.munge_ctx_create.restype = ctypes.c_void_p
context = ctypes.c_void_p(munge.munge_ctx_create())
SOCKET = 8  # MUNGE_OPT_SOCKET
if munge.munge_ctx_set(context, SOCKET, sys.argv[1].encode()):
    sys.exit("no context")
made = ctypes.c_char_p()
if error := munge.munge_encode(ctypes.byref(made), context, None, 0):
    sys.exit(f"munge says {error}")
print(made.value.decode())
"""


# -------------------------------------------------------------------------- hardening


def test_the_process_has_no_power(site: Site) -> None:
    pid = started(site)
    status = dict(
        line.split(":\t", 1)
        for line in site.machine.read(f"/proc/{pid}/status").splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split()[0] != "0"
    assert {status[key] for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_slurmctld_wins(site: Site) -> None:
    pid = started(site)
    assert site.machine.read(f"/proc/{pid}/oom_score_adj").strip() == "500"
    # What follows the name: the 17th is niceness (proc_pid_stat(5)).
    assert site.machine.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[16] == "10"
    assert site.machine.must("ionice", "-p", pid).strip() == "idle"
    assert site.machine.shown(AGENT, "CPUQuotaPerSecUSec") == "500ms"
    assert site.machine.shown(AGENT, "OOMPolicy") == "continue"


@pytest.mark.parametrize(
    "path", ["/usr/x", "/etc/jobledger/x", "/etc/jobledger/agent/x", "/var/x", "/run/x", "/home/x"]
)
def test_the_system_is_read_only_for_it(site: Site, path: str) -> None:
    done = as_the_agent(site, "touch", path)
    assert done.returncode != 0
    assert re.search("Read-only|Permission denied", done.stderr)


def test_its_spool_is_writable_and_temporary_files_are_its_own(site: Site) -> None:
    assert as_the_agent(site, "touch", "/var/lib/jobledger-agent/x", "/tmp/x").returncode == 0  # noqa: S108
    assert not site.machine.exists("/tmp/x")  # noqa: S108
    assert site.machine.must("stat", "-c", "%a", "/var/lib/jobledger-agent").strip() == "700"
    spool = "/var/lib/jobledger-agent/spool.db"
    assert site.machine.must("stat", "-c", "%a", spool).strip() == "600"


def as_the_agent(
    site: Site, *command: str, namespaces: tuple[str, ...] = ("-m",)
) -> subprocess.CompletedProcess[str]:
    """Run a command with the agent's user and view of the file system."""
    pid = started(site)
    uid = site.machine.must("id", "-u", "jobledger-agent").strip()
    gid = site.machine.must("id", "-g", "jobledger-agent").strip()
    return site.machine.run("nsenter", "-t", pid, *namespaces, "-S", uid, "-G", gid, "--", *command)


SEND = """import os, socket, sys
with open(sys.argv[1], "w") as group:
    group.write(str(os.getpid()))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    try:
        sender.sendto(b"x", (sys.argv[2], 9))
    except PermissionError:
        sys.exit("refused")
    except OSError:
        pass  # no way there, but nobody forbade it
"""


@pytest.mark.parametrize(
    ("address", "allowed", "is_refused"),
    [
        ("127.0.0.1", "", False),
        ("192.0.2.10", "", True),
        ("192.0.2.10", "192.0.2.10", False),
        ("192.0.2.11", "192.0.2.10", True),
    ],
)
def test_it_speaks_only_to_whom_a_drop_in_names(
    site: Site, address: str, allowed: str, is_refused: bool
) -> None:
    drop_in = f"{DROP_INS}/network.conf"
    try:
        if allowed:
            site.machine.write(drop_in, f"[Service]\nIPAddressAllow={allowed}\n".encode())
        site.machine.must("systemctl", "daemon-reload")
        started(site)
        group = f"/sys/fs/cgroup/system.slice/{AGENT}/cgroup.procs"
        done = site.machine.run("python3", "-c", SEND, group, address)
        assert (done.stderr.strip() == "refused") is is_refused, done.stderr
    finally:
        site.machine.must("rm", "-f", drop_in)
        site.machine.must("systemctl", "daemon-reload")


# ---------------------------------------------------------- when something is not well


def test_an_agent_that_hangs_is_started_again_and_loses_nothing(site: Site) -> None:
    drop_in = f"{DROP_INS}/watchdog.conf"
    site.machine.write(drop_in, b"[Service]\nWatchdogSec=3\nRestartSec=1\n")
    try:
        site.machine.must("systemctl", "daemon-reload")
        pid = started(site)
        time.sleep(4)
        # WATCHDOG=1 comes in time ...
        assert site.machine.shown(AGENT, "MainPID") == pid
        # ... until nothing comes any more.
        site.machine.must("sh", "-c", f"kill -STOP {pid}")
        wait_for(
            lambda: (
                site.machine.shown(AGENT, "NRestarts") not in ("", "0")
                and site.machine.shown(AGENT, "ActiveState") == "active"
            ),
            lambda: site.machine.journal(AGENT)[-2000:],
        )
        assert site.machine.shown(AGENT, "MainPID") != pid
        run_jobs(site)
        expect_all_delivered(site)
    finally:
        site.machine.must("rm", "-f", drop_in)
        site.machine.must("systemctl", "daemon-reload")


def test_an_agent_that_was_killed_is_started_again(site: Site) -> None:
    pid = started(site)
    site.machine.must("sh", "-c", f"kill -KILL {pid}")
    wait_for(
        lambda: (
            site.machine.shown(AGENT, "MainPID") not in ("0", pid)
            and site.machine.shown(AGENT, "ActiveState") == "active"
        ),
        lambda: site.machine.journal(AGENT)[-2000:],
    )


def test_refused_settings_are_told_once_and_wait_for_a_person(site: Site) -> None:
    site.machine.must("systemctl", "stop", AGENT)
    good = site.machine.read("/etc/jobledger/agent.toml")
    site.machine.write("/etc/jobledger/agent.toml", f"{good}\n[agnet]\n".encode())
    try:
        assert site.machine.run("systemctl", "start", AGENT).returncode != 0
        assert site.machine.shown(AGENT, "ActiveState") == "failed"
        assert site.machine.shown(AGENT, "ExecMainStatus") == "3"
        assert "agnet" in site.machine.journal(AGENT)
    finally:
        site.machine.write("/etc/jobledger/agent.toml", good.encode())


def test_without_credentials_and_environment_files_it_starts(site: Site) -> None:
    started(site)
    shown = site.machine.must("systemctl", "cat", AGENT)
    assert "LoadCredential=jobledger-agent.key" in shown
    assert not site.machine.exists("/etc/credstore/jobledger-agent.key")
    assert not site.machine.exists("/etc/default/jobledger-agent")


# -------------------------------------------------------------------- kick, and timer


def test_only_slurm_s_user_can_kick(site: Site) -> None:
    kick = "/run/jobledger-agent/kick"
    site.machine.must("touch", "-d", "2020-01-01", kick)
    script = "/usr/lib/jobledger-agent/jobledger-kick"
    assert site.machine.run("runuser", "-u", "daemon", "--", script).returncode == 0
    assert site.machine.must("stat", "-c", "%Y", kick).strip() == "1577836800"
    assert site.machine.run("runuser", "-u", "slurm", "--", script).returncode == 0
    assert int(site.machine.must("stat", "-c", "%Y", kick)) > 1_700_000_000


def test_a_timer_does_in_rounds_what_the_daemon_does_and_they_exclude_each_other(
    site: Site,
) -> None:
    started(site)
    site.machine.must("mkdir", "-p", f"/run/systemd/system/{ROUND}.d")
    site.machine.write(f"/run/systemd/system/{ROUND}.d/credentials.conf", credentials_drop_in())
    site.machine.must("systemctl", "daemon-reload")
    site.machine.must("systemctl", "start", TIMER)
    wait_for(
        lambda: site.machine.shown(AGENT, "ActiveState") == "inactive",
        lambda: site.machine.journal(AGENT)[-2000:],
    )
    run_jobs(site)
    # Type=oneshot: this returns when the round is over.
    site.machine.must("systemctl", "start", ROUND)
    expect_all_delivered(site, ROUND)
    site.machine.must("systemctl", "start", AGENT)
    assert site.machine.shown(TIMER, "ActiveState") == "inactive"


# ------------------------------------------------------------------- the first record


def test_from_the_package_to_the_first_record_as_the_manual_says(
    lab: Lab, deb: Path, a_machine: Callable[..., Machine], tmp_path: Path
) -> None:
    """One command on each side; the only thing edited by hand is what no program can know."""
    url = f"sqlite:///{tmp_path}/books.db"
    jobledger(url, "migrate", module="jobledger_collector.cli")
    port, metrics = free_ports(2)
    machine = a_machine(lab.home)
    machine.install(deb)
    machine.boot()
    with start_collector(url, port, tmp_path / "collector.log"):
        code = jobledger(url, "agents", "add", CLUSTER, "--address", f"127.0.0.1:{port}")
        machine.write("/root/code", code.encode(), mode=0o600)
        enrolled = machine.run("jobledger-agent", "enroll", "--file", "/root/code", "--write")
        assert enrolled.returncode == 0, enrolled.stderr
        assert f"name {CLUSTER}" in enrolled.stdout + enrolled.stderr
        machine.must(
            "sed", "-i",
            "-e", f's/^clusters = .*/clusters = ["{CLUSTER}"]/',
            "-e", f's|^slurm_conf = .*|slurm_conf = "{lab.slurm_conf}"|',
            "-e", f's/^listen = .*/listen = "127.0.0.1:{metrics}"/',
            "/etc/jobledger/agent.toml",
        )  # fmt: skip
        as_itself = ("runuser", "--user=jobledger-agent", "--", "jobledger-agent")
        told = json.loads(machine.run(*as_itself, "doctor", "--json").stdout)
        assert told
        machine.must("systemctl", "enable", "--now", AGENT)
        site = Site(lab, machine, url, tmp_path)
        run_jobs(site)
        expect_all_delivered(site)
        shown = json.loads(machine.must("jobledger-agent", "status", "--json"))
        assert shown


# ---------------------------------------------------- upgrade and removal, while it runs


def test_an_upgrade_restarts_what_runs_and_starts_nothing(
    site: Site, deb: Path, tmp_path: Path
) -> None:
    first = started(site)
    site.machine.install(another_version(deb, tmp_path, "98.0-1", ""))
    second = site.machine.shown(AGENT, "MainPID")
    assert second not in ("0", first)
    assert site.machine.shown(AGENT, "ActiveState") == "active"

    site.machine.must("systemctl", "stop", AGENT)
    site.machine.install(another_version(deb, tmp_path, "99.0-1", ""))
    assert site.machine.shown(AGENT, "ActiveState") == "inactive"
    assert site.machine.shown(AGENT, "UnitFileState") == "disabled"


def processes_of_the_agent(site: Site) -> list[str]:
    """Every process of the agent's user, as the machine counts."""
    listed = site.machine.run("find", "/proc", "-maxdepth", "1", "-user", "jobledger-agent")
    return listed.stdout.split()


def test_a_removal_ends_it_and_an_installation_goes_on_where_it_was(site: Site, deb: Path) -> None:
    started(site)
    assert processes_of_the_agent(site)
    site.machine.must("dpkg", "--remove", "jobledger-agent")
    assert processes_of_the_agent(site) == []
    assert site.machine.exists("/var/lib/jobledger-agent/spool.db")
    run_jobs(site)
    site.machine.install(deb)
    started(site)
    expect_all_delivered(site)
