"""A Slurm that is only a table: what happened, and when slurmdbd came to know it.

It answers the questions of ``accounting.Accounting`` as Slurm does, and fails to
as Slurm does: with an error, with "too much", or, for a while, with nothing at all.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from jobledger_agent.reading.accounting import (
    Controller,
    RowKey,
    SlurmdbdSettings,
    StepUse,
    TooMuch,
)
from jobledger_agent.records.job import NO_TRES, Reading, SlurmJob, Unreadable
from jobledger_agent.records.tree import TreeEntry
from jobledger_agent.source import SourceError

CLUSTER = "alpha"
CPUS = 4
EPOCH_S = 1_790_000_000
LATE_S = 400
"""A row that slurmdbd learns of later than this, with an empty queue, is past-dated."""
Key = tuple[int, int]

_JOB = SlurmJob._make(0 for _ in SlurmJob._fields)._replace(
    cluster=CLUSTER, state="RUNNING", alloc_tres=(("cpu", CPUS), ("mem", 1024)),
    req_tres=NO_TRES, alloc_cpus=CPUS, nodes=1, node_list="n1", user="alice", account="physics",
    partition="batch", qos="normal", wckey="", reservation="", energy_j=-1, total_cpu_ms=-1,
    max_rss_bytes=-1, timelimit_s=-1, cancelled_by_uid=-1, array_task=-1, het_offset=-1,
    restarts=-1, slurm_elapsed_s=-1,
)  # fmt: skip


@dataclass
class Run:
    """One row: its times (epoch s), and when slurmdbd learned of its start and of its end."""

    job_id: int
    submit: int
    start: int
    end: int
    start_known: int
    end_known: int
    is_garbled: bool = False
    is_purged: bool = False
    was_seen_open: bool = False
    """A whole reading showed it running: how late its end is told does not matter then."""
    was_queued: bool = False
    """Its end waited in slurmctld until slurmdbd was there again."""
    revisions: list[tuple[int, int]] = field(default_factory=list)
    """(when slurmdbd learned of it, another end)."""

    @property
    def key(self) -> Key:
        """Its identity within the cluster."""
        return self.job_id, self.submit

    @property
    def last_end(self) -> int:
        """The end that stands when everything is known."""
        return self.revisions[-1][1] if self.revisions else self.end

    @property
    def last_known(self) -> int:
        """When everything about it is known."""
        return max([self.end_known, *(at for at, _ in self.revisions)])

    @property
    def is_late(self) -> bool:
        """Whether it appears with an End so far in the past that only the sweep must find it."""
        return self.end_known - self.end > LATE_S and not self.was_queued

    @property
    def raw(self) -> bytes:
        """What an unreadable row looks like."""
        return b"%d|%d|garbled" % self.key

    def end_as_of(self, now: int) -> int:
        """What slurmdbd says of its end at a time; 0 while it runs."""
        if now < self.end_known:
            return 0
        told = [end for at, end in self.revisions if at <= now]
        return told[-1] if told else self.end

    def as_of(self, now: int) -> Reading:
        """The row as slurmdbd shows it at a time."""
        end = self.end_as_of(now)
        if self.is_garbled:
            return Unreadable(CLUSTER, "sacct", "End is no time", self.raw, len(self.raw))
        return _JOB._replace(
            job_id=self.job_id, submit=self.submit, eligible=self.submit, start=self.start,
            end=end, state="COMPLETED" if end else "RUNNING", sluid=self.job_id * 7 + self.submit,
            uid=1000 + self.job_id, observed=now,
        )  # fmt: skip


class Slurm:
    """The table; also an ``Accounting`` for whoever reads it."""

    name = "sacct:alpha"
    clusters: Sequence[str] = (CLUSTER,)

    def __init__(self, dice: random.Random, now: "Clock") -> None:
        self.runs: list[Run] = []
        self._dice = dice
        self._clock = now
        self.errors = 0
        """Of a hundred questions so many fail."""
        self.queue_until = 0
        """slurmctld holds its messages until then (epoch s)."""
        self.is_blind = False
        self.purge_after_s = -1
        self._shown_open: list[Run] = []

    @property
    def now(self) -> int:
        """Epoch seconds."""
        return self._clock.now_s()

    def known_at(self, at: int) -> int:
        """When slurmdbd learns what slurmctld sends at a time."""
        return max(at + self._dice.choice((0, 0, 1, 5, 20)), self.queue_until)

    def shown(self) -> Iterator[Run]:
        """The rows that there are now."""
        if not self.is_blind:
            yield from (r for r in self.runs if r.start_known <= self.now and not r.is_purged)

    # ------------------------------------------------------------ as Accounting

    def negotiate(self) -> None:
        """Nothing to find out."""

    def forget(self) -> None:
        """Nothing was found out."""

    def slurmdbd(self) -> SlurmdbdSettings:
        """No commit delay beyond a second."""
        return SlurmdbdSettings(0, self.purge_after_s)

    def controller(self, cluster: str) -> Controller:
        """Say what waits for slurmdbd."""
        assert cluster == CLUSTER
        now = self.now
        waiting = 0
        if now < self.queue_until:
            late = [
                r for r in self.runs if r.start <= now < r.start_known or r.end <= now < r.end_known
            ]
            waiting = max(1, len(late))
        running = sum(r.start <= now < r.end for r in self.runs)
        return Controller(waiting, running if self._dice.random() < 0.9 else -1)

    @contextmanager
    def ended(self, cluster: str, span: tuple[int, int]) -> Iterator[Iterator[Reading]]:
        """All runs that ended in the span."""
        begin, end = span
        self._question(f"ended {begin}..{end} of {cluster}")
        if end - begin > 40_000 and self._dice.randrange(100) < self.errors:
            raise TooMuch("slurmdbd ran out of memory")
        now = self.now
        yield iter([r.as_of(now) for r in self.shown() if begin <= (r.end_as_of(now) or -1) <= end])

    @contextmanager
    def open(self, cluster: str) -> Iterator[Iterator[Reading]]:
        """All runs that have no end."""
        self._question(f"open of {cluster}")
        found = [r for r in self.shown() if not r.end_as_of(self.now) and not r.is_garbled]
        self._shown_open += found
        yield iter([r.as_of(self.now) for r in found])

    def note_seen_open(self) -> None:
        """What was shown running since the last time has been taken in."""
        for run in self._shown_open:
            run.was_seen_open = True
        self._shown_open.clear()

    @contextmanager
    def by_id(self, cluster: str, ids: Sequence[int]) -> Iterator[Iterator[Reading]]:
        """All runs of these jobs."""
        self._question(f"{len(ids)} ids of {cluster}")
        wanted = set(ids)
        found = [r for r in self.shown() if r.job_id in wanted and not r.is_garbled]
        yield iter([r.as_of(self.now) for r in found])

    def step_use(self, cluster: str, ids: Sequence[int]) -> Mapping[RowKey, StepUse]:
        """No job has steps."""
        self._question(f"steps of {len(ids)} of {cluster}")
        return {}

    def tree(self, cluster: str) -> Iterable[TreeEntry]:
        """No accounts: they are proved elsewhere."""
        assert cluster == CLUSTER
        return ()

    def _question(self, question: str) -> None:
        if self._dice.randrange(100) < self.errors:
            raise SourceError(f"sacct failed: {question}")


class Clock:
    """The only clock of a world; it never goes back."""

    def __init__(self, start_s: int) -> None:
        self.ms = start_s * 1000

    def now_s(self) -> int:
        """Epoch seconds."""
        return self.ms // 1000

    def now_ms(self) -> int:
        """Milliseconds since the epoch; also the monotonic clock."""
        return self.ms

    def pass_ms(self, ms: int) -> None:
        """Let time pass."""
        self.ms += ms
