"""Runs of one cluster as one packed, sorted array: a hundred thousand take 800 kB. Pure."""

import zlib
from array import array
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Iterable, Iterator

Run = int
"""A run of one cluster as one number (see ``run_of``)."""
_SUBMIT_BITS = 32
_SUBMIT_MAX = (1 << _SUBMIT_BITS) - 1
"""Times of Slurm's fit 32 bits."""
_JOB_ID_MAX = (1 << 32) - 1


def run_of(job_id: int, submit: int) -> Run:
    """The number that stands for this run; Slurm's job ids fit 32 bits, too."""
    return (job_id & _JOB_ID_MAX) << _SUBMIT_BITS | submit & _SUBMIT_MAX


def job_id_of(run: Run) -> int:
    """The job id of a run."""
    return run >> _SUBMIT_BITS


def _in_order(runs: Iterable[Run]) -> "array[int]":
    """The runs in order, each once.

    As a rule they come so; only else are they held as Python's numbers, which take
    six times the memory.
    """
    ordered = array("Q")
    rest = iter(runs)
    last = -1
    for run in rest:
        if run < last:
            return _in_order(sorted({run, *ordered, *rest}))
        if run != last:
            ordered.append(run)
            last = run
    return ordered


COMPRESSED = ":"
"""Before text that is compressed."""


class Runs:
    """A set of runs that never changes; iterates in order."""

    __slots__ = ("_sorted",)

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        """Take the runs in any order, some perhaps more than once."""
        self._sorted = _in_order(runs)

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._sorted)

    def __contains__(self, run: Run) -> bool:
        at = bisect_left(self._sorted, run)
        return at < len(self._sorted) and self._sorted[at] == run

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Runs) and self._sorted == other._sorted

    def __hash__(self) -> int:
        return hash(self._sorted.tobytes())

    def __repr__(self) -> str:
        return f"Runs({self._sorted.tolist()!r})"

    def without(self, others: "Runs") -> "Runs":
        """The same without these; nothing is copied when none of them was here."""
        if not any(run in self for run in others):
            return self
        left = Runs()
        left._sorted.extend(run for run in self._sorted if run not in others)
        return left

    def packed(self) -> str:
        """The runs as text: eight bytes each, in order, compressed, in base 64."""
        return COMPRESSED + b64encode(zlib.compress(self._sorted, 1)).decode()

    @classmethod
    def unpacked(cls, text: str) -> "Runs":
        """The runs that a text says, also one of the first form, without compression.

        Raises ValueError if it says none.
        """
        plain = b64decode(text.removeprefix(COMPRESSED), validate=True)
        if text.startswith(COMPRESSED):
            try:
                plain = zlib.decompress(plain)
            except zlib.error as error:
                raise ValueError("not packed runs") from error
        return cls(array("Q", plain))


NO_RUNS = Runs()
