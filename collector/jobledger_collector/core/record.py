"""A job run as the collector knows it: what arrived, and what it used.

Pure: standard library only. ``wire.py`` builds a JobRecord from the wire and
nothing after it checks a field again.
"""

import hashlib
from collections.abc import Iterable
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

Tres = tuple[tuple[str, int], ...]
"""Resources by name, sorted, in base units (mem in MiB), without energy."""

UNKNOWN = -1
"""A figure that Slurm did not give; never to be mistaken for zero."""


CACHED_TRES: Final = 20_000
"""Distinct TRES combinations whose text is remembered; clusters see few."""


class Flag(StrEnum):
    """What a person should know of a run; kept with it, comma-separated."""

    NO_PRICE = "no_price"
    NO_CARD = "no_card"
    UNKNOWN_TIER = "unknown_tier"
    UNKNOWN_STATE = "unknown_state"
    """Ended in a state that this version does not know; charged by its times."""
    MERGED_RUN = "merged_run"
    """Disjoint times under one key, added together (conformance case 19)."""
    HELD_CHANGE = "held_change"
    """A later record with a smaller allocation was not applied (case 38)."""
    ATTRIBUTION_KEPT = "attribution_kept"
    """Slurm names another user, account or wckey since; the first stands (37, 39)."""
    OPEN_AFTER_END = "open_after_end"
    """It was seen open later than its end: runaway or back-dated (cases 8, 34)."""
    NO_MEMORY = "no_memory"
    """It held resources but Slurm named no memory (case 32)."""
    SUSPENDED_TOO_LONG = "suspended_too_long"
    """Suspended for longer than it lasted; charged nothing, as Slurm counts."""


PRICING_FLAGS: Final = frozenset({Flag.NO_PRICE, Flag.NO_CARD, Flag.UNKNOWN_TIER})
"""Flags that a rate card or an account can change; the others are the record's."""


class Verdict(IntEnum):
    """What became of one record; the numbers are those of ``usage.proto``."""

    NEW = 1
    KNOWN = 2
    REVISED = 3
    QUARANTINED = 4


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

    ``start`` is already max(Start, Submit): the row after a resize may carry the
    original start, and its first seconds are in the row before (cases 11, 12).
    ``active_s`` excludes suspension, ``wall_s`` includes it.
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


class Usage(NamedTuple):
    """What a run used, in base units; all zero until it has ended.

    ``spans`` is what prices are computed from: one for a normal run, more when
    Slurm merged several runs into one row (conformance case 19), none for a run
    that used nothing. ``energy_j`` is UNKNOWN when Slurm gave none. A
    NamedTuple because each of a million runs a day has one.
    """

    spans: tuple[Span, ...]
    elapsed_s: int
    cpu_s: int
    gpu_s: int
    mem_mib_s: int
    node_s: int
    energy_j: int


NO_USAGE: Final = Usage((), 0, 0, 0, 0, 0, UNKNOWN)
"""Of a run that has not ended, or never started."""


def with_pricing_flags(flags: Iterable[str], pricing: Iterable[str]) -> tuple[str, ...]:
    """Return a run's flags with those of its pricing replaced, in a fixed order."""
    return tuple(sorted({*(set(flags) - PRICING_FLAGS), *pricing}))


class Rejected(NamedTuple):
    """A record that cannot be stored: data, not an exception."""

    reason: str
    field: str


class Quarantined(NamedTuple):
    """A record kept as it came, with the reason that it could not be stored.

    ``origin`` is where it was read; ``raw`` may be cut, ``raw_size`` is the
    whole record's, both in bytes.
    """

    cluster: str
    origin: str
    reason: str
    raw: bytes
    raw_size: int


CONTENT_FORMAT: Final = (
    "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%d\t%d\t%d\t%s\t%s\t%d\t%d\t%s\t%s\t%d"
    "\t%s\t%d\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d"
)
"""All fields of JobRecord but ``observed``, tab-separated, TRES as text."""


def content_text(record: JobRecord) -> str:
    """Return a record's content as one line: what its digest is taken of.

    Also the line that a bulk load copies, so texts are escaped as it wants
    them, which also makes the line unambiguous.
    """
    fields = [
        escaped(value) if type(value) is str else value
        for value in record._replace(
            alloc_tres=tres_text(record.alloc_tres),  # type: ignore[arg-type]
            req_tres=tres_text(record.req_tres),  # type: ignore[arg-type]
        )[:-1]
    ]
    return CONTENT_FORMAT % tuple(fields)


def escaped(text: str) -> str:
    """Return the text with what separates fields and rows written as escapes."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def content_digest(content: str) -> str:
    """Return the hash by which two sightings of a run are told apart."""
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


@lru_cache(maxsize=CACHED_TRES)
def tres_text(tres: Tres) -> str:
    """Write TRES in the store's one form: "cpu=2,gres/gpu:a100=1,mem=4000"."""
    return ",".join([f"{name}={count}" for name, count in tres])


@lru_cache(maxsize=CACHED_TRES)
def tres_of(text: str) -> Tres:
    """Read what ``tres_text`` wrote; raises ValueError on anything else."""
    pairs = [item.rpartition("=") for item in text.split(",")] if text else []
    return tuple([(name, int(count)) for name, _, count in pairs])
