"""The tarball: unpacked anywhere, moved, run by a Python that knows nothing of it."""

import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.package import tarball
from scripts.package.plan import REPOSITORY, Plan
from tests.packaging.machine import Machine

pytestmark = [pytest.mark.packages, pytest.mark.timeout(900)]

CAPTURE = REPOSITORY / "tests/data/slurm-22.05"
BARE = {"PATH": "/usr/bin:/bin", "PYTHONPATH": "/nonexistent", "PYTHONHOME": "/nonexistent"}


@pytest.fixture
def unpacked(archive: Path, tmp_path: Path) -> Path:
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path], check=True)
    (folder,) = tmp_path.iterdir()
    return folder


def test_two_builds_are_the_same_bytes(archive: Path, chosen: Plan, tmp_path: Path) -> None:
    assert tarball.build(chosen._replace(out=tmp_path)).read_bytes() == archive.read_bytes()


def test_it_unpacks_into_one_folder_that_is_root_s(archive: Path) -> None:
    with tarfile.open(archive) as packed:
        members = packed.getmembers()
    assert {member.name.partition("/")[0] for member in members} == {
        archive.name.removesuffix(".tar.gz")
    }
    assert {(member.uname, member.mode & 0o022) for member in members} == {("root", 0)}
    assert archive.stat().st_size < 12 << 20


def test_it_runs_where_it_is_put_also_through_a_link(
    unpacked: Path, tmp_path: Path, chosen: Plan
) -> None:
    moved = tmp_path / "a folder elsewhere"
    shutil.move(unpacked, moved)
    link = tmp_path / "jobledger-agent"
    link.symlink_to(moved / "bin/jobledger-agent")
    for program in (moved / "bin/jobledger-agent", link):
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=True, env=BARE, cwd="/"
        )
        assert done.stdout == f"jobledger-agent {chosen.version}\n"


def test_it_writes_nothing_into_its_folder(unpacked: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in unpacked.rglob("*")}
    subprocess.run([unpacked / "bin/jobledger-agent", "doctor", "--help"], check=True, env=BARE,
                   capture_output=True)  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in unpacked.rglob("*")} == before


def test_without_its_python_it_says_which(unpacked: Path) -> None:
    text = (unpacked / "bin/jobledger-agent").read_text()
    program = unpacked / "bin/other"
    program.write_text(text.replace("3.11", "3.99"))
    done = subprocess.run(["sh", program], capture_output=True, text=True, check=False, env=BARE)
    assert done.returncode == 1
    assert "Python 3.99 is not installed" in done.stderr


def test_the_way_in_the_manual_to_a_service_works(
    a_machine: Callable[..., Machine], archive: Path
) -> None:
    """The commands of docs/installing.md, word for word, in a clean Debian with systemd."""
    document = (REPOSITORY / "docs/installing.md").read_text()
    part = document.partition("## The tarball")[2].partition("\n## ")[0]
    commands = "\n".join(re.findall(r"(?m)^    (.+)$", part))
    machine = a_machine()
    machine.boot()
    machine.write(f"/root/{archive.name}", archive.read_bytes())
    said = machine.must("bash", "-euxc", f"cd /root\n{commands}")
    assert "the settings are right" in said
    machine.must("systemctl", "start", "jobledger-agent")
    assert machine.shown("jobledger-agent", "ActiveState") == "active"
