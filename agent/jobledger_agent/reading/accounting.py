"""What a live Slurm can be asked, whichever way: the questions of one reading cycle.

``cycle`` asks them in the right order and decides what an answer moves; what
implements this only asks and validates. An answer is handed out after the whole
of it has arrived and its end was proved, so that a reading is never part of an
answer that failed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from jobledger_agent.records.job import UNKNOWN, Reading
from jobledger_agent.records.tree import TreeEntry
from jobledger_agent.source import SourceError

RowKey = tuple[int, int]
"""Job id and row (DBIndex or SLUID; 0 where the source does not tell it)."""


class StepUse(NamedTuple):
    """What the steps of one run add up to; fields as in SlurmJob."""

    total_cpu_ms: int
    max_rss_bytes: int
    steps: int


class TooMuch(SourceError):
    """Slurm will not, or cannot in time, answer for so long a span: ask for less."""


class Controller(NamedTuple):
    """What slurmctld says of itself; UNKNOWN (-1) where it cannot be asked.

    ``dbd_queue`` are messages that it holds for slurmdbd, ``running`` the jobs
    that hold resources now.
    """

    dbd_queue: int = UNKNOWN
    running: int = UNKNOWN


class SlurmdbdSettings(NamedTuple):
    """What slurmdbd's own settings say; UNKNOWN (-1) where they cannot be asked.

    A record may appear ``commit_delay_s`` after slurmdbd took it. Runs that ended
    ``purge_after_s`` ago may be gone (0: never purged); months count 28 days.
    """

    commit_delay_s: int = UNKNOWN
    purge_after_s: int = UNKNOWN


Answer = AbstractContextManager[Iterator[Reading]]
"""The readings of one complete answer; consumed inside the with."""


class Accounting(Protocol):
    """A live Slurm. Each question raises SourceError when its answer is no proof."""

    @property
    def name(self) -> str:
        """Unique among the agent's sources, as "sacct:alpha,beta"."""

    @property
    def clusters(self) -> Sequence[str]:
        """The clusters to report for."""

    def negotiate(self) -> None:
        """Find out, once, what can be asked and whether the clusters exist."""

    def forget(self) -> None:
        """Something failed: negotiate again, for Slurm may have been upgraded."""

    def controller(self, cluster: str) -> Controller:
        """The controller's own figures; never raises for what cannot be asked."""

    def slurmdbd(self) -> SlurmdbdSettings:
        """What slurmdbd is set to; never raises for what cannot be asked."""

    def ended(self, cluster: str, span: tuple[int, int]) -> Answer:
        """All runs that ended in ``span`` (epoch s, both ends included). Raises TooMuch too."""

    def open(self, cluster: str) -> Answer:
        """All runs that hold resources now."""

    def by_id(self, cluster: str, ids: Sequence[int]) -> Answer:
        """All runs of these jobs (at most 200 ids), ended or not."""

    def step_use(self, cluster: str, ids: Sequence[int]) -> Mapping[RowKey, StepUse]:
        """What the steps of these jobs (at most 200 ids) add up to."""

    def tree(self, cluster: str) -> Iterable[TreeEntry]:
        """Every account, user, association and QOS of the cluster as it is now."""
