"""The rows of a spool: each function works inside a transaction that its caller holds.

What changes blocks or positions returns the XOR of the seals that it moved.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jobledger_agent.spooling.spoolrepair import Unsound
from jobledger_agent.spooling.spoolschema import (
    BLOCK_COLUMNS,
    BlockRow,
    changes,
    combined,
    position_seal,
)


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


class Dropped(NamedTuple):
    """A block that was deleted: its size and its seal."""

    size_bytes: int
    delta: int


def put(connection: sqlite3.Connection, rows: Sequence[BlockRow]) -> int:
    """Store blocks."""
    seals = [row.seal for row in rows]
    connection.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.executemany(
        "INSERT INTO seals VALUES (?, ?)",
        [(row.block_id, seal) for row, seal in zip(rows, seals, strict=True)],
    )
    return combined(seals)


def drop(connection: sqlite3.Connection, block_id: int) -> Dropped | None:
    """Delete a block, held or not; None if it is not there."""
    query = "SELECT bytes, seal FROM blocks JOIN seals ON block_id = id WHERE id = ?"
    row = connection.execute(query, (block_id,)).fetchone()
    if row is None:
        return None
    connection.execute("DELETE FROM blocks WHERE id = ?", (block_id,))
    connection.execute("DELETE FROM seals WHERE block_id = ?", (block_id,))
    connection.execute("DELETE FROM held WHERE block_id = ?", (block_id,))
    return Dropped(*row)


def renumber(connection: sqlite3.Connection, block_id: int, new_id: int) -> int:
    """Give a block another id; it is not held under that one. Raises Unsound."""
    query = f"SELECT {BLOCK_COLUMNS} FROM blocks WHERE id = ?"  # noqa: S608 - a constant
    row = connection.execute(query, (block_id,)).fetchone()
    dropped = drop(connection, block_id)
    if dropped is None:
        raise Unsound(f"block {block_id} is not there any more")
    _proved(*row, dropped.delta)  # or the new seal would be of what the damage made of it
    return dropped.delta ^ put(connection, [BlockRow(*row)._replace(block_id=new_id)])


def complete_through(connection: sqlite3.Connection, source: str) -> int:
    """Return what the source is complete to, epoch seconds; 0 while unknown."""
    query = "SELECT complete_through FROM positions WHERE source = ?"
    row = connection.execute(query, (source,)).fetchone()
    return int(row[0]) if row else 0


def move(connection: sqlite3.Connection, source: str, position: str, through: int) -> int:
    """Store a source's position, and what it is complete to (epoch seconds)."""
    new = (position, through)
    query = "SELECT position, complete_through, seal FROM positions WHERE source = ?"
    row = connection.execute(query, (source,)).fetchone()
    if row and row[:2] == new:
        return 0  # a position can be long, and blocks follow each other
    seal = position_seal(source, *new)
    connection.execute("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?)", (source, *new, seal))
    return seal ^ (int(row[2]) if row else 0)


def position(connection: sqlite3.Connection, source: str) -> str:
    """Return a source's position, "" for none. Raises Unsound."""
    query = "SELECT source, position, complete_through, seal FROM positions WHERE source = ?"
    row = connection.execute(query, (source,)).fetchone()
    if row and position_seal(*row[:-1]) != row[-1]:
        raise Unsound("a position is not what was stored")
    return str(row[1]) if row else ""


def head(connection: sqlite3.Connection, after_id: int, limit: int) -> Iterator[StoredBlock]:
    """Yield the oldest blocks above an id that are not held. Raises Unsound."""
    query = (
        f"SELECT {BLOCK_COLUMNS}, seal FROM seals LEFT JOIN blocks ON id = block_id"  # noqa: S608
        " WHERE block_id > ? AND block_id NOT IN (SELECT block_id FROM held)"
        " ORDER BY block_id LIMIT ?"
    )
    return (_proved(*row) for row in connection.execute(query, (after_id, limit)))


def unseen(connection: sqlite3.Connection, sightings: Sequence[Sighting]) -> list[bool]:
    """Say for each sighting whether its content is news."""
    query = "SELECT digest FROM recent WHERE cluster = ? AND job_id = ? AND submit = ?"
    found = [connection.execute(query, seen[:3]).fetchone() for seen in sightings]
    return [
        not (row and isinstance(row[0], bytes) and row[0].startswith(seen.digest))
        for row, seen in zip(found, sightings, strict=True)
    ]


def remember(connection: sqlite3.Connection, sightings: Sequence[Sighting], now_s: int) -> None:
    """Store sightings, in place of older ones of the same run."""
    change = changes(connection) + 1
    connection.executemany(
        "INSERT OR REPLACE INTO recent VALUES (?, ?, ?, ?, ?, ?)",
        [(*seen, now_s, change) for seen in sightings],
    )


def forget_oldest(connection: sqlite3.Connection, sightings: int) -> int:
    """Forget so many sightings, the oldest; returns how many are left."""
    connection.execute(
        "DELETE FROM recent WHERE (cluster, job_id, submit) IN"
        " (SELECT cluster, job_id, submit FROM recent ORDER BY at LIMIT ?)",
        (sightings,),
    )
    return count_sightings(connection)


def count_sightings(connection: sqlite3.Connection) -> int:
    """Say how many runs are remembered."""
    return int(connection.execute("SELECT count(*) FROM recent").fetchone()[0])


def last_id(connection: sqlite3.Connection) -> int:
    """Return the highest id that a block ever had."""
    query = (
        "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'blocks'), 0),"
        " coalesce((SELECT max(id) FROM blocks), 0))"
    )
    return int(connection.execute(query).fetchone()[0])


def _proved(*values: Any) -> StoredBlock:  # noqa: ANN401 - what SQLite gives
    """Return a block that is what was stored. Raises Unsound."""
    block = BlockRow(*values[:-1])
    if not isinstance(values[-2], bytes) or block.seal != values[-1]:
        raise Unsound(f"block {block.block_id} is not what was stored")
    return StoredBlock(block.block_id, block.records, block.payload)
