"""Job rows and step rows -> one SlurmJob each, in the order of the job rows.

A step never becomes a job and never changes what a job held or for how long:
it only adds to what is known of its use. Steps follow their job's row.
"""

from collections.abc import Sequence
from operator import itemgetter

from jobledger_agent.parsing.rows import StepRow
from jobledger_agent.records.job import (
    UNKNOWN,
    Reading,
    SlurmJob,
    Unreadable,
    set_aside,
    weight_bytes,
)

HELD_JOBS = 256
"""Jobs that wait for steps: in sacct's answers steps follow their job at once."""
MAX_HELD_BYTES = 524_288
"""Of what waits: where records are so large that fewer fit, fewer wait."""
FEW_ITEMS = 256
"""In one feed, which is 128 KiB of lines or more: then they are large, and are weighed."""

_key = itemgetter(0, 1, 2)


def with_step(job: SlurmJob, step: StepRow) -> SlurmJob:
    """The job with one more step: CPU time summed, largest resident set kept."""
    cpu = [figure for figure in (job.total_cpu_ms, step.total_cpu_ms) if figure != UNKNOWN]
    return job._replace(
        steps=job.steps + 1,
        total_cpu_ms=sum(cpu) if cpu else UNKNOWN,
        max_rss_bytes=max(job.max_rss_bytes, step.max_rss_bytes),
    )


class Fold:
    """Folds one answer of Slurm's; ``origin`` is named in what it sets aside."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._held: list[Reading] = []
        self._keys: set[tuple[str, int, int]] = set()
        self._by_row: dict[tuple[str, int], int] = {}
        self._by_number: dict[tuple[str, int], int] = {}
        self._indexed = 0

    def feed(self, items: Sequence[SlurmJob | StepRow | Unreadable]) -> list[Reading]:
        """Take the next rows; returns the readings that no further step can change."""
        if set(map(type, items)) == {SlurmJob}:
            keys = set(map(_key, items))
            if len(keys) == len(items) and self._keys.isdisjoint(keys):
                self._held.extend(item for item in items if not isinstance(item, StepRow))
                self._keys |= keys
                return self._release(self._may_wait(len(items)))
        for item in items:
            if isinstance(item, StepRow):
                self._step(item)
            elif isinstance(item, Unreadable) or not self._known(item):
                self._held.append(item)
        return self._release(self._may_wait(len(items)))

    def finish(self) -> list[Reading]:
        """The readings still held: nothing follows."""
        return self._release(0)

    def _known(self, job: SlurmJob) -> bool:
        """Whether this row was there before; else it is remembered.

        Slurm's join with reservations repeats a job that never started, once
        for each reservation. Steps may already be folded into the first.
        """
        key = _key(job)
        if key in self._keys:
            for held in self._held:
                if isinstance(held, SlurmJob) and _key(held) == key and _same(held, job):
                    return True
        self._keys.add(key)
        return False

    def _step(self, step: StepRow) -> None:
        self._index()
        at = self._by_row.get((step.cluster, step.row_index)) if step.row_index else None
        if at is None:
            at = self._by_number.get((step.cluster, step.job_id))
        job = self._held[at] if at is not None else None
        if at is None or not isinstance(job, SlurmJob):
            self._held.append(self._orphan(step))
        else:
            self._held[at] = with_step(job, step)

    def _index(self) -> None:
        for at in range(self._indexed, len(self._held)):
            job = self._held[at]
            if isinstance(job, SlurmJob):
                self._by_number[job.cluster, job.job_id] = at
                if job.sluid:
                    self._by_row[job.cluster, job.sluid] = at
        self._indexed = len(self._held)

    def _orphan(self, step: StepRow) -> Unreadable:
        reason = f"a step of job {step.job_id} without its job's row before it"
        return set_aside(step.cluster, self._origin, reason, "|".join(step.row))

    def _release(self, keep: int) -> list[Reading]:
        if keep and len(self._held) <= 2 * keep:
            return []
        cut = max(0, len(self._held) - keep)
        released, self._held = self._held[:cut], self._held[cut:]
        self._keys = {_key(job) for job in self._held if isinstance(job, SlurmJob)}
        self._by_row, self._by_number, self._indexed = {}, {}, 0
        return released

    def _may_wait(self, fed: int) -> int:
        """How many of the newest readings may wait, after ``fed`` items came together."""
        if fed >= FEW_ITEMS:
            return HELD_JOBS
        total_bytes = 0
        for number, reading in enumerate(reversed(self._held[-HELD_JOBS:])):
            total_bytes += weight_bytes(reading)
            if total_bytes > MAX_HELD_BYTES:
                return max(1, number)
        return HELD_JOBS


def _same(one: SlurmJob, other: SlurmJob) -> bool:
    bare = other._replace(
        steps=one.steps,
        total_cpu_ms=one.total_cpu_ms,
        max_rss_bytes=one.max_rss_bytes,
        reservation=one.reservation,
        reservation_id=one.reservation_id,
    )
    return bare == one
