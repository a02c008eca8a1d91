"""What a spool says of itself: how much waits, how far each source was read."""

import sqlite3
from typing import NamedTuple


class SpoolStats(NamedTuple):
    """What is in a spool.

    ``records`` wait for the collector, the oldest block of them since ``oldest_s``
    (epoch s, 0: none). Those of ``held_blocks`` wait for a person instead.
    ``payload_bytes`` are of both.
    """

    records: int
    payload_bytes: int
    oldest_s: int
    held_records: int = 0
    held_blocks: int = 0


class SourceMark(NamedTuple):
    """How far a source was read, and how far of that is acknowledged (epoch s, 0 unknown).

    A block that is held is not acknowledged.
    """

    source: str
    position: str
    complete_through: int
    acknowledged_through: int


class HeldBlock(NamedTuple):
    """A block that the collector refused as a whole: since when (epoch s), and why."""

    block_id: int
    source: str
    records: int
    at: int
    reason: str


def stats(connection: sqlite3.Connection) -> SpoolStats:
    """Add up what is there."""
    query = (
        "SELECT coalesce(sum(records), 0), coalesce(sum(bytes), 0), coalesce(min(created), 0)"
        " FROM blocks"
    )
    records, payload_bytes, oldest_s = connection.execute(query).fetchone()
    held_records, held_blocks = connection.execute(
        "SELECT coalesce(sum(records), 0), count(*) FROM held JOIN blocks ON id = block_id"
    ).fetchone()
    if held_blocks:
        (oldest_s,) = connection.execute(
            "SELECT coalesce(min(created), 0) FROM blocks"
            " WHERE id NOT IN (SELECT block_id FROM held)"
        ).fetchone()
    return SpoolStats(records - held_records, payload_bytes, oldest_s, held_records, held_blocks)


def marks(connection: sqlite3.Connection, *, with_position: bool = True) -> list[SourceMark]:
    """Say how far each source was read and acknowledged."""
    # Acknowledged is what the source was complete to before any block that still waits.
    query = (
        "SELECT source, CASE WHEN ? THEN position ELSE '' END, complete_through,"
        " coalesce((SELECT min(complete_before) FROM blocks"
        " WHERE blocks.source = positions.source), complete_through)"
        " FROM positions ORDER BY source"
    )
    return [SourceMark(*row) for row in connection.execute(query, (with_position,))]


def held(connection: sqlite3.Connection) -> list[HeldBlock]:
    """List what waits for a person, oldest first."""
    query = (
        "SELECT id, source, records, at, reason FROM held JOIN blocks ON id = block_id ORDER BY id"
    )
    return [HeldBlock(*row) for row in connection.execute(query)]


def damage(connection: sqlite3.Connection) -> str:
    """Say what SQLite finds wrong with the file, "" for nothing; reads all of it."""
    found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    return "" if found == "ok" else found.splitlines()[0]
