"""What the tests of the sources share: writing dumps, reading them, and the truth about them."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jobledger_agent.records.job import Reading, SlurmJob, Unreadable
from jobledger_agent.source import SourceError
from jobledger_agent.sources.files import FileSource

DATA = Path(__file__).parent.parent / "data"

PLAIN: Mapping[str, str] = {
    "Cluster": "alpha",
    "JobIDRaw": "2",
    "JobID": "2",
    "DBIndex": "7",
    "Submit": "1795199294",
    "Eligible": "1795199294",
    "Start": "1795199300",
    "End": "1795199306",
    "ElapsedRaw": "6",
    "Suspended": "00:00:00",
    "State": "COMPLETED",
    "ExitCode": "0:0",
    "AllocTRES": "billing=2,cpu=2,gres/gpu=1,mem=100M,node=1",
    "ReqTRES": "billing=2,cpu=2,gres/gpu=1,mem=100M,node=1",
    "AllocCPUS": "2",
    "UID": "12001",
    "User": "alice",
    "Account": "phys_theory",
    "AssocID": "10",
    "Partition": "cpu",
    "QOS": "normal",
    "WCKey": "*",
    "JobName": "plain",
    "Comment": "",
}
"""A run of 6 seconds on 2 CPUs, 1 GPU and 100 MiB."""

COLUMNS = tuple(PLAIN)


class Outcome(NamedTuple):
    """What became of a dump."""

    jobs: list[SlurmJob]
    unreadable: list[Unreadable]
    complaint: str

    @property
    def only(self) -> SlurmJob:
        """The one job of a dump that has one and nothing else."""
        assert not self.unreadable, self.unreadable
        assert not self.complaint
        (job,) = self.jobs
        return job


def row(**values: str) -> list[str]:
    """A row of COLUMNS: PLAIN with these values instead."""
    return [{**PLAIN, **values}[name] for name in COLUMNS]


def read(source: FileSource, position: str = "") -> Outcome:
    """All that a source yields, and what it complained of at the end."""
    readings: list[Reading] = []
    complaint = ""
    try:
        for block in source.read(position):
            readings.extend(block.readings)
    except SourceError as error:
        complaint = str(error)
    jobs = [reading for reading in readings if isinstance(reading, SlurmJob)]
    return Outcome(jobs, [r for r in readings if isinstance(r, Unreadable)], complaint)


def dump(
    path: Path,
    rows: Iterable[Sequence[str]],
    *,
    columns: Sequence[str] = COLUMNS,
    delimiter: str = "|",
    end: str = "\n",
) -> Path:
    """A dump as ``sacct -P --delimiter`` prints it, with a header."""
    lines = [delimiter.join(fields) + end for fields in [columns, *rows]]
    path.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
    return path


def read_rows(tmp_path: Path, *rows: Sequence[str], delimiter: str = "|") -> Outcome:
    """What a dump of these rows says."""
    return read(FileSource(dump(tmp_path / "dump.txt", rows, delimiter=delimiter)))


class Truth(NamedTuple):
    """One row of slurmdbd's own job table. ``mem`` is in MiB."""

    start: int
    end: int
    suspended_s: int
    cpu: int
    mem: int
    node: int
    gpu: int


class Sums(NamedTuple):
    """Seconds, and seconds times what was held."""

    elapsed_s: int
    cpu_s: int
    gpu_s: int
    mem_mib_s: int
    node_s: int


@cache
def truth(version: str) -> dict[tuple[int, int], Truth]:
    """The job table of slurmdbd for cluster alpha, by job id and submit time."""
    path = DATA / f"slurm-{version}" / "db-jobtable.tsv"
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    header, *lines = text.rstrip("\n").split("\n")
    found = {}
    for line in lines:
        got = dict(zip(header.split("\t"), line.split("\t"), strict=True))
        held = dict(entry.split("=") for entry in got["tres_alloc"].split(",") if entry)
        found[int(got["id_job"]), int(got["time_submit"])] = Truth(
            start=int(got["time_start"]),
            end=int(got["time_end"]),
            suspended_s=int(got["time_suspended"]),
            cpu=int(held.get("1", 0)),
            mem=int(held.get("2", 0)),
            node=int(held.get("4", 0)),
            gpu=int(held.get("1001", 0)),
        )
    return found


def sums(runs: Mapping[tuple[int, int], Truth]) -> Sums:
    """What these runs used; only what has ended and had started."""
    total = [0, 0, 0, 0, 0]
    for (_, submit), run in runs.items():
        if run.start and run.end:
            active = max(0, run.end - max(run.start, submit) - run.suspended_s)
            held = (1, run.cpu, run.gpu, run.mem, run.node)
            total = [sum_ + active * n for sum_, n in zip(total, held, strict=True)]
    return Sums(*total)


def as_truth(job: SlurmJob) -> Truth:
    """What a job that was read says of the figures of the table."""
    held = dict(job.alloc_tres)
    return Truth(
        start=job.start,
        end=job.end,
        suspended_s=job.suspended_s,
        cpu=held.get("cpu", 0),
        mem=held.get("mem", 0),
        node=held.get("node", 0),
        gpu=held.get("gres/gpu", 0),
    )
