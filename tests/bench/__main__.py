"""``make bench``: the whole path against the floor, in one run on PostgreSQL.

The floor is plain COPY of the same rows into a table with the same key, a
commit every 2,000 rows; measured before and after the path, since machines are
noisy. The path is file -> agent -> spool -> gRPC -> collector
-> dedupe -> price -> stored, with everything on that is on in service. Both are
given as wall time and as CPU-seconds of all processes, PostgreSQL's included,
because COPY keeps one core busy and the path keeps two: on a busy machine only
the CPU ratio holds. Starting the agent is part of the path; the collector and
PostgreSQL run before it begins, as they do in service.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import agent
from tests.bench.floor import copy_rows
from tests.bench.usage import PostgresCpu, cpu_of_ended_s, cpu_of_running_s
from tests.ports import free_port
from tests.postgres import DURABLE, PostgresServer
from tests.system.bulk import write_dump
from tests.system.memory import wait_and_watch
from tests.system.programs import start_agent_once, start_collector

GIVE_UP_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Wall and CPU seconds of one way to store ``jobs`` jobs, CPU by program.

    ``agent_peak_bytes`` is the most memory that the agent held, 0 without one.
    """

    jobs: int
    wall_s: float
    cpu_by_s: Mapping[str, float]
    agent_peak_bytes: int = 0

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all programs."""
        return sum(self.cpu_by_s.values())

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
    by_program = {"postgresql": cpu.seconds() - began_cpu, "copy": time.process_time() - own}
    return Measured(jobs, wall, by_program)


def measure_path(server: PostgresServer, dump: Path, jobs: int, folder: Path) -> Measured:
    """Send the dump through the real agent and collector."""
    url = server.create()
    agent.prepare(url)
    cpu = PostgresCpu(server.pid)
    port = free_port()
    collector = start_collector(url, port, folder / "collector.log")
    with collector:
        agents, before = cpu_of_ended_s(), cpu.seconds()
        served = cpu_of_running_s(collector.process.pid)
        began = time.monotonic()
        sender = start_agent_once(port, folder / "spool.db", str(dump), log=folder / "agent.log")
        with sender:
            status, peak_bytes = wait_and_watch(sender, GIVE_UP_S)
        wall = time.monotonic() - began
        by_program = {
            "agent": cpu_of_ended_s() - agents,
            "collector": cpu_of_running_s(collector.process.pid) - served,
            "postgresql": cpu.seconds() - before,
        }
        if status != 0:
            raise SystemExit(sender.output())
        collector.stop()
    return Measured(jobs, wall, by_program, peak_bytes)


def mean(first: Measured, second: Measured) -> Measured:
    """Return what two measurements of the same thing come to."""
    by_program = {
        name: (cpu_s + second.cpu_by_s[name]) / 2 for name, cpu_s in first.cpu_by_s.items()
    }
    return Measured(first.jobs, (first.wall_s + second.wall_s) / 2, by_program)


def per_job_us(path: Measured, floor: Measured) -> dict[str, float]:
    """Return the CPU microseconds that a job costs each program, and the floor's."""
    spent = {name: cpu_s / path.jobs * 1e6 for name, cpu_s in path.cpu_by_s.items()}
    return spent | {"floor": floor.cpu_s / floor.jobs * 1e6}


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
                "cpu_us_per_job": {
                    name: round(us, 1) for name, us in per_job_us(path, floor).items()
                },
                "agent_peak_mib": round(path.agent_peak_bytes / 2**20, 1),
            }
        )
    spent = ", ".join(f"{name} {us:.1f}" for name, us in per_job_us(path, floor).items())
    row = "{:<28}{:>10.2f}{:>10.2f}{:>12,.0f}".format
    return "\n".join(
        (
            f"{path.jobs:,} jobs         {'':<9}  wall s     CPU s      jobs/s",
            row("plain COPY, keyed (floor)", floor.wall_s, floor.cpu_s, floor.jobs_per_s),
            row("file -> priced and stored", path.wall_s, path.cpu_s, path.jobs_per_s),
            f"{'times the floor':<28}{wall:>10.2f}{cpu:>10.2f}",
            f"CPU \N{MICRO SIGN}s a job: {spent}",
            f"agent's peak memory: {path.agent_peak_bytes / 2**20:.1f} MiB",
        )
    )


def bench_path(folder: Path, server: PostgresServer, jobs: int) -> tuple[Measured, Measured]:
    """Measure floor and path; the floor before and after, since machines are noisy."""
    dump = folder / "dump.txt"
    write_dump(dump, jobs)
    floor = measure_floor(server, dump, jobs)
    path = measure_path(server, dump, jobs, folder)
    return mean(floor, measure_floor(server, dump, jobs)), path


def bench_agent(
    folder: Path, server: PostgresServer, jobs: int, *, as_json: bool
) -> tuple[str, bool]:
    """Measure the agent's own figures; their text, and whether every target is met.

    On a machine that is busy with other work a missed target is told and no failure.
    """
    syncs = agent.syncs_per_s(folder)
    found = agent.figures(folder, jobs, server)
    load = os.getloadavg()[0]
    if as_json:
        told: dict[str, object] = {"jobs": jobs, "load": load, "syncs_per_s": round(syncs)}
        text = json.dumps(told | {"figures": [each.as_dict() for each in found]})
    else:
        lines = [f"{jobs:,} jobs, load {load:.1f}, {syncs:,.0f} synced pages/s on this disk"]
        text = "\n".join([*lines, *(each.as_text() for each in found)])
    is_busy = load > (os.cpu_count() or 1)  # others had the cores: nothing is proved by a miss
    return text, is_busy or all(each.is_met for each in found)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 1 if a target of the agent is missed, else 0."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--jobs", type=int, default=200_000, help="how many (200000)")
    parser.add_argument("--json", action="store_true", help="one JSON object a part, a line each")
    parser.add_argument("--only", choices=("path", "agent"), help="one part (both)")
    args = parser.parse_args(argv)
    is_met = True
    with scratch() as folder, PostgresServer(DURABLE) as server:
        if args.only != "agent":
            floor, path = bench_path(folder, server, args.jobs)
            sys.stdout.write(report(floor, path, as_json=args.json) + "\n")
        if args.only != "path":
            text, is_met = bench_agent(folder, server, args.jobs, as_json=args.json)
            sys.stdout.write(text + "\n")
    return 0 if is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
