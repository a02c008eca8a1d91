"""What the live source asks for next: spans of time and what is known. Pure."""

import json
from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import NamedTuple

SLACK_S = 60
"""How far the watermark stays behind the clock: slurmdbd may commit late."""
SLICE_S = 86_400
"""Span of one question, in seconds."""
LEAST_SLICE_S = 900
"""Span below which a question is not divided further."""

Run = int
"""A run of one cluster as one number (see ``run_of``): a hundred thousand must fit in memory."""
_SUBMIT_BITS = 32
"""Times of Slurm's fit 32 bits."""
_JOB_ID_MAX = (1 << 32) - 1


class Known(NamedTuple):
    """What is known of one cluster.

    All that ended before ``watermark`` has been read (0: nothing yet); ``open``
    are the runs last seen running or suspended, at ``open_at``.
    """

    watermark: int
    open: AbstractSet[Run]
    open_at: int

    def without(self, ended: AbstractSet[Run]) -> "Known":
        """The same without these runs; nothing is copied when none of them was open."""
        return self if self.open.isdisjoint(ended) else self._replace(open=self.open - ended)


NOTHING_KNOWN = Known(0, frozenset(), 0)


def run_of(job_id: int, submit: int) -> Run:
    """The number that stands for this run; Slurm's job ids fit 32 bits, too."""
    return (job_id & _JOB_ID_MAX) << _SUBMIT_BITS | submit


def job_id_of(run: Run) -> int:
    """The job id of a run."""
    return run >> _SUBMIT_BITS


def read_position(position: str) -> dict[str, Known]:
    """What a stored position says, by cluster; nothing if it is not ours."""
    try:
        stored = json.loads(position) if position else {}
        return {
            str(cluster): Known(
                int(state["watermark"]),
                frozenset(array("Q", b64decode(state["open"], validate=True))),
                int(state["open_at"]),
            )
            for cluster, state in stored.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def write_position(known: Mapping[str, Known]) -> str:
    """The position that says this; the same bytes for the same knowledge."""
    plain = {
        cluster: {**state._asdict(), "open": _packed(state.open)}
        for cluster, state in sorted(known.items())
    }
    return json.dumps(plain, separators=(",", ":"))


def _packed(runs: AbstractSet[Run]) -> str:
    """The runs in order, eight bytes each: a list of numbers would take ten times the memory."""
    return b64encode(array("Q", sorted(runs))).decode()


def spans(known: Known, now: int, *, overlap_s: int, lookback_s: int) -> list[tuple[int, int]]:
    """The spans of End to ask for, oldest first; the last one reaches to ``now``.

    Both ends of a span belong to it, so that the borders are read twice.
    """
    begin = known.watermark - overlap_s if known.watermark else now - lookback_s
    begin = max(0, min(begin, now - SLACK_S))
    borders = [*range(begin, now, SLICE_S), now]
    return [(a, b) for a, b in pairwise(borders) if a < b]


def halves(span: tuple[int, int]) -> list[tuple[int, int]]:
    """A span that was too much for one answer, in two; nothing if it is too short."""
    begin, end = span
    middle = (begin + end) // 2
    return [(begin, middle), (middle, end)] if end - begin > LEAST_SLICE_S else []


def reached(known: Known, span_end: int, now: int, *, queue_is_empty: bool) -> int:
    """The watermark after a span has been read up to ``span_end``.

    It stands still while slurmctld still holds messages for slurmdbd: what they
    say will appear with an End in the past.
    """
    if not queue_is_empty:
        return known.watermark
    return max(known.watermark, min(span_end, now - SLACK_S))


def complete_through(known: Mapping[str, Known], clusters: Iterable[str]) -> int:
    """All that ended before this on every cluster has been read; 0 if unknown."""
    return min((known.get(name, NOTHING_KNOWN).watermark for name in clusters), default=0)


def in_batches(numbers: Iterable[int], size: int) -> list[Sequence[int]]:
    """The numbers, each once and in order, at most ``size`` at a time."""
    ordered = sorted(set(numbers))
    return [ordered[at : at + size] for at in range(0, len(ordered), size)]
