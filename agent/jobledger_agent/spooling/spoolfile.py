"""The spool's file: who may open it, how it is opened, how large it may become."""

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO, Final, NamedTuple

from jobledger_agent.spooling import spoolrepair
from jobledger_agent.spooling.spoolrepair import BUSY_MS_MAX, PRIVATE, SpoolError, Unsound, pragma
from jobledger_agent.spooling.spoolschema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION, migrate

__all__ = ["SpoolError", "SpoolFile", "open_exclusively"]

WAL_BYTES_MAX: Final = 8 << 20
"""A log that has grown to this is written back before anything is added."""
WRITE_BACK_MS_MAX: Final = 100
"""How long writing back waits for another program that reads."""
SLACK_BYTES: Final = 16 << 20
"""What file, log and index may together take above the quota: the log, and one transaction."""
CACHE_KIB: Final = 256
"""Of each connection: a block is written once and read once, so that more would only be held."""
MAP_BYTES: Final = 0
"""No memory map: a read error must be an error, not a signal."""
SQLITE_VERSION: Final = sqlite3.sqlite_version
_DAMAGE_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_CONSTRAINT,  # a row is there that was never written, or another one twice
    }
)
_PASSING_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
    }
)


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

    def log_bytes(self) -> int:
        """Size of the write-ahead log."""
        try:
            return Path(f"{self.path}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def write_back(self) -> None:
        """Empty the write-ahead log into the file, unless another program reads from it."""
        # All that the agent does with the spool waits meanwhile: not for long.
        self.writer.execute(f"PRAGMA busy_timeout = {WRITE_BACK_MS_MAX}")
        try:
            self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self.writer.execute(f"PRAGMA busy_timeout = {BUSY_MS_MAX}")

    def idle_bytes(self) -> int:
        """Room inside the file that records left behind: what is appended goes there first."""
        free, size = (
            int(self.writer.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("freelist_count", "page_size")
        )
        return free * size

    def close(self) -> None:
        """Release the file; idempotent."""
        self.writer.close()
        self.reaper.close()
        self.lock.close()


def open_exclusively(path: Path, max_bytes: int, now_s: int) -> SpoolFile:
    """Open or create the spool; a damaged one is replaced. Raises SpoolError."""
    was_ours = _lock_path(path).exists()
    lock = _lock(path)
    try:
        notice = spoolrepair.set_aside_if_damaged(path, was_ours=was_ours, now_s=now_s)
        return _open(path, lock, max_bytes, notice)
    except (sqlite3.Error, OSError, SpoolError) as error:
        if not was_ours:
            _lock_path(path).unlink()  # no trace beside what turned out to be no spool
        lock.close()
        if isinstance(error, SpoolError):
            raise
        raise SpoolError(f"cannot open the spool {path}: {error}") from error


def reopen(file: SpoolFile, damage: str, max_bytes: int, now_s: int) -> SpoolFile:
    """Replace a file that was found damaged while it was open. Raises SpoolError."""
    file.writer.close()
    file.reaper.close()
    notice = spoolrepair.replace(file.path, damage, now_s)
    try:
        return _open(file.path, file.lock, max_bytes, notice)
    except (sqlite3.Error, OSError) as error:
        raise SpoolError(f"cannot open the spool {file.path}: {error}") from error


def is_damage(error: sqlite3.Error | Unsound) -> bool:
    """Whether an error says that the file is not what was written."""
    code = getattr(error, "sqlite_errorcode", 0)
    is_illegible = not code and "decode" in str(error)  # text that is no UTF-8
    return isinstance(error, Unsound) or is_illegible or bool({code, code & 0xFF} & _DAMAGE_CODES)


def is_passing(error: sqlite3.Error | Unsound) -> bool:
    """Whether an error may be gone when the same is tried again: the disk's, or a lock."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _PASSING_CODES


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a spool that another process may hold, for reading only. Raises SpoolError."""
    if not path.exists():
        raise SpoolError(f"there is no spool at {path}: the agent has not run with it yet")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        mark, version = (pragma(connection, name) for name in ("application_id", "user_version"))
    except sqlite3.Error as error:
        raise SpoolError(f"cannot read the spool {path}: {error}") from error
    if mark == APPLICATION_ID and version == SCHEMA_VERSION:
        return connection
    connection.close()
    if mark != APPLICATION_ID:
        raise SpoolError(f"{path} is not a spool of jobledger-agent")
    raise SpoolError(
        f"the spool {path} has format {version}, this program reads {SCHEMA_VERSION}: start the "
        "agent that is installed beside it, which brings an older one up to date"
    )


def _open(path: Path, lock: IO[str], max_bytes: int, notice: str) -> SpoolFile:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE))
    writer = _connect(path, "FULL")
    # Deleting needs no sync of its own: a block that comes back is only sent twice.
    reaper = _connect(path, "NORMAL")
    _create_or_migrate(writer, path)
    for connection in (writer, reaper):
        pages = max_bytes // pragma(connection, "page_size")
        connection.execute(f"PRAGMA max_page_count = {pages}")
    return SpoolFile(path, lock, writer, reaper, path.stat().st_ino, notice)


def _create_or_migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = pragma(connection, "user_version")
    if version == 0:
        connection.executescript(SCHEMA)
    elif version < SCHEMA_VERSION:
        migrate(connection, version)
    elif version > SCHEMA_VERSION:
        raise SpoolError(
            f"the spool {path} has format {version}, this agent knows {SCHEMA_VERSION}: install "
            "the agent that wrote it, or a newer one, and let it deliver everything; then remove "
            "the file"
        )


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
