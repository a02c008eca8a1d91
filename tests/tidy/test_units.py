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


def test_there_is_one_unit_a_program() -> None:
    assert [unit.stem for unit in UNITS] == [
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
    assert set(programs) == {unit.stem}
    assert unit.stem in project["scripts"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_its_command_lines_are_understood(unit: Path) -> None:
    lines = re.findall(
        r"^ExecStart(?:Pre)?=(\S+) (\S+) (--\w+) \S+$", unit.read_text(), re.MULTILINE
    )
    assert lines
    for path, command, option in lines:
        program = Path(sys.executable).parent / Path(path).name
        done = subprocess.run(
            [program, command, "--help"], capture_output=True, text=True, check=True
        )
        assert option in done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_its_user_and_group_are_made(unit: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", str(SYSTEMD / "jobledger.sysusers")],
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
