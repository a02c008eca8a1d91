"""What a database can do to a collector: lock, stall, fill up, go away."""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection as PostgresConnection  # noqa: N812 - a class

from tests.faults.world import World, until

BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def rival(world: World) -> PostgresConnection:
    """Another program's connection to a PostgreSQL ledger."""
    return psycopg2.connect(world.url.replace("+psycopg2", ""))


@contextmanager
def commits_held_up(world: World) -> Iterator[None]:
    """Let no batch be committed meanwhile: another program holds what it needs."""
    if world.is_postgres:
        with closing(rival(world)) as other:
            other.cursor().execute("LOCK TABLE job_runs IN SHARE ROW EXCLUSIVE MODE")
            yield
            with suppress(psycopg2.OperationalError):  # the server may have gone down
                other.rollback()
        return
    path = world.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def until_a_batch_waits(world: World) -> None:
    """Wait until the collector stands before its commit and can go no further."""
    if world.is_postgres:
        until("a batch waits for a lock", lambda: world.ask(BLOCKED)[0][0])
        return
    sent = world.proxy.bytes_up
    until("another batch was sent", lambda: world.proxy.bytes_up > sent + 60_000)


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A disk of its own that really can be full; skips where none may be mounted."""
    place = folder / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root; the variants with a file limit have run")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, left_bytes: int = 0) -> Path:
    """Let another program's file take all of a disk but this much."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as out:
        try:
            while out.write(bytes(1 << 16)):
                pass
        except OSError:
            out.truncate(max(0, out.tell() - left_bytes))
    return ballast
