"""Files that hold secrets: put in place whole, with their mode and owner, or not at all."""

import os
from pathlib import Path
from typing import NamedTuple


class Owner(NamedTuple):
    """Whose a file shall be."""

    uid: int
    gid: int


def put(path: Path, content: bytes, mode: int, owner: Owner | None) -> bool:
    """Put a file in place whole; False when it is there already. Raises OSError."""
    if path.is_file() and path.read_bytes() == content and path.stat().st_mode & 0o777 == mode:
        give(path, owner)
        return False
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    give(beside, owner)
    beside.replace(path)
    return True


def give(path: Path, owner: Owner | None) -> None:
    """Give a file to its owner; None leaves it to who runs this. Raises OSError."""
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)
