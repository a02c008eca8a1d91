"""The .deb: the assembled tree, and debhelper for all that Debian wants of a package."""

import shutil
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Final

from scripts.package import tree
from scripts.package.plan import MAINTAINER, NAME, PRIVATE, REVISION, Plan

TEMPLATES: Final = "packaging/deb"
DEFAULT_PYTHON: Final = "3.11"
"""Debian 12's; a package for another is a later version, so that an upgrade of Debian takes it."""
_EXECUTABLE: Final = 0o755


def version(plan: Plan) -> str:
    """Return Debian's version, as in 0.2.0-1 or 0.2.0+py3.13-1."""
    suffix = "" if plan.python == DEFAULT_PYTHON else f"+py{plan.python}"
    return f"{plan.version}{suffix}-{REVISION}"


def build(plan: Plan) -> Path:
    """Make OUT/jobledger-agent_VERSION_amd64.deb and return its path. Raises BuildError."""
    source = tree.build(plan)
    folder = plan.out / "deb"
    shutil.rmtree(folder, ignore_errors=True)
    _copy(plan, source, folder / "tree")
    (folder / "upstream").mkdir()
    shutil.copyfile(plan.source / "CHANGELOG.md", folder / "upstream/CHANGELOG.md")
    _write_debian(plan, folder / "debian")
    plan.run("make", "-f", "debian/rules", "binary", cwd=folder)
    (made,) = plan.out.glob(f"{NAME}_{version(plan)}_*.deb")
    return made


def _copy(plan: Plan, source: Path, target: Path) -> None:
    """Debian's places: units in /lib, the program in /usr/bin."""
    shutil.copytree(source, target)
    (target / "lib").mkdir()
    shutil.move(target / "usr/lib/systemd", target / "lib/systemd")
    program = target / "usr/bin" / NAME
    program.parent.mkdir()
    text = tree.launcher("/usr/bin/python3", repr(f"/{PRIVATE}/site-packages"), plan.python)
    program.write_text(text)
    program.chmod(_EXECUTABLE)


def _write_debian(plan: Plan, folder: Path) -> None:
    major, minor = plan.python.split(".")
    moment = datetime.fromtimestamp(plan.epoch_s, UTC)
    holes = {
        "@MAINTAINER@": MAINTAINER,
        "@VERSION@": version(plan),
        "@DATE@": format_datetime(moment),
        "@PYTHON@": plan.python,
        "@NEXT_PYTHON@": f"{major}.{int(minor) + 1}",
    }
    folder.mkdir(parents=True)
    for template in sorted((plan.source / TEMPLATES).iterdir()):
        text = template.read_text()
        for hole, filling in holes.items():
            text = text.replace(hole, filling)
        target = folder / _PLACES.get(template.name, template.name)
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
    (folder / "rules").chmod(_EXECUTABLE)


_PLACES: Final = {
    "source-format": "source/format",
    "lintian-overrides": f"{NAME}.lintian-overrides",
    "copyright.in": "copyright",
}
