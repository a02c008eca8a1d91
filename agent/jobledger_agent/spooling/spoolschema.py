"""What a spool holds, and how it proves that it holds all of it.

Each block has a seal, each position one of its own; ``state`` counts the
transactions and holds the XOR of all seals, changed with them. A page that went
back to an earlier version, or lost a row, no longer agrees with the rest, and
what does not agree is damage: neither delivered nor read on from.
"""

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Final, NamedTuple

APPLICATION_ID: Final = 0x4A6C5370
"""Marks the file as a spool ("JlSp"), so that no other SQLite file is mistaken for one."""
SCHEMA_VERSION: Final = 2
SEAL_BYTES: Final = 8

_ADDED_BY_2: Final = """
CREATE INDEX blocks_complete ON blocks (source, complete_before);
CREATE TABLE seals (                       -- apart, so that no payload is ever written twice
    block_id INTEGER PRIMARY KEY,
    seal INTEGER NOT NULL
);
CREATE TABLE held (
    block_id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    changes INTEGER NOT NULL,              -- transactions so far
    digest INTEGER NOT NULL                -- XOR of the seals of all blocks and positions
);
INSERT INTO state VALUES (1, 0, 0);
"""
SCHEMA: Final = f"""
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
CREATE TABLE positions (
    source TEXT PRIMARY KEY,
    position TEXT NOT NULL,
    complete_through INTEGER NOT NULL,
    seal INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE recent (
    cluster TEXT NOT NULL,
    job_id INTEGER NOT NULL,
    submit INTEGER NOT NULL,
    digest BLOB NOT NULL,
    at INTEGER NOT NULL,
    change INTEGER NOT NULL DEFAULT 0,     -- state.changes when it was stored
    PRIMARY KEY (cluster, job_id, submit)
) WITHOUT ROWID;
{_ADDED_BY_2}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class BlockRow(NamedTuple):
    """A row of ``blocks``."""

    block_id: int
    source: str
    records: int
    size_bytes: int
    created: int
    complete_before: int
    payload: bytes

    @property
    def seal(self) -> int:
        """What the row's content comes to, as a signed 64-bit number."""
        return _seal("\0".join(map(str, self[:-1])) + "\0", self.payload)


BLOCK_COLUMNS: Final = "id, source, records, bytes, created, complete_before, payload"


def position_seal(source: str, position: str, complete_through: int) -> int:
    """Return what a row of ``positions`` comes to, as a signed 64-bit number."""
    return _seal(f"{source}\0{complete_through}\0", position.encode())


def combined(seals: Iterable[int]) -> int:
    """Return the XOR of seals; what is in it twice is not in it."""
    digest = 0
    for seal in seals:
        digest ^= seal
    return digest


def changes(connection: sqlite3.Connection) -> int:
    """Return how many transactions there were."""
    return int(connection.execute("SELECT changes FROM state").fetchone()[0])


def note_change(connection: sqlite3.Connection, delta: int) -> None:
    """Count the transaction that is open; ``delta`` is the XOR of the seals it moved."""
    # SQLite has no XOR. The subtraction cannot overflow: its right side is part of the left.
    connection.execute(
        "UPDATE state SET changes = changes + 1, digest = (digest | ?1) - (digest & ?1)", (delta,)
    )


def unsound(connection: sqlite3.Connection) -> str:
    """Say what in a spool of this format does not agree with the rest, "" for nothing.

    Reads no payload: a block proves itself when it is sent.
    """
    if _tables(connection) != _tables_wanted():
        return "its tables are not those that were made"
    lone = (
        "SELECT count(*) FROM seals LEFT JOIN blocks ON id = block_id WHERE id IS NULL",
        "SELECT count(*) FROM blocks LEFT JOIN seals ON id = block_id WHERE block_id IS NULL",
    )
    if any(connection.execute(query).fetchone()[0] for query in lone):
        return "a block is missing"
    digest = combined(seal for (seal,) in connection.execute("SELECT seal FROM seals"))
    for *row, seal in connection.execute(
        "SELECT source, position, complete_through, seal FROM positions"
    ):
        if position_seal(*row) != seal:
            return "a position is not what was stored"
        digest ^= seal
    (state,) = connection.execute("SELECT changes, digest FROM state").fetchall()
    if state[1] != digest:
        return "blocks and positions are not of one time"
    (newest,) = connection.execute("SELECT coalesce(max(change), 0) FROM recent").fetchone()
    return "it remembers what it has not stored" if newest > state[0] else ""


def _tables_wanted() -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(SCHEMA)
        return _tables(empty)


def _tables(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return the columns of each table and index."""
    names = connection.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall()
    return {
        name: [
            *connection.execute("SELECT * FROM pragma_table_info(?)", (name,)),
            *connection.execute("SELECT * FROM pragma_index_info(?)", (name,)),
        ]
        for (name,) in names
    }


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring an older spool to this format, in one transaction; no payload is written again."""
    if version != 1:
        raise ValueError(f"no spool ever had format {version}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        _to_2(connection)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _to_2(connection: sqlite3.Connection) -> None:
    connection.execute("DROP INDEX blocks_source")
    for statement in _statements(_ADDED_BY_2):
        connection.execute(statement)
    connection.execute("ALTER TABLE recent ADD COLUMN change INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE positions ADD COLUMN seal INTEGER NOT NULL DEFAULT 0")
    digest = 0
    for row in connection.execute(f"SELECT {BLOCK_COLUMNS} FROM blocks"):  # noqa: S608 - constant
        block = BlockRow(*row)
        connection.execute("INSERT INTO seals VALUES (?, ?)", (block.block_id, block.seal))
        digest ^= block.seal
    for row in connection.execute(
        "SELECT source, position, complete_through FROM positions"
    ).fetchall():
        seal = position_seal(*row)
        connection.execute("UPDATE positions SET seal = ? WHERE source = ?", (seal, row[0]))
        digest ^= seal
    note_change(connection, digest)


def _statements(script: str) -> list[str]:
    """Split a script: ``executescript`` would commit what is open."""
    lines = [line.split("--")[0] for line in script.splitlines()]
    return [each for each in map(str.strip, "\n".join(lines).split(";")) if each]


def _seal(head: str, body: bytes) -> int:
    digest = hashlib.blake2b(head.encode(), digest_size=SEAL_BYTES)
    digest.update(body)
    return int.from_bytes(digest.digest(), signed=True)
