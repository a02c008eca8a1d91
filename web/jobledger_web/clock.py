"""The one clock of the web: everything else is given the time."""

import time


def now_s() -> int:
    """Return the current time in epoch seconds."""
    return int(time.time())


def elapsed_s(since: float) -> float:
    """Return the seconds since ``since``, a reading of ``ticks``; only for metrics."""
    return ticks() - since


def ticks() -> float:
    """Return a reading of the monotonic clock in seconds; only differences mean anything."""
    return time.monotonic()
