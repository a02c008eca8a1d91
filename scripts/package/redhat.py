"""The .rpm: the assembled tree and one spec, for every system with rpm and a fitting Python."""

import gzip
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from scripts.package import tree
from scripts.package.plan import MAINTAINER, NAME, PRIVATE, REVISION, Plan

SPEC: Final = f"packaging/rpm/{NAME}.spec.in"
_EXECUTABLE: Final = 0o755
SETTINGS: Final = {
    "_buildhost": "localhost",
    "use_source_date_epoch_as_buildtime": "1",
    "clamp_mtime_to_source_date_epoch": "1",
    "_binary_payload": "w19.zstdio",
}
"""What makes two builds the same bytes. zstd is what rpm 4.14 (EL 8) and newer can read."""


def build(plan: Plan) -> Path:
    """Make OUT/jobledger-agent-VERSION-1.x86_64.rpm and return its path. Raises BuildError."""
    source = tree.build(plan)
    folder = plan.out / "rpm"
    shutil.rmtree(folder, ignore_errors=True)
    _copy(plan, source, folder / "tree")
    spec = folder / f"{NAME}.spec"
    spec.write_text(_filled(plan, folder / "tree"))
    settings = SETTINGS | {
        "_topdir": str(folder / "work"),
        "_rpmdir": str(folder),
        "_dbpath": str(folder / "database"),
    }
    options = [f"--define={key} {value}" for key, value in settings.items()]
    plan.run("rpmbuild", "-bb", "--nodeps", "--target=x86_64-linux", *options, spec)
    (made,) = folder.glob("x86_64/*.rpm")
    return Path(shutil.move(made, plan.out / made.name))


def _copy(plan: Plan, source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    program = target / "usr/bin" / NAME
    program.parent.mkdir()
    interpreter = f"/usr/bin/python{plan.python}"
    text = tree.launcher(interpreter, repr(f"/{PRIVATE}/site-packages"), plan.python)
    program.write_text(text)
    program.chmod(_EXECUTABLE)
    document = target / "usr/share/doc" / NAME
    for name in ("LICENSE", "CHANGELOG.md"):
        shutil.copyfile(plan.source / name, document / name)
    for page in sorted((target / "usr/share/man").rglob("*.[15]")):
        page.with_name(f"{page.name}.gz").write_bytes(gzip.compress(page.read_bytes(), mtime=0))
        page.unlink()
    tree.compile_libraries(plan, target / PRIVATE / "site-packages", f"/{PRIVATE}/site-packages")


def _filled(plan: Plan, source: Path) -> str:
    moment = datetime.fromtimestamp(plan.epoch_s, UTC)
    text = (plan.source / SPEC).read_text()
    for hole, filling in {
        "@VERSION@": plan.version,
        "@REVISION@": REVISION,
        "@PYTHON@": plan.python,
        "@TREE@": str(source),
        "@MAINTAINER@": MAINTAINER,
        "@DATE@": f"{moment:%a %b %d %Y}",
    }.items():
        text = text.replace(hole, filling)
    return text
