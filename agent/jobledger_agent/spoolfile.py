"""The spool's file: who may open it, whether it is sound, what it looks like inside."""

import fcntl
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NamedTuple

from jobledger_agent.errors import AgentError

APPLICATION_ID: Final = 0x4A6C5370
"""Marks the file as a spool ("JlSp"), so that no other SQLite file is mistaken for one."""
SCHEMA_VERSION: Final = 1
SLACK_BYTES: Final = 4 << 20
"""Above the quota, for SQLite's own pages; beyond it SQLite itself refuses."""
BUSY_MS_MAX: Final = 30_000
WAL_BYTES_MAX: Final = 16 << 20
CACHE_KIB: Final = 256
"""Of each connection: a block is written once and read once, so that more would only be held."""
MAP_BYTES: Final = 0
"""No memory map: a read error must be an error, not a signal."""
PRIVATE: Final = 0o600
SQLITE_VERSION: Final = sqlite3.sqlite_version

_SQLITE_MAGIC: Final = b"SQLite format 3\x00"
_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE blocks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, even after a delete
    source TEXT NOT NULL,
    records INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created INTEGER NOT NULL,
    complete_before INTEGER NOT NULL,      -- the source was complete up to here without it
    payload BLOB NOT NULL
);
CREATE INDEX blocks_source ON blocks (source, id);
CREATE TABLE positions (
    source TEXT PRIMARY KEY,
    position TEXT NOT NULL,
    complete_through INTEGER NOT NULL
);
CREATE TABLE recent (
    cluster TEXT NOT NULL,
    job_id INTEGER NOT NULL,
    submit INTEGER NOT NULL,
    digest BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (cluster, job_id, submit)
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class SpoolError(AgentError):
    """The spool cannot be used; says what happened and what to do."""


class SpoolFile(NamedTuple):
    """An open spool file. ``reaper`` deletes without a sync of its own and reads."""

    path: Path
    lock: IO[str]
    writer: sqlite3.Connection
    reaper: sqlite3.Connection
    inode: int
    notice: str

    def is_in_place(self) -> bool:
        """Whether the path still leads to this file."""
        try:
            return self.path.stat().st_ino == self.inode
        except OSError:
            return False

    def close(self) -> None:
        """Release the file; idempotent."""
        self.writer.close()
        self.reaper.close()
        self.lock.close()


def open_exclusively(path: Path, max_bytes: int, now_s: int) -> SpoolFile:
    """Open or create the spool; a damaged one is renamed aside. Raises SpoolError."""
    was_ours = _lock_path(path).exists()
    lock = _lock(path)
    try:
        notice = _set_aside_if_damaged(path, was_ours=was_ours, now_s=now_s)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE))
        writer = _connect(path, "FULL")
        # Deleting needs no sync of its own: a block that comes back is only sent twice.
        reaper = _connect(path, "NORMAL")
        _create_or_check(writer, path)
        for connection in (writer, reaper):
            pages = (max_bytes + SLACK_BYTES) // _pragma(connection, "page_size")
            connection.execute(f"PRAGMA max_page_count = {pages}")
        return SpoolFile(path, lock, writer, reaper, path.stat().st_ino, notice)
    except (sqlite3.Error, OSError, SpoolError) as error:
        if not was_ours:
            _lock_path(path).unlink()  # no trace beside what turned out to be no spool
        lock.close()
        if isinstance(error, SpoolError):
            raise
        raise SpoolError(f"cannot open the spool {path}: {error}") from error


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a spool that another process may hold, for reading only. Raises SpoolError."""
    if not path.exists():
        raise SpoolError(f"there is no spool at {path}: the agent has not run with it yet")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        if _pragma(connection, "application_id") == APPLICATION_ID:
            return connection
        connection.close()
    except sqlite3.Error as error:
        raise SpoolError(f"cannot read the spool {path}: {error}") from error
    raise SpoolError(f"{path} is not a spool of jobledger-agent")


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _lock(path: Path) -> IO[str]:
    try:
        descriptor = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT, PRIVATE)
    except OSError as error:
        raise SpoolError(
            f"cannot write beside the spool {path} ({error.strerror}): create its directory, or "
            "set spool.path to a place that the agent may write to"
        ) from error
    lock = os.fdopen(descriptor, "r+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = lock.read(32).strip() or "unknown"
        lock.close()
        raise SpoolError(
            f"the spool {path} is in use by another jobledger-agent (process {holder}): stop it, "
            "or give this one its own spool"
        ) from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_MS_MAX / 1000, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}").fetchone()
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}").fetchone()
    connection.execute(f"PRAGMA mmap_size = {MAP_BYTES}").fetchone()
    return connection


def _create_or_check(connection: sqlite3.Connection, path: Path) -> None:
    version = _pragma(connection, "user_version")
    if version == 0:
        connection.executescript(_SCHEMA)
    elif version != SCHEMA_VERSION:
        raise SpoolError(
            f"the spool {path} has format {version}, this agent knows {SCHEMA_VERSION}: let the "
            "agent that wrote it deliver everything, then remove the file"
        )


def _set_aside_if_damaged(path: Path, *, was_ours: bool, now_s: int) -> str:
    """Rename a damaged spool; returns what to tell people, "" when all is well.

    A file that never was a spool is refused and not touched: the path is wrong.
    """
    if not path.exists() or path.stat().st_size == 0:
        return ""
    with path.open("rb") as file:
        is_sqlite = file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    if not is_sqlite and not was_ours:
        raise SpoolError(f"{path} is not a spool: give spool.path a file of its own")
    damage = _damage(path) if is_sqlite else "it is no SQLite file any more"
    if not damage:
        return ""
    aside = path.with_name(f"{path.name}.damaged-{now_s}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    return (
        f"the spool {path} was damaged ({damage}) and set aside as {aside}; its sources are read "
        "again from their beginning, the collector knows what it already has"
    )


def _damage(path: Path) -> str:
    """Say what is wrong with an SQLite file that should be a spool, "" for nothing."""
    connection = sqlite3.connect(path, timeout=BUSY_MS_MAX / 1000)
    try:
        mark = _pragma(connection, "application_id")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        connection.close()
    if mark != APPLICATION_ID and tables:
        raise SpoolError(
            f"{path} is a database of another program: give spool.path a file of its own"
        )
    return "" if found == "ok" else found.splitlines()[0]


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
