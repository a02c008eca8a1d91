"""Collector and web under their own units and a real systemd, on SQLite.

They are installed by pip; here the virtual environment of the tests stands in its
place in /opt/jobledger.
"""

import re
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.package.plan import REPOSITORY
from tests.packaging.machine import Machine, wait_for
from tests.ports import free_ports

pytestmark = [pytest.mark.packages, pytest.mark.timeout(300)]

HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/run/user")  # noqa: S108
"""What ProtectHome= and PrivateTmp= take away."""
SERVICES = ("jobledger-collector", "jobledger-web")


class Services(NamedTuple):
    """A machine in which both run, and where they listen."""

    machine: Machine
    ports: dict[str, int]


@pytest.fixture(scope="module")
def services(a_machine: Callable[..., Machine]) -> Services:
    interpreter = Path(sys.executable).resolve()
    if str(REPOSITORY).startswith(HIDDEN) or interpreter.parent != Path("/usr/bin"):
        pytest.skip("the checkout, or its Python, is where the units may not look")
    machine = a_machine(REPOSITORY)
    machine.boot()
    machine.must("ln", "-s", sys.prefix, "/opt/jobledger")
    ports = dict(zip(("collector", "web", "metrics"), free_ports(3), strict=True))
    for name in ("collector", "web"):
        unit = (REPOSITORY / f"systemd/jobledger-{name}.service").read_bytes()
        machine.write(f"/etc/systemd/system/jobledger-{name}.service", unit)
        text = (REPOSITORY / f"packaging/{name}.example.toml").read_text()
        for old, new in (("7610", "collector"), ("8080", "web"), ("7612", "metrics")):
            text = re.sub(rf'^(listen = "127\.0\.0\.1:){old}"', rf'\g<1>{ports[new]}"', text,
                          flags=re.MULTILINE)  # fmt: skip
        machine.write(f"/etc/jobledger/{name}.toml", text.encode())
    for name in ("network", "sqlite"):
        drop_in = (REPOSITORY / f"systemd/drop-ins/web-{name}.conf").read_bytes()
        machine.write(f"/etc/systemd/system/jobledger-web.service.d/{name}.conf", drop_in)
    for kind in ("sysusers", "tmpfiles"):
        machine.write(f"/usr/lib/{kind}.d/jobledger.conf",
                      (REPOSITORY / f"systemd/jobledger.{kind}").read_bytes())  # fmt: skip
    machine.must("systemd-sysusers", "jobledger.conf")
    machine.must("systemd-tmpfiles", "--create", "jobledger.conf")
    machine.must("systemctl", "daemon-reload")
    for name in SERVICES:
        machine.must("systemctl", "start", name)
    return Services(machine, ports)


@pytest.mark.parametrize("name", SERVICES)
def test_it_runs_with_no_power(services: Services, name: str) -> None:
    machine = services.machine
    assert machine.shown(name, "ActiveState") == "active", machine.journal(name)
    pid = machine.shown(name, "MainPID")
    status = machine.read(f"/proc/{pid}/status")
    assert re.search(r"^CapBnd:\s+0{16}$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    assert not re.search(r"^Uid:\s+0\s", status, re.MULTILINE)


def test_the_web_answers_from_the_collector_s_database(services: Services) -> None:
    # A real page: its schema was made by the collector's ExecStartPre.
    address = f"http://127.0.0.1:{services.ports['web']}/login"
    wait_for(lambda: page(address), lambda: services.machine.journal("jobledger-web"))
    assert "<form" in page(address)


def page(address: str) -> str:
    """The page there, "" while nobody answers: with Type=exec that may take a moment."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - our own
            return str(answer.read().decode())
    except OSError:
        return ""


def test_the_database_is_its_own_users_alone(services: Services) -> None:
    shown = services.machine.must("stat", "-c", "%U %a", "/var/lib/jobledger/jobledger.db")
    owner, mode = shown.split()
    assert owner == "jobledger-collector"
    assert int(mode, 8) & 0o007 == 0


@pytest.mark.parametrize("name", SERVICES)
def test_it_is_started_again(services: Services, name: str) -> None:
    machine = services.machine
    machine.write(f"/run/systemd/system/{name}.service.d/soon.conf", b"[Service]\nRestartSec=0\n")
    machine.must("systemctl", "daemon-reload")
    pid = machine.shown(name, "MainPID")
    machine.must("sh", "-c", f"kill -KILL {pid}")
    wait_for(
        lambda: (
            machine.shown(name, "MainPID") not in ("0", pid)
            and machine.shown(name, "ActiveState") == "active"
        ),
        lambda: machine.journal(name),
    )
    assert machine.run("systemctl", "is-failed", name).returncode != 0
