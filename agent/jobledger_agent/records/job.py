"""What Slurm said of one job run, typed: the agent's only record type.

A run is one row of slurmdbd's job table. Its identity is (cluster, job_id,
submit): slurmdbd's own unique index, which a requeue or resize always changes.
"""

from typing import Final, NamedTuple

Tres = tuple[tuple[str, int], ...]
"""Resources by name, sorted, in base units (mem in MiB), without energy."""

NO_TRES: Tres = ()
UNKNOWN = -1
"""A figure that Slurm did not give; never to be mistaken for zero."""
MAX_RAW_BYTES = 65_536
"""What is kept of a record that cannot be read."""
ARRAY_REMAINDER = -2
"""``array_task`` of the row that stands for an array's tasks not yet started."""


class SlurmJob(NamedTuple):
    """One job run, steps folded in. Times are epoch seconds, 0 for unknown.

    The fields, their order and their units are those of ``JobColumns`` in
    ``usage.proto``, where each is described. A NamedTuple and not a dataclass
    because a million of them pass through on an ordinary day.
    """

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


BLANK: Final = SlurmJob(
    cluster="", job_id=0, submit=0, eligible=0, start=0, end=0, suspended_s=0,
    slurm_elapsed_s=UNKNOWN, state="", cancelled_by_uid=UNKNOWN, exit_code=0, exit_signal=0,
    alloc_tres=NO_TRES, req_tres=NO_TRES, alloc_cpus=UNKNOWN, nodes=0, node_list="", user="",
    uid=UNKNOWN, account="", assoc_id=0, partition="", qos="", wckey="", reservation="",
    reservation_id=0, array_job_id=0, array_task=UNKNOWN, het_job_id=0, het_offset=UNKNOWN,
    restarts=UNKNOWN, sluid=0, timelimit_s=UNKNOWN, energy_j=UNKNOWN, total_cpu_ms=UNKNOWN,
    max_rss_bytes=UNKNOWN, steps=0, observed=0,
)  # fmt: skip
"""A run of which nothing is known: ``_replace`` what a scheduler tells."""


class Unreadable(NamedTuple):
    """A record that could not be read, kept as it came for the quarantine."""

    cluster: str
    origin: str
    reason: str
    raw: bytes
    raw_size: int


def set_aside(cluster: str, origin: str, reason: str, text: str) -> Unreadable:
    """A record kept as it came, cut to 64 KiB. ``text`` is decoded with surrogateescape."""
    raw = text.encode("utf-8", "surrogateescape")
    return Unreadable(cluster, origin, reason, raw[:MAX_RAW_BYTES], len(raw))


Reading = SlurmJob | Unreadable
"""What a source yields for each record: never an exception for one bad record."""

_TRES_BYTES = 160
"""What one entry of a Tres takes in memory, roughly."""


def weight_bytes(reading: Reading) -> int:
    """What a reading takes in memory beyond the ordinary, roughly: its texts and TRES."""
    if isinstance(reading, Unreadable):
        return len(reading.raw)
    texts = sum(len(value) for value in reading if isinstance(value, str))
    return texts + _TRES_BYTES * (len(reading.alloc_tres) + len(reading.req_tres))
