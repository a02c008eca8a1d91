"""The systemd units: valid, hardened, and agreeing with the programs they start.

systemd-analyze looks at files alone; no running systemd is needed.
"""

import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.tidy.source import REPOSITORY

SYSTEMD = REPOSITORY / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
WORST_EXPOSURE = 10
"""In tenths, as systemd-analyze counts: 1.0 of 10, "OK" at worst."""
PROGRAM = re.compile(r"/opt/jobledger/bin/(\S+)")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def exposure_is_small(unit: Path) -> bool:
    done = analyze("security", "--offline=true", f"--threshold={WORST_EXPOSURE}", str(unit))
    return done.returncode == 0


def complaints(unit: Path) -> str:
    """What systemd says of a unit's lines: it exits 0 even when it ignores one."""
    done = analyze("verify", "--recursive-errors=no", "--man=no", str(unit))
    return done.stderr + done.stdout


def installed(unit: Path, folder: Path) -> Path:
    """A copy whose programs exist, as they would once installed."""
    copy = folder / unit.name
    copy.write_text(PROGRAM.sub("/bin/true", unit.read_text()))
    return copy


def settings(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # keys have capitals
    parser.read_string(unit.read_text())
    return parser


def program(unit: Path) -> str:
    """The program of a unit; the agent has a second unit, for a timer."""
    return unit.stem.removesuffix("-once")


def test_there_is_one_unit_a_program_and_one_for_the_timer() -> None:
    assert [unit.stem for unit in UNITS] == [
        "jobledger-agent-once",
        "jobledger-agent",
        "jobledger-collector",
        "jobledger-web",
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_exposure_is_small(unit: Path) -> None:
    assert exposure_is_small(unit)


@pytest.mark.parametrize("line", ["ProtectSystem=strict", "CapabilityBoundingSet="])
def test_a_lost_protection_is_seen(tmp_path: Path, line: str) -> None:
    weaker = tmp_path / "weaker.service"
    text = UNITS[0].read_text()
    assert f"\n{line}\n" in text
    weaker.write_text(text.replace(f"\n{line}\n", "\n"))
    assert not exposure_is_small(weaker)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_systemd_understands_every_line(unit: Path, tmp_path: Path) -> None:
    assert complaints(installed(unit, tmp_path)) == ""


def test_a_misspelt_line_is_seen(tmp_path: Path) -> None:
    copy = installed(UNITS[0], tmp_path)
    copy.write_text(copy.read_text().replace("ProtectHome=", "ProtectHomes="))
    assert "ProtectHomes" in complaints(copy)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_it_starts_a_program_that_the_package_installs(unit: Path) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    programs = PROGRAM.findall(unit.read_text())
    assert programs
    assert set(programs) == {program(unit)}
    assert program(unit) in project["scripts"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_its_command_lines_are_understood(unit: Path) -> None:
    lines = re.findall(r"^ExecStart(?:Pre)?=(\S+) (\S+) (.+)$", unit.read_text(), re.MULTILINE)
    assert lines
    for path, command, rest in lines:
        done = subprocess.run(
            [Path(sys.executable).parent / Path(path).name, command, "--help"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        options = [word for word in rest.split() if word.startswith("-")]
        assert "--config" in options
        assert [option for option in options if option not in done.stdout] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_its_user_and_group_are_made(unit: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", *map(str, SYSTEMD.glob("*.sysusers"))],
        check=True,
        capture_output=True,
    )
    service = settings(unit)["Service"]
    assert f"\n{service['User']}:" in "\n" + (tmp_path / "etc" / "passwd").read_text()
    assert f"\n{service['Group']}:" in "\n" + (tmp_path / "etc" / "group").read_text()


def calls(name: str) -> set[str]:
    """A system call, or all calls of a group such as @system-service."""
    if not name.startswith("@"):
        return {name}
    listed = (line.strip() for line in analyze("syscall-filter", name).stdout.splitlines()[1:])
    return {call for line in listed if line and line[0] != "#" for call in calls(line)}


def allowed_calls(unit: Path) -> set[str]:
    """What the unit's filters leave, taken in their order."""
    left: set[str] = set()
    for filters in re.findall(r"^SystemCallFilter=(.+)$", unit.read_text(), re.MULTILINE):
        named = {call for name in filters.removeprefix("~").split() for call in calls(name)}
        left = left - named if filters.startswith("~") else left | named
    return left


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_what_no_unit_needs_is_refused_by_the_kernel(unit: Path) -> None:
    assert allowed_calls(unit).isdisjoint({"mount", "ptrace", "chown", "setuid", "reboot"})


def test_the_web_may_limit_the_process_that_draws_a_pdf() -> None:
    (web,) = (unit for unit in UNITS if unit.stem == "jobledger-web")
    assert "prlimit64" in allowed_calls(web)


@pytest.mark.parametrize(
    "drop_in", sorted((SYSTEMD / "drop-ins").iterdir()), ids=lambda path: str(path.stem)
)
def test_a_unit_with_its_drop_in_is_understood_and_safe(drop_in: Path, tmp_path: Path) -> None:
    unit = SYSTEMD / f"jobledger-{drop_in.stem.partition('-')[0]}.service"
    copy = installed(unit, tmp_path)
    folder = tmp_path / f"{unit.name}.d"
    folder.mkdir()
    (folder / drop_in.name).write_text(drop_in.read_text())
    assert complaints(copy) == ""
    assert exposure_is_small(copy)


@pytest.mark.parametrize("name", ["agent", "collector", "web"])
def test_all_drop_ins_of_a_unit_together_are_safe(name: str, tmp_path: Path) -> None:
    copy = installed(SYSTEMD / f"jobledger-{name}.service", tmp_path)
    folder = tmp_path / f"{copy.name}.d"
    folder.mkdir()
    for each in sorted((SYSTEMD / "drop-ins").glob(f"{name}-*.conf")):
        (folder / each.name).write_text(each.read_text())
    assert complaints(copy) == ""
    assert exposure_is_small(copy)


AGENT_UNITS = tuple(unit for unit in UNITS if program(unit) == "jobledger-agent")


@pytest.mark.parametrize("unit", AGENT_UNITS, ids=lambda unit: str(unit.stem))
@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("Nice", {"10"}),
        ("IOSchedulingClass", {"idle"}),
        ("CPUQuota", {"50%"}),
        ("CPUWeight", {"20"}),
        ("MemoryMax", {"512M"}),
        ("TasksMax", {"64"}),
        ("OOMScoreAdjust", {"500"}),
        # The kernel ends a sacct whose answer is too large, and the agent goes on.
        ("OOMPolicy", {"continue"}),
    ],
)
def test_slurmctld_always_wins(unit: Path, key: str, values: set[str]) -> None:
    assert set(re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)) == values


def test_daemon_and_timer_are_confined_alike() -> None:
    daemon, once = (
        unit.read_text().partition("# --- slurmctld always wins")[2].partition("[Install]")[0]
        for unit in sorted(AGENT_UNITS, key=lambda unit: len(unit.stem))
    )
    assert daemon.strip() == once.strip() != ""


def test_daemon_and_timer_exclude_each_other() -> None:
    assert (
        "\nConflicts=jobledger-agent.service\n"
        in (SYSTEMD / "jobledger-agent-once.timer").read_text()
    )


def test_systemd_understands_the_timer(tmp_path: Path) -> None:
    installed(SYSTEMD / "jobledger-agent-once.service", tmp_path)
    timer = tmp_path / "jobledger-agent-once.timer"
    timer.write_text((SYSTEMD / timer.name).read_text())
    assert complaints(timer) == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_what_is_not_there_keeps_no_unit_from_starting(unit: Path) -> None:
    text = unit.read_text()
    # Families of systems differ in where the environment lies: neither is a must.
    for folder in ("default", "sysconfig"):
        assert f"\nEnvironmentFile=-/etc/{folder}/{program(unit)}\n" in text
    # A credential with a path that does not exist is an error; one without is looked for.
    assert [
        name for name in re.findall(r"^LoadCredential=(.*)$", text, re.MULTILINE) if "/" in name
    ] == []
    assert "\nRequires=" not in text


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_it_starts_only_where_it_is_configured(unit: Path) -> None:
    (path,) = set(re.findall(r"--config (\S+)$", unit.read_text(), re.MULTILINE))
    assert f"\nConditionPathExists={path}\n" in unit.read_text()


def test_the_spool_has_its_folder_before_the_first_start() -> None:
    """``doctor`` is to be run before the service: it would find no folder and fail."""
    service = settings(SYSTEMD / "jobledger-agent.service")["Service"]
    user = service["User"]
    folder = f"/var/lib/{service['StateDirectory']}"
    lines = (SYSTEMD / "jobledger-agent.tmpfiles").read_text(encoding="utf-8").splitlines()
    assert ["d", folder, service["StateDirectoryMode"], user, user] in [
        line.split() for line in lines
    ]
