"""Asking Slurm for a stretch of the past, in slices that it answers with ease."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

from jobledger_agent import clock
from jobledger_agent.reading.accounting import Accounting, TooMuch
from jobledger_agent.reading.sweep import SLICE_MIN_S, Pace
from jobledger_agent.records.job import UNKNOWN, Reading
from jobledger_agent.settings.config import ConfigError
from jobledger_agent.settings.sections import AgentConfig
from jobledger_agent.source import SourceError
from jobledger_agent.sources.feeds import accountings

QUEUE_WAIT_S: Final = 10
"""How often a long queue of slurmctld's is looked at again."""
RETRY_S: Final = (2, 5, 10, 30, 60)
"""Waits between the attempts at one slice; after the last one it is given up."""


class Past(NamedTuple):
    """A cluster, who is asked for it, and when slurmctld's queue is too long for questions."""

    accounting: Accounting
    cluster: str
    dbd_queue_max: int


class Answered(NamedTuple):
    """One slice (epoch s, both ends included) and its runs, to be consumed before the next."""

    begin: int
    end: int
    readings: Iterator[Reading]


Wait = Callable[[float], bool]
"""Waits for seconds; True if it is time to stop."""


def clusters_of(config: AgentConfig, only: Sequence[str] = ()) -> tuple[Past, ...]:
    """Return every cluster that a live source reads, or ``only`` these. Raises ConfigError."""
    found = tuple(
        Past(accounting, cluster, section.dbd_queue_max)
        for section, accounting in accountings(config)
        for cluster in accounting.clusters
        if not only or cluster in only
    )
    there = {past.cluster for past in found}
    for name in only:
        if name not in there:
            raise ConfigError(f"no [[source]] of kind sacct or slurmrestd reads cluster {name}")
    if not found:
        raise ConfigError(
            "there is no [[source]] of kind sacct or slurmrestd: only these can be asked for the"
            " past; to read dumps again, `jobledger-agent once --input FILE`"
        )
    return found


def slices(past: Past, begin: int, end: int, wait: Wait) -> Iterator[Answered]:
    """Ask for what ended from ``begin`` to ``end`` (epoch s, both included), oldest first.

    Waits while slurmctld's queue for slurmdbd is long, and asks again for what
    failed. Stops early if ``wait`` says so. Raises SourceError when that was of no use.
    """
    pace = Pace()
    failures = 0
    while begin <= end:
        last = min(end, begin + pace.slice_s - 1)
        with ExitStack() as stack:
            try:
                _await_queue(past, wait)
                past.accounting.negotiate()
                asked_ms = clock.monotonic_ms()
                answer = stack.enter_context(past.accounting.ended(past.cluster, (begin, last)))
                took_ms = clock.monotonic_ms() - asked_ms
            except TooMuch:
                if last - begin < SLICE_MIN_S:
                    raise
                pace = pace.halved(last - begin + 1)
                continue
            except SourceError:
                past.accounting.forget()
                if failures == len(RETRY_S) or wait(RETRY_S[failures]):
                    raise
                failures += 1
                continue
            rows = _Rows()
            yield Answered(begin, last, rows.counting(answer))
        failures = 0
        pace = pace.after(last - begin + 1, rows.count, took_ms)
        begin = last + 1


class _Rows:
    count = 0

    def counting(self, readings: Iterator[Reading]) -> Iterator[Reading]:
        for reading in readings:
            self.count += 1
            yield reading


def _await_queue(past: Past, wait: Wait) -> None:
    """Wait while slurmctld holds many messages for slurmdbd: more questions would delay them."""
    while _queue(past) > past.dbd_queue_max:
        if wait(QUEUE_WAIT_S):
            raise SourceError(f"slurmctld's queue for slurmdbd of {past.cluster} is long")


def _queue(past: Past) -> int:
    """Return slurmctld's queue; unknown while it is away, which does not hide the past."""
    try:
        return past.accounting.controller(past.cluster).dbd_queue
    except SourceError:
        return UNKNOWN
