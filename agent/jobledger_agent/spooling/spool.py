"""The spool: what was read and not yet acknowledged, on disk.

One SQLite file. A block of records, the source's position after it and the
memory of what was sighted are one transaction with full sync, so a kill at any
moment loses neither. A block leaves only by name (``forget``); nothing is ever
dropped: when a bound is reached ``append`` refuses and the source is read no
further until there is room again.

A file that turns out to be damaged while it is in use is replaced at once. The
blocks that prove sound are carried over under their ids, the positions are not;
whoever was reading a source is refused until it has asked for its position again.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from jobledger_agent import clock
from jobledger_agent.protocol.wire import Encoded
from jobledger_agent.spooling import spoolfile, spoolrows, spoolview
from jobledger_agent.spooling.spoolrepair import SpoolDamaged, SpoolError, SpoolUnwell, Unsound
from jobledger_agent.spooling.spoolrows import Sighting, StoredBlock
from jobledger_agent.spooling.spoolschema import BlockRow, combined, note_change
from jobledger_agent.spooling.spoolview import HeldBlock, SourceMark, SpoolStats

SPOOL_BYTES_DEFAULT: Final = 1 << 30
DISK_RESERVE_BYTES: Final = 64 << 20
"""Left free on the disk: on a full one even deleting fails."""
RECENT_SECONDS_MAX: Final = 14 * 86_400
"""How long a sighting is remembered; one that is forgotten is sent once more, harmlessly."""
RECENT_RECORD_BYTES: Final = 128
"""Room that one remembered sighting takes, roughly; a quarter of the quota is for them."""
REASON_CHARS_MAX: Final = 1_000
"""Of why a block is held."""

__all__ = [
    "HeldBlock", "Sighting", "SourceMark", "Spool", "SpoolDamaged", "SpoolError", "SpoolFull",
    "SpoolStats", "SpoolUnwell", "StoredBlock", "peek",
]  # fmt: skip

log = logging.getLogger(__name__)


class SpoolFull(Exception):
    """Nothing can be stored now, nor was; says which bound was reached. Try again later."""


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

        A damaged file is replaced: ``notice`` says so.
        """
        self.path = path
        self._now_s = now_s
        self._max_bytes = max_bytes
        self._reserve_bytes = disk_reserve_bytes
        self._payload_bytes_max = max_bytes - max_bytes // 4
        self._recent_max = max_bytes // 4 // RECENT_RECORD_BYTES
        self._write_lock = threading.Lock()
        self._reap_lock = threading.Lock()
        self._count_lock = threading.Lock()
        self._generation = 0
        self._begun: dict[str, int] = {}
        self._next_id = 1
        self._lost_below_id = 0
        self._use(spoolfile.open_exclusively(path, max_bytes, now_s()))

    def _use(self, opened: spoolfile.SpoolFile) -> None:
        self._file = opened
        self.notice = opened.notice
        self._writer = opened.writer
        self._reaper = opened.reaper
        self._payload_bytes = spoolview.stats(self._reaper).payload_bytes
        self._recent = spoolrows.count_sightings(self._reaper)
        self._next_id = max(self._next_id, spoolrows.last_id(self._reaper) + 1)

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

        Raises SpoolFull (nothing stored, try again later), SpoolDamaged (read the
        source again from its position) and SpoolError.
        """
        with self._appending(source, blocks) as delta:
            self._remember(sightings)
            delta.append(spoolrows.move(self._writer, source, position, complete_through))

    def append_ahead(self, source: str, blocks: Sequence[Encoded]) -> None:
        """Store blocks whose position is stored with later ones. Raises as ``append`` does.

        For what is too large for one transaction. Killed in between, the source
        gives them again; the collector knows them then.
        """
        with self._appending(source, blocks):
            pass

    @contextmanager
    def _appending(self, source: str, blocks: Sequence[Encoded]) -> Iterator[list[int]]:
        payload_bytes = sum(len(block.payload) for block in blocks)
        with self._mending():
            self._refuse_if_removed()
            self._refuse_if_full(payload_bytes)
            with self._transaction() as delta:
                if self._begun.get(source, 0) != self._generation:
                    raise SpoolDamaged(f"{source} is read again from its position: {self.notice}")
                delta.append(self._insert(source, blocks))
                yield delta
        with self._count_lock:
            self._payload_bytes += payload_bytes

    @property
    def generation(self) -> int:
        """How often the file was replaced since it was opened: sources are then read again."""
        return self._generation

    def position(self, source: str) -> str:
        """Return the position stored with the source's last block; "" at first.

        Whoever reads the source calls this first, and again after SpoolDamaged.
        """
        with self._reading() as connection:
            position = spoolrows.position(connection, source)
            self._begun[source] = self._generation
        return position

    def unseen(self, sightings: Sequence[Sighting]) -> list[bool]:
        """Say for each sighting whether its content is news: neither waiting nor acknowledged."""
        with self._reading() as connection:
            return spoolrows.unseen(connection, sightings)

    def head(self, after_id: int, limit: int) -> list[StoredBlock]:
        """Return the oldest blocks with an id above ``after_id``, at most ``limit``.

        Those that are held are passed over.
        """
        with self._reading() as connection:
            return list(spoolrows.head(connection, after_id, limit))

    def forget(self, block_ids: Sequence[int]) -> None:
        """Delete exactly these blocks: each of their records has been given a verdict."""
        freed = 0
        with self._mending(), self._reap_lock, self._transaction(reaping=True) as delta:
            for block_id in block_ids:
                dropped = spoolrows.drop(self._reaper, block_id)
                if dropped:
                    freed += dropped.size_bytes
                    delta.append(dropped.delta)
                elif block_id >= self._lost_below_id:  # else of a spool that was damaged since
                    raise Unsound(f"block {block_id} is not there any more")
        with self._count_lock:
            self._payload_bytes -= freed

    def hold(self, block_id: int, reason: str) -> None:
        """Keep a block that the collector refuses as a whole, but offer it no more.

        It waits for ``release_held``. Raises SpoolFull and SpoolError.
        """
        row = (block_id, self._now_s(), reason[:REASON_CHARS_MAX])
        with self._mending(), self._transaction():
            self._writer.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?)", row)

    def held(self) -> list[HeldBlock]:
        """List what waits for a person, oldest first."""
        with self._reading() as connection:
            return spoolview.held(connection)

    def release_held(self) -> int:
        """Offer what is held again, under new ids; returns how many records that are.

        Raises SpoolFull and SpoolError; after either, what is still held can be
        released by another call.
        """
        records = 0
        for waiting in self.held():
            with self._mending(), self._transaction() as delta:
                # A new id: a stream that is open asks only for what follows what it sent.
                delta.append(spoolrows.renumber(self._writer, waiting.block_id, self._take_ids(1)))
            records += waiting.records
        return records

    def stats(self) -> SpoolStats:
        """Say what waits."""
        with self._reading() as connection:
            return spoolview.stats(connection)

    def marks(self) -> list[SourceMark]:
        """Say how far each source was read and acknowledged, without its position.

        That is asked for often, and a position can be a megabyte.
        """
        with self._reading() as connection:
            return spoolview.marks(connection, with_position=False)

    def prune_recent(self) -> None:
        """Forget sightings that are too old. Raises SpoolFull and SpoolError."""
        oldest_s = self._now_s() - RECENT_SECONDS_MAX
        with self._mending(), self._transaction():
            self._recent -= self._writer.execute(
                "DELETE FROM recent WHERE at < ?", (oldest_s,)
            ).rowcount

    def _insert(self, source: str, blocks: Sequence[Encoded]) -> int:
        if not blocks:
            return 0
        before = spoolrows.complete_through(self._writer, source)
        now_s = self._now_s()
        ids = range(self._take_ids(len(blocks)), self._next_id)
        rows = [
            BlockRow(
                block_id, source, block.records, len(block.payload), now_s, before, block.payload
            )
            for block_id, block in zip(ids, blocks, strict=True)
        ]
        return spoolrows.put(self._writer, rows)

    def _take_ids(self, count: int) -> int:
        """Return the first of so many new ids: burned if what they are for is rolled back."""
        self._next_id += count
        return self._next_id - count

    def _remember(self, sightings: Sequence[Sighting]) -> None:
        if not sightings:
            return
        spoolrows.remember(self._writer, sightings, self._now_s())
        self._recent += len(sightings)  # at most: some replaced an older one
        if self._recent > self._recent_max:
            self._recent = spoolrows.forget_oldest(self._writer, self._recent_max // 10 + 1)

    def _refuse_if_full(self, payload_bytes: int) -> None:
        if self._payload_bytes + payload_bytes > self._payload_bytes_max:
            raise SpoolFull(
                f"the spool {self.path} holds {self._payload_bytes >> 20} MiB of records that wait "
                "for the collector, as many as spool.max_bytes allows"
            )
        log_is_short = self._file.log_bytes() <= spoolfile.WAL_BYTES_MAX
        if log_is_short and self._reserve_is_kept(payload_bytes):
            return
        with self._reap_lock, self._write_lock:
            # What takes the room may be the log itself, of records that have long been sent.
            self._file.write_back()
            if self._file.log_bytes() > spoolfile.WAL_BYTES_MAX:
                raise SpoolFull(f"another program keeps on reading the spool {self.path}: end it")
            idle_bytes = self._file.idle_bytes()
        if not self._reserve_is_kept(payload_bytes - idle_bytes):
            raise SpoolFull(
                f"less than {self._reserve_bytes >> 20} MiB are free on the disk of {self.path}"
            )

    def _reserve_is_kept(self, payload_bytes: int) -> bool:
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize - payload_bytes >= self._reserve_bytes

    def _refuse_if_removed(self) -> None:
        if self._file.is_in_place():
            return
        if self.path.exists():
            raise SpoolError(
                f"the spool {self.path} was replaced while in use: start the agent again; what "
                "was not acknowledged is read from its source again"
            )
        raise Unsound("it was removed while in use")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._mending(is_reading=True), self._reap_lock:
            yield self._reaper

    @contextmanager
    def _transaction(self, *, reaping: bool = False) -> Iterator[list[int]]:
        """Run a transaction; yields a list for the seals that it adds and takes away."""
        # One writer at a time, and a lock that wakes at once: SQLite's own would poll.
        with self._write_lock:
            connection = self._reaper if reaping else self._writer
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                delta: list[int] = []
                before = connection.total_changes
                yield delta
                if connection.total_changes != before:  # else nothing is written, nor synced
                    note_change(connection, combined(delta))

    @contextmanager
    def _mending(self, *, is_reading: bool = False) -> Iterator[None]:
        """Say in words what SQLite complains of, and replace a damaged file."""
        generation = self._generation
        try:
            yield
        except (sqlite3.Error, Unsound) as error:
            if spoolfile.is_damage(error):
                self._rebuild(generation, str(error))
                raise SpoolDamaged(self.notice) from error
            if not spoolfile.is_passing(error):
                raise SpoolError(f"the spool {self.path} failed ({error})") from error
            if is_reading:
                raise SpoolUnwell(f"the spool {self.path} cannot be read now ({error})") from error
            raise SpoolFull(_refused(error, self.path)) from error

    def _rebuild(self, generation: int, damage: str) -> None:
        with self._reap_lock, self._write_lock:
            if generation != self._generation:
                return  # another thread met the same damage
            self._generation += 1
            self._lost_below_id = self._next_id
            self._use(spoolfile.reopen(self._file, damage, self._max_bytes, self._now_s()))
            log.error("%s", self.notice)


def peek(path: Path) -> tuple[SpoolStats, list[SourceMark]]:
    """Read a spool that another process may hold, without writing. Raises SpoolError."""
    try:
        with closing(spoolfile.connect_to_read(path)) as connection:
            return spoolview.stats(connection), spoolview.marks(connection)
    except sqlite3.Error as error:
        raise SpoolError(f"cannot read the spool {path}: {error}") from error


def _refused(error: Exception, path: Path) -> str:
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
        return f"the disk of {path}, or its quota, is full"
    return f"the spool {path} cannot be written to now ({error})"
