"""The agent's figures, each beside what the machine can do at most.

    python -m tests.bench --only agent

Memory is VmHWM, the most that was resident: ru_maxrss also counts the process that
it was forked from. CPU is what the kernel accounts to the process and, where it
starts programs, to these.
"""

import contextlib
import csv
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jobledger_agent.protocol.wire import encode
from jobledger_agent.sources.files import FileSource
from jobledger_agent.spooling.spool import Spool
from jobledger_collector import cli as collector_cli
from jobledger_collector.admin import cli as admin_cli
from tests.bench.fakeslurm import settings, write_programs
from tests.bench.floor import copy_rows
from tests.ports import free_port
from tests.postgres import PostgresServer
from tests.system.bulk import DELIMITER, write_dump
from tests.system.memory import peak_rss_bytes, wait_and_watch
from tests.system.programs import Running, start_agent_once, start_collector

IDLE_S = 95.0
"""Three polls of 30 s and a little."""
FIRST_POLL_S_MAX = 30.0
GIVE_UP_S = 1_200.0
SPOOL_BYTES = 1 << 30
SYNCS = 200
CARD = Path(__file__).parents[2] / "packaging" / "rates" / "mahidol.yaml"
AGENT = "jobledger_agent.cli"


class Figure(NamedTuple):
    """One measured figure, its target, and what the machine can do at most (0: no such thing)."""

    name: str
    value: float
    unit: str
    target: float
    is_at_most: bool
    floor: float
    floor_is: str

    @property
    def is_met(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.target if self.is_at_most else self.value >= self.target

    def as_dict(self) -> Mapping[str, object]:
        """For a script."""
        return {**self._asdict(), "is_met": self.is_met}

    def as_text(self) -> str:
        """One line for a person."""
        bound = "at most" if self.is_at_most else "at least"
        met = "met" if self.is_met else "MISSED"
        floor = f"; {self.floor_is}: {self.floor:,.2f} {self.unit}" if self.floor else ""
        return (
            f"{self.name:<44}{self.value:>14,.2f} {self.unit:<10}"
            f" ({bound} {self.target:,.0f}, {met}{floor})"
        )


def figures(folder: Path, jobs: int, server: PostgresServer) -> list[Figure]:
    """Measure all of them; ``jobs`` runs pass where many are meant."""
    dump = folder / "many.txt"
    write_dump(dump, jobs)
    found = [first_poll(folder), idle(folder), *reading(folder, dump, jobs)]
    return [*found, *backlog(folder, dump, jobs, server)]


def prepare(url: str) -> None:
    """Make the tables and load a rate card; what that says goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        migrated = collector_cli.main(["migrate", "--db", url])
        if migrated or admin_cli.main(["--db", url, "rates", "load", str(CARD)]):
            raise SystemExit("the database could not be prepared; see above")


def first_poll(folder: Path) -> Figure:
    """From the program's start until it asks Slurm for runs."""
    home = write_programs(folder / "first")
    took = min(_until_asked(home) for _ in range(3))
    return Figure(
        "start to first poll", took, "s", 1.0, True, _imports_s(), "python -c 'import grpc'"
    )


def _until_asked(home: Path) -> float:
    calls = home / "calls"
    calls.unlink(missing_ok=True)
    (home / "spool.db").unlink(missing_ok=True)
    config = settings(home, poll_interval_s=30)
    began = time.monotonic()
    with Running(AGENT, "run", "--config", str(config), log=home / "agent.log") as agent:
        while not (calls.exists() and "-S uts" in calls.read_text()):
            if time.monotonic() - began > FIRST_POLL_S_MAX or not agent.is_running:
                raise SystemExit(agent.output())
            time.sleep(0.002)
        return time.monotonic() - began


def _imports_s() -> float:
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import grpc, google.protobuf"], check=True)
    return time.monotonic() - began


def idle(folder: Path) -> Figure:
    """CPU of an agent that polls each 30 s and finds nothing new, in per cent of one core.

    The programs that it starts for its questions are counted by themselves: they
    stand in for sacct and cost what a shell costs.
    """
    home = write_programs(folder / "idle")
    config = settings(home, poll_interval_s=30)
    with Running(AGENT, "run", "--config", str(config), log=home / "agent.log") as agent:
        time.sleep(5)
        before, began = _own_cpu_s(agent.process.pid), time.monotonic()
        time.sleep(IDLE_S)
        spent, wall = _own_cpu_s(agent.process.pid) - before, time.monotonic() - began
        if not agent.is_running:
            raise SystemExit(agent.output())
    return Figure("CPU idle at a 30 s poll", 100 * spent / wall, "% of a core", 1.0, True, 0, "")


def _own_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reading(folder: Path, dump: Path, jobs: int) -> list[Figure]:
    """Parse, encode and store with full sync: what the agent does before it may send.

    By the clock, and by CPU-second: where others want the cores only that one holds.
    """
    spool = Spool(folder / "bench-spool.db", SPOOL_BYTES)
    began, cpu = time.monotonic(), time.process_time()
    source = FileSource(dump)
    for block in source.read(spool.position("bench")):
        spool.append("bench", encode(block.readings), block.position, block.complete_through)
    wall_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    spool.close()
    began, cpu = time.monotonic(), time.process_time()
    _csv(dump)
    floor_wall_s, floor_cpu_s = time.monotonic() - began, time.process_time() - cpu
    name, floor_is = "parse and spool, full sync", "csv.reader on the same bytes"
    by_clock, by_cpu = jobs / wall_s, jobs / cpu_s
    return [
        Figure(name, by_clock, "records/s", 50_000, False, jobs / floor_wall_s, floor_is),
        Figure(f"{name}, by CPU", by_cpu, "records/s", 50_000, False, jobs / floor_cpu_s, floor_is),
    ]  # fmt: skip


def _csv(dump: Path) -> None:
    """Read the dump with the standard library's reader."""
    with dump.open(encoding="utf-8", newline="") as file:
        text = (line.replace(DELIMITER, "\t") for line in file)
        for _ in csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE):
            pass


