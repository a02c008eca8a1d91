"""The collector's one clock. Nothing else reads the time of day."""

import time
from typing import Final

MS_PER_S: Final = 1_000


def now_ms() -> int:
    """Return the time of day in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def now_s() -> int:
    """Return the time of day in whole seconds since the epoch."""
    return now_ms() // MS_PER_S
