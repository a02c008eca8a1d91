"""A job run as the collector knows it: what arrived, and what it used.

Pure: standard library only. ``wire.py`` builds a JobRecord from the wire and
nothing after it checks a field again.
"""

from dataclasses import dataclass
from typing import NamedTuple

Tres = tuple[tuple[str, int], ...]
"""Resources by name, sorted, in base units (mem in MiB), without energy."""

UNKNOWN = -1
"""A figure that Slurm did not give; never to be mistaken for zero."""


class RunKey(NamedTuple):
    """Identity of a job run: slurmdbd's own unique index, led by the cluster."""

    cluster: str
    job_id: int
    submit: int


class JobRecord(NamedTuple):
    """One sighting of one job run. Fields as in ``usage.proto`` JobColumns."""

    cluster: str
    job_id: int
    submit: int
    eligible: int
    start: int
    end: int
    suspended_s: int
    slurm_elapsed_s: int
    state: str
    cancelled_by_uid: int
    exit_code: int
    exit_signal: int
    alloc_tres: Tres
    req_tres: Tres
    alloc_cpus: int
    nodes: int
    node_list: str
    user: str
    uid: int
    account: str
    assoc_id: int
    partition: str
    qos: str
    wckey: str
    reservation: str
    reservation_id: int
    array_job_id: int
    array_task: int
    het_job_id: int
    het_offset: int
    restarts: int
    sluid: int
    timelimit_s: int
    energy_j: int
    total_cpu_ms: int
    max_rss_bytes: int
    steps: int
    observed: int

    @property
    def key(self) -> RunKey:
        """The run that this is a sighting of."""
        return RunKey(self.cluster, self.job_id, self.submit)


class Span(NamedTuple):
    """A stretch of time in which a run held a fixed set of resources.

    ``start`` is already max(Start, Submit), so a resized run never counts twice
    (slurm.md 3.6). ``active_s`` excludes suspension, ``wall_s`` includes it.
    """

    start: int
    end: int
    suspended_s: int
    tres: Tres

    @property
    def wall_s(self) -> int:
        """Seconds from start to end, suspension included."""
        return max(0, self.end - self.start)

    @property
    def active_s(self) -> int:
        """Seconds that the run was not suspended."""
        return max(0, self.wall_s - self.suspended_s)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run used, in base units; all zero until it has ended.

    ``spans`` is what prices are computed from: one for a normal run, more when
    Slurm merged several runs into one row (conformance case 19).
    """

    spans: tuple[Span, ...]
    elapsed_s: int
    cpu_s: int
    gpu_s: int
    mem_mib_s: int
    node_s: int
    energy_j: int


class Rejected(NamedTuple):
    """A record that cannot be stored: data, not an exception."""

    reason: str
    field: str
