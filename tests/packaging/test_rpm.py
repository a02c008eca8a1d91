"""The .rpm, by rpm's own rules, on the only systemd that is here: Debian's.

Red Hat's systems have the same rpm, systemd and /usr/bin/python3.11; what cannot be
seen here is their SELinux, and that their dnf finds python3.11 for it.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.package import redhat
from scripts.package.plan import REPOSITORY, Plan
from tests.packaging.machine import Machine

pytestmark = [pytest.mark.packages, pytest.mark.timeout(900)]

CONFIG = "/etc/jobledger/agent.toml"
AGENT = "jobledger-agent.service"
SETTINGS = """\
[agent]
name = "packaged"
[metrics]
listen = ""
[[source]]
kind = "file"
path = "/srv/records.txt"
"""


def test_rpmlint_finds_nothing_that_is_not_explained(rpm: Path) -> None:
    done = subprocess.run(
        ["rpmlint", "-c", REPOSITORY / "packaging/rpm/rpmlint.toml", rpm],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, " 0 errors, 0 warnings" in done.stdout) == (0, True), done.stdout


def test_two_builds_are_the_same_bytes(rpm: Path, chosen: Plan, tmp_path: Path) -> None:
    again = redhat.build(chosen._replace(out=tmp_path))
    assert again.read_bytes() == rpm.read_bytes()


@pytest.mark.parametrize("part", ["--prein", "--postin", "--preun", "--postun"])
def test_each_script_is_shell(rpm: Path, part: str) -> None:
    name = {"--prein": "PREIN", "--postin": "POSTIN", "--preun": "PREUN", "--postun": "POSTUN"}
    script = asked(rpm, f"%{{{name[part]}}}")
    if script == "(none)":
        assert part == "--prein"  # users are made afterwards: no file is theirs
        return
    subprocess.run(["dash", "-n"], input=script, text=True, check=True)
    subprocess.run(["bash", "--posix", "-n"], input=script, text=True, check=True)
    # No failure of systemd's tools fails the transaction.
    assert script.count("systemctl") == script.count(" || :") - script.count("systemd-")


def asked(rpm: Path, form: str) -> str:
    """What rpm says of the package."""
    done = subprocess.run(
        ["rpm", "-qp", "--queryformat", form, rpm], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_settings_are_kept_and_the_libraries_offered_to_nobody(rpm: Path) -> None:
    listed = subprocess.run(["rpm", "-qpc", rpm], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [CONFIG]
    flags = asked(rpm, "[%{FILENAMES} %{FILEFLAGS:fflags}\n]")
    assert f"{CONFIG} cn\n" in flags  # config, noreplace
    offered = subprocess.run(["rpm", "-qpP", rpm], capture_output=True, text=True, check=True)
    names = {line.split()[0] for line in offered.stdout.splitlines()}
    assert {"jobledger-agent"} <= names
    assert [name for name in names if "jobledger-agent" not in name] == []


@pytest.fixture(scope="module")
def booted(a_machine: Callable[..., Machine], rpm: Path) -> Machine:
    machine = a_machine()
    machine.boot()
    machine.write("/var/cache/agent.rpm", rpm.read_bytes())
    return machine


def by_rpm(machine: Machine, *arguments: str) -> str:
    """Run rpm on a system that has another package manager, and no rpm database."""
    return machine.must("rpm", "--force-debian", "--nodeps", *arguments)


def test_installation_upgrade_and_removal(booted: Machine) -> None:
    # Installed: nothing runs, nothing is enabled.
    by_rpm(booted, "-i", "/var/cache/agent.rpm")
    assert booted.shown(AGENT, "UnitFileState") == "disabled"
    assert booted.shown(AGENT, "ActiveState") == "inactive"
    assert booted.must("stat", "-c", "%U:%G %a", "/etc/jobledger/agent").split() == [
        "root:jobledger-agent", "750",
    ]  # fmt: skip
    assert booted.must("jobledger-agent", "--version").startswith("jobledger-agent ")
    assert booted.must("man", "-w", "5", "jobledger-agent.toml").strip().endswith(".gz")

    # Enabled and started by a person.
    booted.write(CONFIG, SETTINGS.encode())
    booted.must("systemctl", "enable", "--now", AGENT)
    assert booted.shown(AGENT, "ActiveState") == "active"
    first = booted.shown(AGENT, "MainPID")

    # Upgraded: restarted, still enabled, the settings are the person's.
    by_rpm(booted, "-U", "--force", "/var/cache/agent.rpm")
    assert booted.shown(AGENT, "ActiveState") == "active"
    assert booted.shown(AGENT, "MainPID") not in ("0", first)
    assert booted.shown(AGENT, "UnitFileState") == "enabled"
    assert booted.read(CONFIG) == SETTINGS

    # Upgraded while it is stopped: it stays so.
    booted.must("systemctl", "stop", AGENT)
    by_rpm(booted, "-U", "--force", "/var/cache/agent.rpm")
    assert booted.shown(AGENT, "ActiveState") == "inactive"

    # Removed while it runs: it ends; spool and settings are there.
    booted.must("systemctl", "start", AGENT)
    said = by_rpm(booted, "-e", "jobledger-agent")
    assert "kept the spool" in said
    assert booted.shown(AGENT, "ActiveState") == "inactive"
    assert not booted.exists("/usr/lib/jobledger-agent")
    assert booted.exists("/var/lib/jobledger-agent/spool.db")
    assert booted.read(f"{CONFIG}.rpmsave") == SETTINGS
    assert not booted.exists("/etc/systemd/system/multi-user.target.wants/jobledger-agent.service")

    # Installed again: it goes on with the same spool.
    by_rpm(booted, "-i", "/var/cache/agent.rpm")
    booted.write(CONFIG, SETTINGS.encode())
    booted.must("systemctl", "start", AGENT)
    assert booted.shown(AGENT, "ActiveState") == "active"


def test_it_is_compiled_for_its_own_python_alone(booted: Machine) -> None:
    listed = booted.must(
        "find", "/usr/lib/jobledger-agent", "-name", "*.pyc", "-newermt", "2020-01-01"
    ).split()
    assert listed
    assert [path for path in listed if not path.endswith(".cpython-311.pyc")] == []
    head = booted.must("head", "-n", "1", "/usr/bin/jobledger-agent")
    assert head == "#!/usr/bin/python3.11 -ISB\n"
