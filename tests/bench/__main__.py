"""``make bench``: the whole path against the floor, in one run on PostgreSQL.

The floor is plain COPY of the same rows into a table with the same key, a
commit every 2,000 rows. The path is file -> agent -> spool -> gRPC -> collector
-> dedupe -> price -> stored, with everything on that is on in service. Both are
given as wall time and as CPU-seconds of all processes, PostgreSQL's included,
because COPY keeps one core busy and the path keeps two: on a busy machine only
the CPU ratio holds.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobledger_collector import cli as collector_cli
from jobledger_collector.admin import cli as admin_cli
from tests.bench.floor import copy_rows
from tests.bench.usage import PostgresCpu, cpu_of_ended_s
from tests.postgres import DURABLE, PostgresServer
from tests.system.bulk import write_dump
from tests.system.programs import free_port, start_agent_once, start_collector

CARD = Path(__file__).parents[2] / "packaging" / "rates" / "mahidol.yaml"


@dataclass(frozen=True, slots=True)
class Measured:
    """Wall and CPU seconds of one way to store ``jobs`` jobs."""

    jobs: int
    wall_s: float
    cpu_s: float

    @property
    def jobs_per_s(self) -> float:
        """Jobs stored a second of wall time."""
        return self.jobs / self.wall_s


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that goes away afterwards."""
    with tempfile.TemporaryDirectory(prefix="jobledger-bench-") as folder:
        yield Path(folder)


def measure_floor(server: PostgresServer, dump: Path, jobs: int) -> Measured:
    """COPY the dump's rows into a keyed table."""
    url = server.create()
    cpu = PostgresCpu(server.pid)
    began_cpu, own = cpu.seconds(), time.process_time()
    began = time.monotonic()
    copy_rows(url, dump)
    wall = time.monotonic() - began
    return Measured(jobs, wall, cpu.seconds() - began_cpu + time.process_time() - own)


def measure_path(server: PostgresServer, dump: Path, jobs: int, folder: Path) -> Measured:
    """Send the dump through the real agent and collector."""
    url = server.create()
    migrated = collector_cli.main(["migrate", "--db", url])
    if migrated or admin_cli.main(["--db", url, "rates", "load", str(CARD)]):
        message = "the database could not be prepared; see above"
        raise SystemExit(message)
    cpu = PostgresCpu(server.pid)
    port = free_port()
    collector = start_collector(url, port, folder / "collector.log")
    children_before = cpu_of_ended_s()
    before = cpu.seconds()
    began = time.monotonic()
    agent = start_agent_once(port, folder / "spool.db", str(dump), log=folder / "agent.log")
    status = agent.process.wait()
    wall = time.monotonic() - began
    collector.stop()
    if status != 0:
        raise SystemExit(agent.output())
    processes = cpu_of_ended_s() - children_before
    return Measured(jobs, wall, cpu.seconds() - before + processes)


def report(floor: Measured, path: Measured, *, as_json: bool) -> str:
    """Return the figures as text, or as one JSON object."""
    wall, cpu = path.wall_s / floor.wall_s, path.cpu_s / floor.cpu_s
    if as_json:
        return json.dumps(
            {
                "jobs": path.jobs,
                "floor_jobs_per_s": round(floor.jobs_per_s),
                "path_jobs_per_s": round(path.jobs_per_s),
                "wall_ratio": round(wall, 2),
                "cpu_ratio": round(cpu, 2),
            }
        )
    row = "{:<28}{:>10.2f}{:>10.2f}{:>12,.0f}".format
    return "\n".join(
        (
            f"{path.jobs:,} jobs         {'':<9}  wall s     CPU s      jobs/s",
            row("plain COPY, keyed (floor)", floor.wall_s, floor.cpu_s, floor.jobs_per_s),
            row("file -> priced and stored", path.wall_s, path.cpu_s, path.jobs_per_s),
            f"{'times the floor':<28}{wall:>10.2f}{cpu:>10.2f}",
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000, help="how many (200000)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args(argv)
    with scratch() as folder, PostgresServer(DURABLE) as server:
        dump = folder / "dump.txt"
        write_dump(dump, args.jobs)
        floor = measure_floor(server, dump, args.jobs)
        path = measure_path(server, dump, args.jobs, folder)
    sys.stdout.write(report(floor, path, as_json=args.json) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
