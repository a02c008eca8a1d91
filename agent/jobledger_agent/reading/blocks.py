"""Readings of one answer into blocks, noting on the way what the cycle must know. Pure."""

from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from jobledger_agent.reading.canary import MAX_CANARIES, Canaries, canary_of, chosen
from jobledger_agent.records.job import UNKNOWN, Reading, SlurmJob, weight_bytes
from jobledger_agent.records.runs import Runs, run_of
from jobledger_agent.source import MAX_BLOCK_BYTES, MAX_BLOCK_READINGS, Block

HALF_TOLD_S: Final = 300
"""How long an ended run without AllocTRES is asked for again before it is passed on."""
PLAUSIBLE_BEYOND_LIMIT_S: Final = 86_400
"""How long past its time limit an open run may be before it is suspected of being a runaway."""


class Noted:
    """What passed by: how many rows, which runs were open and ended, which look like runaways."""

    def __init__(self, now: int) -> None:
        self._now = now
        self.rows = 0
        self.suspects = 0
        self.running = 0
        self.open = array("Q")
        self.ended = array("Q")
        self.canaries: Canaries = ()

    def over(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        """The readings as they are."""
        for reading in readings:
            self.rows += 1
            if isinstance(reading, SlurmJob):
                self._note(reading)
            yield reading

    def _note(self, job: SlurmJob) -> None:
        run = run_of(job.job_id, job.submit)
        if not job.end:
            self.open.append(run)
            self.running += job.state == "RUNNING"
            self.suspects += is_runaway_suspect(job, self._now)
            return
        self.ended.append(run)
        # Most rows are older than the oldest of a full set: those cost one comparison.
        full = len(self.canaries) == MAX_CANARIES
        if not full or job.end > self.canaries[-1].end:
            canary = canary_of(job)
            self.canaries = chosen(self.canaries, (canary,) if canary else ())

    @property
    def found(self) -> Runs:
        """All runs that passed by."""
        return Runs((*self.open, *self.ended))


def is_runaway_suspect(job: SlurmJob, now: int) -> bool:
    """Whether an open run is a day past all the time that it was given.

    A suspended run's clock stands still, and without a time limit nothing is implausible.
    """
    if job.end or not job.start or job.timelimit_s == UNKNOWN or job.state == "SUSPENDED":
        return False
    ran_s = now - job.start - max(0, job.suspended_s)
    return ran_s > job.timelimit_s + PLAUSIBLE_BEYOND_LIMIT_S


def filled(
    readings: Iterable[Reading], still: Block, complete: Callable[[SlurmJob], SlurmJob | None]
) -> Iterator[Block]:
    """The readings in blocks like ``still``, each run as ``complete`` gives it back.

    A run for which it gives None is left for a later cycle.
    """
    block: list[Reading] = []
    size_bytes = 0
    for reading in readings:
        whole = complete(reading) if isinstance(reading, SlurmJob) else reading
        if whole is None:
            continue
        size_bytes += weight_bytes(reading)
        block.append(whole)
        if len(block) == MAX_BLOCK_READINGS or size_bytes > MAX_BLOCK_BYTES:
            yield still._replace(readings=tuple(block))
            block, size_bytes = [], 0
    if block:
        yield still._replace(readings=tuple(block))


def is_half_told(job: SlurmJob, now: int, patience_s: int) -> bool:
    """Whether to leave a run for the next cycle, which reads it again.

    When sacct cannot fetch the list of TRES it prints an empty AllocTRES and
    exits 0. A run that is like this for good is passed on after ``patience_s``.
    """
    ran = job.start and job.end > job.start and job.slurm_elapsed_s
    return bool(ran) and not job.alloc_tres and now - job.end < patience_s
