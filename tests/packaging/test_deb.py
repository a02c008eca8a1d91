"""The .deb in a clean Debian: what it brings, what it leaves alone, what it never deletes.

No systemd runs here, as in an image that is being built; test_boot.py has one.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.package import debian
from scripts.package.plan import Plan
from tests.packaging.machine import Machine, MachineError

pytestmark = [pytest.mark.packages, pytest.mark.timeout(900)]

CONFIG = "/etc/jobledger/agent.toml"
SPOOL = "/var/lib/jobledger-agent/spool.db"
LIBRARIES = "/usr/lib/jobledger-agent/site-packages"


@pytest.fixture(scope="module")
def installed(a_machine: Callable[..., Machine], deb: Path) -> Machine:
    machine = a_machine()
    machine.install(deb)
    return machine


def another_version(deb: Path, folder: Path, version: str, config: str) -> Path:
    """The same package under another version with other settings to start from."""
    tree = folder / version
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text()))
    (tree / CONFIG.lstrip("/")).write_text(config)
    target = folder / f"jobledger-agent_{version}_amd64.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", tree, target], check=True
    )
    shutil.rmtree(tree)
    return target


# ------------------------------------------------------------------- the package itself


def test_lintian_finds_nothing(deb: Path) -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", "--tag-display-limit", "0", "--fail-on", "warning,error", deb],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_two_builds_are_the_same_bytes(
    deb: Path, chosen: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    (tmp_path / "elsewhere").mkdir()
    again = debian.build(chosen._replace(out=tmp_path / "elsewhere"))
    assert again.read_bytes() == deb.read_bytes()


def test_it_is_small_and_holds_the_agent_only(deb: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "-c", deb], capture_output=True, text=True, check=True)
    assert deb.stat().st_size < 8 << 20
    for other in ("sqlalchemy", "flask", "weasyprint", "psycopg2", "jobledger_collector"):
        assert other not in listed.stdout.lower()


# ------------------------------------------------------------------------- installation


def test_the_program_runs_with_its_own_libraries(installed: Machine, chosen: Plan) -> None:
    assert installed.must("jobledger-agent", "--version") == f"jobledger-agent {chosen.version}\n"
    installed.write("/srv/elsewhere/grpc.py", b"raise SystemExit('not this one')\n")
    done = installed.run("env", "PYTHONPATH=/srv/elsewhere", "jobledger-agent", "doctor", "--help")
    assert done.returncode == 0


def test_the_libraries_are_compiled(installed: Machine) -> None:
    assert installed.exists(f"{LIBRARIES}/jobledger_agent/__pycache__/cli.cpython-311.pyc")


@pytest.mark.parametrize(
    ("path", "owner", "mode"),
    [
        ("/etc/jobledger", "root:root", "755"),
        (CONFIG, "root:root", "644"),
        ("/etc/jobledger/agent", "root:jobledger-agent", "750"),
        ("/usr/bin/jobledger-agent", "root:root", "755"),
        ("/usr/lib/jobledger-agent/jobledger-kick", "root:root", "755"),
        (LIBRARIES, "root:root", "755"),
        ("/var/lib/jobledger-agent", "jobledger-agent:jobledger-agent", "700"),
        ("/lib/systemd/system/jobledger-agent.service", "root:root", "644"),
        ("/lib/systemd/system/jobledger-agent-once.timer", "root:root", "644"),
    ],
)
def test_each_file_has_its_owner_and_mode(
    installed: Machine, path: str, owner: str, mode: str
) -> None:
    assert installed.must("stat", "-c", "%U:%G %a", path).split() == [owner, mode]


def test_the_user_can_do_nothing_else(installed: Machine) -> None:
    _, _, _, _, _, home, shell = installed.must("getent", "passwd", "jobledger-agent").split(":")
    assert (home, shell.strip()) == ("/var/lib/jobledger-agent", "/usr/sbin/nologin")


def test_nothing_is_enabled(installed: Machine) -> None:
    listed = installed.must("find", "/etc/systemd/system", "-name", "jobledger*")
    assert listed == ""


def test_the_units_start_what_is_installed(installed: Machine) -> None:
    units = installed.must("sh", "-c", "cat /lib/systemd/system/jobledger-agent*.service")
    started = re.findall(r"^ExecStart=(\S+)", units, re.MULTILINE)
    assert set(started) == {"/usr/bin/jobledger-agent"}
    assert "/opt/" not in units


def test_systemd_understands_the_installed_units(installed: Machine) -> None:
    done = installed.run(
        "sh", "-c", "systemd-analyze verify --man=yes /lib/systemd/system/jobledger-agent*"
    )
    said = [line for line in done.stderr.splitlines() if "jobledger" in line]
    assert said == []


def test_the_settings_file_is_kept_by_dpkg(installed: Machine) -> None:
    assert CONFIG in installed.must("dpkg-query", "-f", "${Conffiles}", "-W", "jobledger-agent")


def test_the_manual_is_found_by_name(installed: Machine) -> None:
    for page in (("1", "jobledger-agent"), ("5", "jobledger-agent.toml")):
        assert installed.must("man", "-w", *page).strip().endswith(".gz")


def test_every_library_brings_its_licence_and_is_in_the_bill(installed: Machine) -> None:
    folder = "/usr/share/doc/jobledger-agent"
    bill = json.loads(installed.read(f"{folder}/sbom.cdx.json"))
    named = {each["name"].replace("-", "_") for each in bill["components"]}
    shipped = installed.must("ls", LIBRARIES).split()
    infos = {each.partition("-")[0] for each in shipped if each.endswith(".dist-info")}
    assert named == infos - {"jobledger"}
    licences = installed.must("ls", f"{folder}/third-party").split()
    without = {name for name in named if not any(each.startswith(name) for each in licences)}
    assert without == set()
    assert all(len(each["hashes"]) >= 1 for each in bill["components"])


def test_the_settings_as_installed_are_understood(installed: Machine) -> None:
    assert installed.must("jobledger-agent", "check-config").startswith("the settings are right")


# ------------------------------------------------------------- upgrade, removal, again


def test_what_a_person_wrote_and_what_waits_survives_everything(
    a_machine: Callable[..., Machine], deb: Path, tmp_path: Path
) -> None:
    machine = a_machine()
    machine.install(deb)
    machine.must("mkdir", "-p", str(Path(SPOOL).parent))
    machine.must("sh", "-c", f"echo records > {SPOOL}; echo '# mine' >> {CONFIG}")
    machine.must("sh", "-c", "echo secret > /etc/jobledger/agent/token")
    mine = machine.read(CONFIG)

    machine.install(another_version(deb, tmp_path, "99.0-1", "# theirs\n"))
    assert machine.read(CONFIG) == mine
    assert machine.read(SPOOL) == "records\n"

    machine.must("dpkg", "--remove", "jobledger-agent")
    assert not machine.exists("/usr/bin/jobledger-agent")
    assert not machine.exists("/usr/lib/jobledger-agent")
    assert machine.read(CONFIG) == mine
    assert machine.read(SPOOL) == "records\n"

    machine.install(deb)
    assert machine.read(CONFIG) == mine

    said = machine.must("dpkg", "--purge", "jobledger-agent")
    assert "kept the spool in /var/lib/jobledger-agent" in said
    assert not machine.exists(CONFIG)
    assert machine.read(SPOOL) == "records\n"
    assert machine.read("/etc/jobledger/agent/token") == "secret\n"

    machine.install(deb)
    assert machine.read(SPOOL) == "records\n"


def test_settings_that_nobody_touched_follow_the_package(
    a_machine: Callable[..., Machine], deb: Path, tmp_path: Path
) -> None:
    machine = a_machine()
    machine.install(deb)
    machine.install(another_version(deb, tmp_path, "99.0-1", "# theirs\n"))
    assert machine.read(CONFIG) == "# theirs\n"


def test_another_python_is_refused_by_the_system_and_by_the_program(
    a_machine: Callable[..., Machine], chosen: Plan, tmp_path: Path
) -> None:
    other = debian.build(chosen._replace(out=tmp_path, python="3.13"))
    machine = a_machine()
    with pytest.raises(MachineError, match="python3"):
        machine.install(other)
    machine.write(f"/var/cache/{other.name}", other.read_bytes())
    machine.run("dpkg", "--force-depends", "--unpack", f"/var/cache/{other.name}")
    done = machine.run("jobledger-agent", "--version")
    assert done.returncode == 1
    assert "made for Python 3.13" in done.stderr
