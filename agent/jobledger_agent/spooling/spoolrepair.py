"""A damaged spool: found, set aside, and what can be proved of it carried over.

The blocks that still match their seals go into a new file; the positions do not,
so that every source is read again from where it begins without one. The new
file takes the place of the old one only when it is whole: a kill at any moment
leaves either the damaged file, which is found again, or the new one.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

from jobledger_agent.errors import AgentError
from jobledger_agent.source import SourceError
from jobledger_agent.spooling.spoolschema import (
    APPLICATION_ID,
    BLOCK_COLUMNS,
    SCHEMA,
    SCHEMA_VERSION,
    BlockRow,
    note_change,
    unsound,
)

BUSY_MS_MAX: Final = 30_000
DAMAGED_FILES_MAX: Final = 2
"""Damaged spools that are kept for a person to look at; older ones are removed."""
PRIVATE: Final = 0o600
_SQLITE_MAGIC: Final = b"SQLite format 3\x00"
_COMPANIONS: Final = ("-wal", "-shm", "-journal")


class SpoolError(AgentError):
    """The spool cannot be used; says what happened and what to do."""


class SpoolUnwell(SpoolError, SourceError):
    """The spool cannot be read now; to a source's reader, the source could not be read now."""


class SpoolDamaged(SpoolUnwell):
    """The spool was damaged and a new one begun: every source must be read from its position.

    Whoever was reading one has an old position in hand, and must ask for it again.
    """


class Unsound(Exception):
    """Something in an open spool is not what was stored; says what."""


class Repair(NamedTuple):
    """What was carried over from a damaged spool, and what could not be."""

    blocks: int
    lost: int
    is_legible: bool


def set_aside_if_damaged(path: Path, *, was_ours: bool, now_s: int) -> str:
    """Replace a damaged spool; returns what to tell people, "" when all is well.

    A file that never was a spool is refused and not touched: the path is wrong.
    Raises SpoolError and OSError.
    """
    fresh = _fresh_path(path)
    if not path.exists() and fresh.exists():
        fresh.rename(path)  # killed between the two renames of ``replace``
    if not path.exists() or (path.stat().st_size == 0 and not _has_log(path)):
        return ""
    with path.open("rb") as file:
        is_sqlite = file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    if not is_sqlite and not was_ours:
        raise SpoolError(f"{path} is not a spool: give spool.path a file of its own")
    damage = _damage(path, was_ours) if is_sqlite else "it is no SQLite file any more"
    return replace(path, damage, now_s) if damage else ""


def replace(path: Path, damage: str, now_s: int) -> str:
    """Put a new spool in the place of a damaged one; returns what to tell people.

    Nobody may have the file open. Raises SpoolError when there is no room to.
    """
    fresh = _fresh_path(path)
    aside = path.with_name(f"{path.name}.damaged-{now_s}")
    is_there = path.exists()
    try:
        _remove(fresh)
        repair = _salvage(path, fresh)
        for suffix in ("", *_COMPANIONS):
            with suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
        fresh.rename(path)
        _sync_directory(path.parent)
        _remove_older(path)
    except (sqlite3.Error, OSError) as error:
        raise SpoolError(
            f"the spool {path} is damaged ({damage}) and no new one can be written beside it "
            f"({error}): make room on its disk, or move it away"
        ) from error
    where = f"set aside as {aside}; {_told(repair)}" if is_there else "begun anew"
    return (
        f"the spool {path} was damaged ({damage}) and {where}; its sources are read again from "
        "their beginning, the collector knows what it already has"
    )


def _told(repair: Repair) -> str:
    if not repair.is_legible:
        return "what waited in it could not be read"
    told = f"{repair.blocks} blocks that waited in it were carried over"
    return f"{told}, {repair.lost} could not be read" if repair.lost else told


def _damage(path: Path, was_ours: bool) -> str:  # noqa: FBT001 - one caller
    """Say what is wrong with an SQLite file that should be a spool, "" for nothing."""
    connection = sqlite3.connect(path, timeout=BUSY_MS_MAX / 1000)
    try:
        version = pragma(connection, "user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and pragma(connection, "application_id") != APPLICATION_ID:
            if was_ours:
                return "it no longer says that it is one"
            raise SpoolError(
                f"{path} is a database of another program: give spool.path a file of its own"
            )
        if tables and not version:
            return "it no longer says which format it has"
        found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        if found != "ok":
            return found.splitlines()[0]
        return unsound(connection) if version == SCHEMA_VERSION else ""
    except (sqlite3.DatabaseError, UnicodeDecodeError, ValueError, TypeError) as error:
        return str(error)
    finally:
        connection.close()


def _salvage(path: Path, fresh: Path) -> Repair:
    """Write a new spool with every block of the old one that still matches its seal."""
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT, PRIVATE))
    blocks = lost = 0
    is_legible = True
    with closing(sqlite3.connect(fresh, isolation_level=None)) as new:
        new.executescript(SCHEMA)
        new.execute("PRAGMA synchronous = FULL")
        if not path.exists():
            return Repair(0, 0, is_legible=False)
        new.execute("BEGIN IMMEDIATE")
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            try:
                for row in _legible(old):
                    if row is None:
                        lost += 1
                        continue
                    _carry_over(new, row)
                    blocks += 1
            except (sqlite3.DatabaseError, UnicodeDecodeError):
                is_legible = False
        new.execute("COMMIT")
    return Repair(blocks, lost, is_legible or bool(blocks))


def _legible(old: sqlite3.Connection) -> Iterator[BlockRow | None]:
    """Yield each block, None for one that is not what was stored."""
    query = f"SELECT {BLOCK_COLUMNS} FROM blocks WHERE id = ?"  # noqa: S608 - a constant
    for block_id, seal in old.execute("SELECT block_id, seal FROM seals").fetchall():
        try:
            row = BlockRow(*old.execute(query, (block_id,)).fetchone())
            yield row if row.seal == seal else None
        except (sqlite3.DatabaseError, UnicodeDecodeError, TypeError):
            yield None


def _carry_over(new: sqlite3.Connection, block: BlockRow) -> None:
    new.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", block)
    new.execute("INSERT INTO seals VALUES (?, ?)", (block.block_id, block.seal))
    note_change(new, block.seal)


def _fresh_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _has_log(path: Path) -> bool:
    log = Path(f"{path}-wal")
    return log.exists() and log.stat().st_size > 0


def _remove(path: Path) -> None:
    for suffix in ("", *_COMPANIONS):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _remove_older(path: Path) -> None:
    found = [
        each
        for each in path.parent.glob(f"{path.name}.damaged-*")
        if each.name.rpartition("-")[2].isdigit()
    ]
    found.sort(key=lambda each: int(each.name.rpartition("-")[2]))
    for each in found[:-DAMAGED_FILES_MAX]:
        _remove(each)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """One of SQLite's own figures of a file."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
