"""Spools that a release left behind: what waits in them, and copies to open."""

import shutil
from pathlib import Path

from tests.compatibility.contract import DATA

KINDS = ("waiting", "killed", "delivered")
"""Stopped in order with blocks that wait; killed with all of it in the log; nothing waits."""


def a_copy(release: str, kind: str, folder: Path) -> Path:
    """Copy a spool of a release; its files are not to be changed."""
    for file in (DATA / release).glob(f"{kind}.db*"):
        shutil.copy(file, folder / file.name)
    return folder / f"{kind}.db"
