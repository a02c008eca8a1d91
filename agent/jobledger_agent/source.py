"""What every source of job records promises: the whole interface.

A source yields readings in blocks, each with the position *after* it. The
service stores a block and its position in one transaction, so a source that is
asked again with the last stored position continues where it stopped, and one
that is asked again with an older position only repeats itself.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from jobledger_agent.errors import AgentError
from jobledger_agent.records.job import Reading
from jobledger_agent.records.tree import TreeEntry

MAX_BLOCK_READINGS = 1_000
"""Readings in one block: one spool row, one wire batch."""
MAX_BLOCK_BYTES = 262_144
"""Of what a block was read from: it ends early where records are large, or the agent would grow."""


class Sweep(NamedTuple):
    """A stretch of the past that is read again to prove that nothing is missing.

    All runs of ``cluster`` that ended from ``begin`` to ``end`` (epoch s, both
    included) are in the consecutive blocks that carry this; the last one says so.
    A block without readings comes before Slurm is asked for them: who cannot compare
    now stops reading there, so that sweeps stand at the end of a reading.
    """

    cluster: str
    begin: int
    end: int
    is_last: bool


class Block(NamedTuple):
    """Consecutive readings and the source's position once they are stored."""

    readings: tuple[Reading, ...]
    position: str
    complete_through: int
    """Everything that ended before this (epoch seconds) is in this block or an
    earlier one; 0 when the source cannot say."""
    tree: tuple[TreeEntry, ...] = ()
    """What changed in the account tree, or all of it once a day."""
    sweep: Sweep | None = None
    """These readings are compared with the collector; what it lacks is sent again."""


class SourceFacts(NamedTuple):
    """What a live source last learned about one cluster, for metrics and status.

    Counts are -1 and times (epoch seconds) 0 while they are not known.
    """

    dbd_queue: int = -1
    """Messages that slurmctld holds for slurmdbd."""
    running: int = -1
    """Jobs that slurmctld says are running."""
    open_runs: int = -1
    """Runs that the accounting shows running or suspended."""
    sweep_through: int = 0
    """Everything that ended before this was read again by a sweep."""
    canary_ok_at: int = 0
    """When known finished runs were last found again."""
    paused: str = ""
    """Why this cluster is not read now; empty while it is."""
    slice_s: int = 0
    """Span of one question about the past."""
    runaway_suspects: int = -1
    """Open runs that cannot plausibly still run; never acted upon."""


class SourceError(AgentError):
    """The source could not be read now; says what happened and what to do.

    Nothing is lost: the position stays where it was and the next cycle asks
    for the same span again.
    """


class Source(Protocol):
    """Somewhere that job records come from."""

    @property
    def name(self) -> str:
        """Unique among the agent's sources; its position is kept under it."""

    def read(self, position: str) -> Iterator[Block]:
        """Yield what follows ``position`` ("" at first), then stop.

        A block may hold no readings: it then only moves the position. Raises
        SourceError when the source cannot be read, or, after the last block,
        when it was read but something in it was cut off; blocks yielded before
        that stand.
        """


@runtime_checkable
class Telling(Protocol):
    """A source that can say how its clusters are; asked from another thread."""

    def facts(self) -> Mapping[str, SourceFacts]:
        """Return the facts by cluster, as of the last reading; never asks Slurm."""


@runtime_checkable
class Glancing(Protocol):
    """A live source that can look only at what the end of a job changes."""

    def glance(self, position: str) -> Iterator[Block]:
        """As ``read``, but only what ended and what vanished: after a kick, at most every 2 s."""
