"""What a run used, from what Slurm said of it. Pure, integers only.

Slurm's rules, each one a conformance case: a run uses something when its Start
is a real time and its End is known, whatever its AllocTRES says; it begins no
earlier than its Submit; suspension is taken off; memory is in MiB.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from jobledger_collector.core.record import (
    CACHED_TRES,
    NO_USAGE,
    UNKNOWN,
    Flag,
    JobRecord,
    Rejected,
    Span,
    Tres,
    Usage,
)

MAX_EPOCH_S: Final = 253_402_300_799
"""The last second of the year 9999."""
MAX_COUNT: Final = 10**15
"""Largest count of one TRES; Slurm's marks for unknown are far above it."""
MAX_BASE_UNITS: Final = 3 * 10**16
"""Most of one TRES that one run can use: in millionths of an hour it still fits 64 bits."""
MAX_MIB_S: Final = 3 * 10**17
"""Most memory that one run can use: a million cores with 4 GiB each use half of it in a year."""
GPU: Final = "gres/gpu"
GPU_TYPED: Final = "gres/gpu:"
REVOKED: Final = "REVOKED"
"""State of a federated job on the clusters that did not run it: never billable."""
ENDED_STATES: Final = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REQUEUED", "RESIZING", "REVOKED", "SPECIAL_EXIT", "TIMEOUT",
})  # fmt: skip
"""States in which Slurm has so far ended a run; others are flagged, not refused."""


class Held(NamedTuple):
    """What an allocation holds at any moment: cores, GPUs, MiB, nodes.

    ``largest`` is the largest count of anything but memory.
    """

    cpu: int
    gpu: int
    mem_mib: int
    node: int
    largest: int


@lru_cache(maxsize=CACHED_TRES)
def held_by(tres: Tres) -> Held:
    """Return what an allocation holds.

    ``gres/gpu`` is the total and typed entries repeat it; the sum of those
    counts where there is no total, or where a total contradicts them.
    """
    named = dict(tres)
    typed = sum(count for name, count in tres if name.startswith(GPU_TYPED))
    return Held(
        cpu=named.get("cpu", 0),
        gpu=max(named.get(GPU, 0), typed),
        mem_mib=named.get("mem", 0),
        node=named.get("node", 0),
        largest=max((count for name, count in tres if name != "mem"), default=0),
    )


def measure(record: JobRecord) -> Usage | Rejected:
    """Return what a run used, or why its figures are impossible.

    NO_USAGE while it has not ended, and for ever when it never started. A run
    that held resources Slurm does not name is refused: it must not be free.
    """
    start, end = record.start, record.end
    if not end or not start or record.state == REVOKED:
        return NO_USAGE
    if end < start or end < record.submit:
        return _backwards(record)
    submit, suspended_s, tres = record.submit, record.suspended_s, record.alloc_tres
    begin = max(start, submit)
    elapsed_s = max(0, end - begin - suspended_s)
    if not tres and elapsed_s:
        return Rejected(
            f"It ran for {elapsed_s} s but AllocTRES is empty: Slurm could not say what it held."
            " Read it again from Slurm; a run is never priced at zero for want of an answer.",
            "alloc_tres",
        )
    held = held_by(tres)
    wall_s = end - begin
    if held.largest * wall_s > MAX_BASE_UNITS or held.mem_mib * wall_s > MAX_MIB_S:
        return Rejected(
            f"It held {max(held.largest, held.mem_mib)} of a resource for {wall_s} s, which no"
            " cluster can: check Start, End and AllocTRES in Slurm.",
            "alloc_tres",
        )
    energy_j = record.energy_j
    return Usage(
        (Span(begin, end, suspended_s, tres),),
        elapsed_s,
        held.cpu * elapsed_s,
        held.gpu * elapsed_s,
        held.mem_mib * elapsed_s,
        held.node * elapsed_s,
        energy_j if energy_j > 0 else UNKNOWN,
    )


def _backwards(record: JobRecord) -> Rejected:
    what = "started" if record.end < record.start else "was submitted"
    when = record.start if record.end < record.start else record.submit
    return Rejected(
        f"It ended at {record.end} before it {what} at {when} (epoch seconds):"
        " check the clocks of the controllers and the record in Slurm.",
        "end",
    )


def usage_flags(record: JobRecord, usage: Usage) -> tuple[Flag, ...]:
    """Return what is odd about a run's own record, in a fixed order."""
    if not record.end:
        return ()
    flags = []
    if record.state not in ENDED_STATES:
        flags.append(Flag.UNKNOWN_STATE)
    if usage.elapsed_s and not usage.mem_mib_s:
        flags.append(Flag.NO_MEMORY)
    if usage.spans and record.suspended_s > usage.spans[0].wall_s:
        flags.append(Flag.SUSPENDED_TOO_LONG)
    return tuple(flags)


def add(usages: list[Usage]) -> Usage:
    """Return the usages of disjoint runs added together; unknown energy adds nothing."""
    if len(usages) == 1:
        return usages[0]
    energies = [usage.energy_j for usage in usages if usage.energy_j != UNKNOWN]
    return Usage(
        tuple(span for usage in usages for span in usage.spans),
        sum(usage.elapsed_s for usage in usages),
        sum(usage.cpu_s for usage in usages),
        sum(usage.gpu_s for usage in usages),
        sum(usage.mem_mib_s for usage in usages),
        sum(usage.node_s for usage in usages),
        sum(energies) if energies else UNKNOWN,
    )
