"""How the past is read again: which slice next, and how long it may be. Pure.

Once a day everything that ended in the last weeks is asked for again, for no
overlap is long enough: a run that is killed while suspended, an archive that is
loaded, a repaired runaway appear with an End that lies anywhere in the past.
"""

from typing import NamedTuple

DAY_S = 86_400
SLICE_MAX_S = DAY_S
"""Span of one question about the past, at first and at most."""
SLICE_MIN_S = 900
"""Span below which a question is not divided further."""
SLOW_MS = 15_000
"""An answer that takes longer was too much for slurmdbd."""
ROWS_MAX = 50_000
"""An answer of more rows was too much for it, too."""
GOOD_BEFORE_GROWTH = 3
"""Answers in a row that must be easy before the span grows again."""
EVERY_S = DAY_S
"""From the begin of one sweep to that of the next."""
PURGE_MARGIN_S = 2 * DAY_S
"""Slurm purges by the local day and month: what is this near to it may be gone."""


class Pace(NamedTuple):
    """How long a span Slurm answers with ease: ``slice_s``, and how often in a row it did."""

    slice_s: int = SLICE_MAX_S
    good: int = 0

    def after(self, span_s: int, rows: int, took_ms: int) -> "Pace":
        """The pace after a complete answer: halved when it was hard, slowly grown when easy.

        An easy answer about a much shorter span says nothing.
        """
        if took_ms > SLOW_MS or rows > ROWS_MAX:
            return self.halved(span_s)
        if span_s < self.slice_s // 2:
            return self
        if self.good + 1 < GOOD_BEFORE_GROWTH:
            return self._replace(good=self.good + 1)
        return Pace(min(SLICE_MAX_S, self.slice_s + self.slice_s // 4))

    def halved(self, span_s: int) -> "Pace":
        """The pace after a span of ``span_s`` seconds was too much."""
        return Pace(max(SLICE_MIN_S, min(self.slice_s, span_s) // 2))


class Progress(NamedTuple):
    """Where a sweep is. ``begun`` the clock when it began, ``until`` the End at which it stops,
    ``next`` the first End still to read (0: none is under way); ``through`` what the last
    finished one reached. All epoch seconds.
    """  # noqa: D205 one list of fields

    begun: int = 0
    next: int = 0
    until: int = 0
    through: int = 0

    @property
    def is_under_way(self) -> bool:
        """Whether slices are left to read."""
        return self.next > 0

    def due(self, now: int) -> bool:
        """Whether another sweep should begin; also when the clock was set back."""
        return not self.is_under_way and not 0 <= now - self.begun < EVERY_S


def begin(
    progress: Progress, now: int, *, watermark: int, days: int, purge_after_s: int
) -> Progress:
    """A sweep of the last ``days`` up to ``watermark``, nothing that Slurm may have purged.

    ``purge_after_s`` at most 0: Slurm purges nothing, or nobody knows.
    """
    reach_s = days * DAY_S
    if purge_after_s > 0:
        reach_s = min(reach_s, purge_after_s - PURGE_MARGIN_S)
    first = max(1, now - reach_s)
    if days <= 0 or reach_s <= 0 or first > watermark:
        return progress._replace(begun=now, next=0, until=0)
    return progress._replace(begun=now, next=first, until=watermark)


def next_slice(progress: Progress, pace: Pace) -> tuple[int, int]:
    """The Ends to read next, both included."""
    return progress.next, min(progress.until, progress.next + pace.slice_s - 1)


def after_slice(progress: Progress, end: int) -> Progress:
    """The progress after everything up to ``end`` was read."""
    if end >= progress.until:
        return progress._replace(next=0, until=0, through=progress.until)
    return progress._replace(next=end + 1)