def syncs_per_s(folder: Path) -> float:
    """How often a second this disk takes a page and syncs it: what bounds small blocks."""
    path = folder / "sync"
    with path.open("wb") as file:
        began = time.monotonic()
        for _ in range(SYNCS):
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
        return SYNCS / (time.monotonic() - began)


def backlog(folder: Path, dump: Path, jobs: int, server: PostgresServer) -> list[Figure]:
    """A spool full of records, then a collector: how long until all is acknowledged.

    The collector stores and prices on PostgreSQL on the same cores. The memory is
    the agent's, from its start, over both parts: a million records in, a million out.
    """
    url, port = server.create(), free_port()
    prepare(url)
    spool = folder / "backlog.db"
    peak = _fill(spool, dump, port, folder)
    with start_collector(url, port, folder / "collector.log") as collector:
        began = time.monotonic()
        with start_agent_once(port, spool, str(dump), log=folder / "agent.log") as agent:
            status, delivering = wait_and_watch(agent, GIVE_UP_S)
        wall = time.monotonic() - began
        if status != 0:
            raise SystemExit(agent.output())
        collector.stop()
    floor_url = server.create()
    began = time.monotonic()
    copy_rows(floor_url, dump)
    floor = time.monotonic() - began
    mib = max(peak, delivering) / 2**20
    per_million = 1_000_000 / jobs
    return [
        Figure("backlog of 1 M delivered, PostgreSQL", wall * per_million, "s", 120, True,
               floor * per_million, "plain COPY of the same rows"),
        Figure("agent's memory while they pass", mib, "MiB", 64, True, _bare_mib(),
               "interpreter with gRPC, protobuf, SQLite"),
    ]  # fmt: skip


def _fill(spool: Path, dump: Path, port: int, folder: Path) -> int:
    """Read the dump with no collector there; the agent's most memory (bytes)."""
    with start_agent_once(port, spool, str(dump), log=folder / "fill.log") as agent:
        peak = 0
        watched = _Size(spool)
        while agent.is_running and not watched.rests():
            peak = max(peak, peak_rss_bytes(agent.process.pid))
            time.sleep(0.2)
        agent.kill()
    return peak


class _Size:
    """Tells when a file has stopped growing for a while."""

    def __init__(self, path: Path) -> None:
        self._path, self._last, self._since = path, -1, time.monotonic()

    def rests(self) -> bool:
        """Whether nothing was written for three seconds, once anything was."""
        wal = self._path.with_name(f"{self._path.name}-wal")
        size = sum(each.stat().st_size for each in (self._path, wal) if each.exists())
        stamp = wal.stat().st_mtime_ns if wal.exists() else 0
        if size + stamp != self._last:
            self._last, self._since = size + stamp, time.monotonic()
        return size > 1 << 20 and time.monotonic() - self._since > 3


def _bare_mib() -> float:
    code = "import grpc, google.protobuf.message, sqlite3; input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as bare:
        time.sleep(1)
        peak = peak_rss_bytes(bare.pid)
        bare.kill()
    return peak / 2**20
