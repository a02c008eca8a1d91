"""The agent's only clock. Nothing is priced from it: money uses Slurm's times."""

import time


def now_s() -> int:
    """Wall clock, in seconds since the epoch."""
    return time.time_ns() // 1_000_000_000


def now_ms() -> int:
    """Wall clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """A clock that no administrator can set back, in milliseconds."""
    return time.monotonic_ns() // 1_000_000
