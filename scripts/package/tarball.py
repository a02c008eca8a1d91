"""The agent in one archive, for sites that install no packages: unpack anywhere, run.

No zipapp: gRPC and protobuf are shared libraries, which cannot be loaded from a zip.
"""

import gzip
import io
import shutil
import tarfile
from pathlib import Path
from typing import Final

from scripts.package import tree
from scripts.package.plan import NAME, PRIVATE, Plan

MACHINE: Final = "x86_64"
_EXECUTABLE: Final = 0o755
_PLAIN: Final = 0o644


def build(plan: Plan) -> Path:
    """Make OUT/jobledger-agent-VERSION-ABI-linux-x86_64.tar.gz and return its path."""
    source = tree.build(plan)
    name = f"{NAME}-{plan.version}-{plan.abi}-linux-{MACHINE}"
    folder = plan.out / "tarball" / name
    shutil.rmtree(folder.parent, ignore_errors=True)
    _arrange(plan, source, folder)
    target = plan.out / f"{name}.tar.gz"
    target.write_bytes(_archive(folder, plan.epoch_s))
    return target


def _arrange(plan: Plan, source: Path, folder: Path) -> None:
    shutil.copytree(source / PRIVATE, folder / "lib")
    shutil.copytree(source / "usr/share", folder / "share")
    (folder / "systemd").mkdir()
    for name in (*tree.UNITS, *tree.USERS_AND_FOLDERS):  # these start what is in /opt
        shutil.copyfile(plan.source / "systemd" / name, folder / "systemd" / name)
    (folder / "etc").mkdir()
    shutil.copyfile(source / "etc/jobledger/agent.toml", folder / "etc/agent.toml")
    shutil.copyfile(plan.source / "LICENSE", folder / "LICENSE")
    manual = folder / "share/doc/jobledger-agent/installing.md"
    shutil.copyfile(plan.source / "docs/installing.md", manual)
    shutil.copyfile(plan.source / "packaging/tarball/README", folder / "README")
    libraries = '__file__.rpartition("/")[0] + "/site-packages"'
    (folder / "lib/launch.py").write_text(tree.launcher("", libraries, plan.python))
    program = folder / "bin" / NAME
    program.parent.mkdir()
    text = (plan.source / "packaging/tarball/jobledger-agent.in").read_text()
    program.write_text(text.replace("@PYTHON@", plan.python))
    program.chmod(_EXECUTABLE)
    tree.compile_libraries(plan, folder / "lib/site-packages", "site-packages")


def _archive(folder: Path, epoch_s: int) -> bytes:
    """Sorted names, one owner, one time: the same files are the same bytes."""

    def settled(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mtime = epoch_s
        runs = member.isdir() or member.mode & 0o100
        member.mode = _EXECUTABLE if runs else _PLAIN
        return member

    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(folder, arcname=folder.name, filter=settled)  # sorts each folder
    return gzip.compress(plain.getvalue(), mtime=epoch_s)
