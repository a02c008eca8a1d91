"""When a source is read next: polls, kicks, failures. ``Pace`` is pure, ``Kicks`` looks.

A kick says that a job has ended and nothing more. slurmdbd shows its record 0.4
to 1.1 s later, and a hundred jobs may end at once: kicks are gathered, and how
often Slurm is asked never depends on how many there were.
"""

import enum
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

KICK_SETTLE_MS: Final = 1_000
"""From a kick to the first look: before, its record would seldom be there."""
KICK_SPACING_MS: Final = 2_000
"""Between the end of a reading and a kicked one, whatever the number of kicks."""
KICK_LOOKS_MAX: Final = 3
"""After a kick; a record that is later than that comes with the next poll."""
KICK_STAT_MS: Final = 250
BACK_OFF_POLLS_MAX: Final = 4
BACK_OFF_MS_MAX: Final = 300_000
RETRY_MS_MIN: Final = 500
"""Between a failed reading and the next, at least."""
JITTER_PER_MILLE: Final = 100
"""Polls come up to a tenth early, so that many agents do not ask at one time."""
REST_PART: Final = 4
"""A quarter of the poll interval at least passes between two readings."""


class Look(enum.Enum):
    """How much of a source is read."""

    FULL = "full"
    GLANCE = "glance"
    """Only what the end of a job changes."""


class Pace:
    """Decides when one source is read next. All times are milliseconds of one clock."""

    def __init__(self, poll_interval_s: int, draw: Callable[[int], int]) -> None:
        """``draw(n)`` gives a number from 0 to n, both included."""
        self._poll_ms = poll_interval_s * 1_000
        self._draw = draw
        self._full_at_ms = 0
        self._began_ms = 0
        self._look_at_ms: int | None = None
        self._looks_left = 0
        self._kicks = 0
        self._ended_ms: int | None = None
        self.failures = 0

    def kicked(self, now_ms: int) -> None:
        """A job has ended. Heard only while readings go well: a sick Slurm is not hurried."""
        if self.failures or self._ended_ms is None:
            return
        self._kicks += 1
        self._looks_left = KICK_LOOKS_MAX
        if self._look_at_ms is None:
            self._look_at_ms = max(now_ms + KICK_SETTLE_MS, self._ended_ms + KICK_SPACING_MS)

    def due(self, now_ms: int) -> Look | None:
        """Say what is to be read now, if anything."""
        if now_ms >= self._full_at_ms:
            self._began_ms = now_ms
            return Look.FULL
        if self._look_at_ms is not None and now_ms >= self._look_at_ms:
            return Look.GLANCE
        return None

    def wait_ms(self, now_ms: int) -> int:
        """Return how long nothing is due unless a kick comes."""
        next_ms = self._full_at_ms
        if self._look_at_ms is not None:
            next_ms = min(next_ms, self._look_at_ms)
        return max(0, next_ms - now_ms)

    def went_well(self, look: Look, now_ms: int, *, saw_an_end: bool) -> None:
        """A reading ended; ``saw_an_end`` if it held a run that ended and was not known to have."""
        self.failures = 0
        self._ended_ms = now_ms
        if look is Look.FULL:
            early_ms = self._draw(self._poll_ms * JITTER_PER_MILLE // 1_000)
            # From beginning to beginning; but Slurm rests between two long readings.
            self._full_at_ms = max(
                self._began_ms + self._poll_ms - early_ms, now_ms + self._poll_ms // REST_PART
            )
        if saw_an_end:
            # One kick was answered; of several, some records may not have been there yet.
            self._looks_left = min(self._looks_left, 1) if self._kicks > 1 else 0
        elif self._looks_left:
            self._looks_left -= 1
        self._kicks = 0
        self._look_at_ms = now_ms + KICK_SPACING_MS if self._looks_left else None

    def failed(self, now_ms: int) -> None:
        """A reading failed: the next one after a random time, four polls or 5 minutes at most."""
        self._ended_ms = now_ms
        self._look_at_ms, self._looks_left, self._kicks = None, 0, 0
        most_ms = min(
            self._poll_ms << min(self.failures, 2),
            self._poll_ms * BACK_OFF_POLLS_MAX,
            BACK_OFF_MS_MAX,
        )
        self.failures += 1
        self._full_at_ms = now_ms + max(RETRY_MS_MIN, self._draw(most_ms))


class Kicks:
    """Counts how often a file was touched; safe to use from several threads."""

    def __init__(self, path: str) -> None:
        """``path`` "" for none. The file may not be there; then there are no kicks."""
        self._path = path
        self._lock = threading.Lock()
        self._touched_ns = self._stat()
        self.total = 0

    def look(self) -> int:
        """Return the number of kicks so far; those within one look count as one."""
        with self._lock:
            touched_ns = self._stat()
            if touched_ns != self._touched_ns:
                self._touched_ns = touched_ns
                self.total += bool(touched_ns)
            return self.total

    @property
    def are_wanted(self) -> bool:
        """Whether a file is named."""
        return bool(self._path)

    def _stat(self) -> int:
        if not self._path:
            return 0
        try:
            return Path(self._path).stat().st_mtime_ns
        except OSError:
            return 0
