"""A comparison of a span with what Slurm says now: what was told, what is stored. Pure."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jobledger_collector.core.record import Usage


class UsageSum(NamedTuple):
    """Runs added up, in base units (see ``usage.proto``)."""

    runs: int
    elapsed_s: int
    cpu_s: int
    gpu_s: int
    mem_mib_s: int
    node_s: int


NOTHING = UsageSum(0, 0, 0, 0, 0, 0)


class ToldSpan(NamedTuple):
    """Which runs an agent is about to tell: those of a cluster that ended within a span.

    ``begin`` and ``end`` are epoch seconds, both included.
    """

    agent: str
    cluster: str
    begin: int
    end: int


class Compared(NamedTuple):
    """What a comparison found; ``extra`` are (job id, submit), at most some of ``extra_runs``."""

    told: UsageSum
    stored: UsageSum
    missing: int
    known: int
    differing: int
    refused: int
    extra: tuple[tuple[int, int], ...]
    extra_runs: int


def plus(total: UsageSum, usages: Iterable[Usage]) -> UsageSum:
    """Add the usage of runs to a sum."""
    columns = list(zip(*(usage[1:6] for usage in usages), strict=True))
    if not columns:
        return total
    runs = total.runs + len(columns[0])
    return UsageSum(runs, *(old + sum(new) for old, new in zip(total[1:], columns, strict=True)))


def not_told(
    stored: Iterable[tuple[int, int]], told: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield the keys that are stored and were not told; both come in order, told ones repeat."""
    told_keys = iter(told)
    at = next(told_keys, None)
    for key in stored:
        while at is not None and at < key:
            at = next(told_keys, None)
        if at != key:
            yield key
