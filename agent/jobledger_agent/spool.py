"""The spool: what was read and not yet acknowledged, on disk.

One SQLite file. A block of records, the source's position after it and the
memory of what was sighted are one transaction with full sync, so a kill at any
moment loses neither. A block leaves only by name (``forget``); nothing is ever
dropped: when a bound is reached ``append`` refuses and the source is read no
further until there is room again.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from jobledger_agent import clock, spoolfile
from jobledger_agent.spoolfile import SpoolError
from jobledger_agent.wire import Encoded

SPOOL_BYTES_DEFAULT: Final = 1 << 30
DISK_RESERVE_BYTES: Final = 64 << 20
"""Left free on the disk: on a full one even deleting fails."""
RECENT_SECONDS_MAX: Final = 14 * 86_400
"""How long a sighting is remembered; one that is forgotten is sent once more, harmlessly."""
RECENT_RECORD_BYTES: Final = 128
"""Room that one remembered sighting takes, roughly; a quarter of the quota is for them."""


_MOVE: Final = """
INSERT INTO positions VALUES (?, ?, ?) ON CONFLICT (source) DO UPDATE
SET position = excluded.position, complete_through = excluded.complete_through
WHERE (position, complete_through) IS NOT (excluded.position, excluded.complete_through)
"""
"""Writes nothing where nothing moved: a position can be long, and blocks follow each other."""


class SpoolFull(Exception):
    """No room now; nothing was stored. Says which bound was reached."""


class StoredBlock(NamedTuple):
    """A block as it waits: its id, how many records, and what the wire carries."""

    block_id: int
    records: int
    payload: bytes


class Sighting(NamedTuple):
    """Which content of a run was seen; the digest leaves out when.

    A digest that another one begins with says less of the same content.
    """

    cluster: str
    job_id: int
    submit: int
    digest: bytes


class SpoolStats(NamedTuple):
    """What waits: records, bytes, and when the oldest block came (epoch s, 0: none)."""

    records: int
    payload_bytes: int
    oldest_s: int


class SourceMark(NamedTuple):
    """How far a source was read, and how far of that is acknowledged (epoch s, 0 unknown)."""

    source: str
    position: str
    complete_through: int
    acknowledged_through: int


class Spool:
    """An open spool, held exclusively. Safe to use from several threads."""

    def __init__(
        self,
        path: Path,
        max_bytes: int = SPOOL_BYTES_DEFAULT,
        now_s: Callable[[], int] = clock.now_s,
        disk_reserve_bytes: int = DISK_RESERVE_BYTES,
    ) -> None:
        """Open or create the spool at ``path``. Raises SpoolError.

        A damaged file is renamed aside and a new one begun: ``notice`` says so.
        """
        self.path = path
        self._now_s = now_s
        self._reserve_bytes = disk_reserve_bytes
        self._payload_bytes_max = max_bytes - max_bytes // 4
        self._recent_max = max_bytes // 4 // RECENT_RECORD_BYTES
        self._write_lock = threading.Lock()
        self._reap_lock = threading.Lock()
        self._count_lock = threading.Lock()
        opened = spoolfile.open_exclusively(path, max_bytes, now_s())
        self.notice = opened.notice
        self._file = opened
        self._writer = opened.writer
        self._reaper = opened.reaper
        self._payload_bytes = self.stats().payload_bytes
        self._recent = int(self._read_one("SELECT count(*) FROM recent")[0])

    def close(self) -> None:
        """Release the file; idempotent."""
        self._file.close()

    def append(
        self,
        source: str,
        blocks: Sequence[Encoded],
        position: str,
        complete_through: int,
        sightings: Sequence[Sighting] = (),
    ) -> None:
        """Store blocks, the position after them and what they showed, in one transaction.

        Raises SpoolFull (nothing stored, try again later) and SpoolError.
        """
        with self._appending(source, blocks):
            self._remember(sightings)
            self._writer.execute(
                _MOVE,
                (source, position, complete_through),
            )

    def append_ahead(self, source: str, blocks: Sequence[Encoded]) -> None:
        """Store blocks whose position is stored with later ones. Raises as ``append`` does.

        For what is too large for one transaction. Killed in between, the source
        gives them again; the collector knows them then.
        """
        with self._appending(source, blocks):
            pass

    @contextmanager
    def _appending(self, source: str, blocks: Sequence[Encoded]) -> Iterator[None]:
        payload_bytes = sum(len(block.payload) for block in blocks)
        self._refuse_if_replaced()
        self._refuse_if_full(payload_bytes)
        with self._transaction(self._writer):
            self._insert(source, blocks)
            yield
        with self._count_lock:
            self._payload_bytes += payload_bytes

    def position(self, source: str) -> str:
        """Return the position stored with the source's last block; "" at first."""
        row = self._read_one("SELECT position FROM positions WHERE source = ?", (source,))
        return str(row[0]) if row else ""

    def unseen(self, sightings: Sequence[Sighting]) -> list[bool]:
        """Say for each sighting whether its content is news: neither waiting nor acknowledged."""
        query = "SELECT digest FROM recent WHERE cluster = ? AND job_id = ? AND submit = ?"
        with self._reap_lock, self._errors_told():
            found = [self._reaper.execute(query, seen[:3]).fetchone() for seen in sightings]
        return [
            row is None or not row[0].startswith(seen.digest)
            for row, seen in zip(found, sightings, strict=True)
        ]

    def head(self, after_id: int, limit: int) -> list[StoredBlock]:
        """Return the oldest blocks with an id above ``after_id``, at most ``limit``."""
        query = "SELECT id, records, payload FROM blocks WHERE id > ? ORDER BY id LIMIT ?"
        with self._reap_lock, self._errors_told():
            return [StoredBlock(*row) for row in self._reaper.execute(query, (after_id, limit))]

    def forget(self, block_ids: Sequence[int]) -> None:
        """Delete exactly these blocks: each of their records has been given a verdict."""
        names = [(block_id,) for block_id in block_ids]
        size = "SELECT coalesce(sum(bytes), 0) FROM blocks WHERE id = ?"
        with self._reap_lock, self._transaction(self._reaper):
            freed = sum(self._reaper.execute(size, name).fetchone()[0] for name in names)
            self._reaper.executemany("DELETE FROM blocks WHERE id = ?", names)
        with self._count_lock:
            self._payload_bytes -= freed

    def stats(self) -> SpoolStats:
        """Say what waits."""
        with self._reap_lock, self._errors_told():
            return _stats(self._reaper)

    def marks(self) -> list[SourceMark]:
        """Say how far each source was read and acknowledged, without its position.

        That is asked for often, and a position can be a megabyte.
        """
        with self._reap_lock, self._errors_told():
            return _marks(self._reaper, with_position=False)

    def prune_recent(self) -> None:
        """Forget sightings that are too old."""
        oldest_s = self._now_s() - RECENT_SECONDS_MAX
        with self._transaction(self._writer):
            self._recent -= self._writer.execute(
                "DELETE FROM recent WHERE at < ?", (oldest_s,)
            ).rowcount

    def _insert(self, source: str, blocks: Sequence[Encoded]) -> None:
        query = "SELECT complete_through FROM positions WHERE source = ?"
        row = self._writer.execute(query, (source,)).fetchone()
        before = row[0] if row else 0
        now_s = self._now_s()
        self._writer.executemany(
            "INSERT INTO blocks (source, records, bytes, created, complete_before, payload)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [(source, b.records, len(b.payload), now_s, before, b.payload) for b in blocks],
        )

    def _remember(self, sightings: Sequence[Sighting]) -> None:
        now_s = self._now_s()
        self._writer.executemany(
            "INSERT OR REPLACE INTO recent VALUES (?, ?, ?, ?, ?)",
            [(*seen, now_s) for seen in sightings],
        )
        self._recent += len(sightings)  # at most: some replaced an older one
        if self._recent > self._recent_max:
            self._writer.execute(
                "DELETE FROM recent WHERE (cluster, job_id, submit) IN"
                " (SELECT cluster, job_id, submit FROM recent ORDER BY at LIMIT ?)",
                (self._recent_max // 10 + 1,),
            )
            (self._recent,) = self._writer.execute("SELECT count(*) FROM recent").fetchone()

    def _refuse_if_full(self, payload_bytes: int) -> None:
        if self._payload_bytes + payload_bytes > self._payload_bytes_max:
            raise SpoolFull(
                f"the spool {self.path} holds {self._payload_bytes >> 20} MiB of records that wait "
                "for the collector, as many as spool.max_bytes allows"
            )
        disk = os.statvfs(self.path.parent)
        if disk.f_bavail * disk.f_frsize - payload_bytes < self._reserve_bytes:
            raise SpoolFull(
                f"less than {self._reserve_bytes >> 20} MiB are free on the disk of {self.path}"
            )

    def _refuse_if_replaced(self) -> None:
        if not self._file.is_in_place():
            raise SpoolError(
                f"the spool {self.path} was removed or replaced while in use: start the agent "
                "again; what was not acknowledged is read from its source again"
            )

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        # One writer at a time, and a lock that wakes at once: SQLite's own would poll.
        with self._write_lock, self._errors_told(), connection:
            connection.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
                raise SpoolFull(f"the disk of {self.path}, or its quota, is full") from error
            raise SpoolError(
                f"the spool {self.path} failed ({error}): start the agent again; if the file is "
                "damaged it is set aside and its sources are read again"
            ) from error

    def _read_one(self, query: str, parameters: Sequence[str] = ()) -> tuple[Any, ...]:
        with self._reap_lock, self._errors_told():
            row: tuple[Any, ...] | None = self._reaper.execute(query, parameters).fetchone()
        return row or ()


def peek(path: Path) -> tuple[SpoolStats, list[SourceMark]]:
    """Read a spool that another process may hold, without writing. Raises SpoolError."""
    try:
        with closing(spoolfile.connect_to_read(path)) as connection:
            return _stats(connection), _marks(connection)
    except sqlite3.Error as error:
        raise SpoolError(f"cannot read the spool {path}: {error}") from error


def _stats(connection: sqlite3.Connection) -> SpoolStats:
    query = (
        "SELECT coalesce(sum(records), 0), coalesce(sum(bytes), 0), coalesce(min(created), 0)"
        " FROM blocks"
    )
    return SpoolStats(*connection.execute(query).fetchone())


def _marks(connection: sqlite3.Connection, *, with_position: bool = True) -> list[SourceMark]:
    # Acknowledged is what the source was complete to before its oldest waiting block.
    query = (
        "SELECT source, iif(?, position, ''), complete_through,"
        " coalesce((SELECT complete_before FROM blocks WHERE blocks.source = positions.source"
        " ORDER BY id LIMIT 1), complete_through)"
        " FROM positions ORDER BY source"
    )
    return [SourceMark(*row) for row in connection.execute(query, (with_position,))]
