"""CPU-seconds of processes, as the kernel accounts for them."""

import os
import resource
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_of_ended_s() -> float:
    """User and system seconds of all children that have ended and been reaped."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_of_running_s(pid: int) -> float:
    """User and system seconds of a process so far, without its children; 0 once it has ended."""
    return _times(pid, with_children=False)[0]


class PostgresCpu:
    """CPU-seconds of a PostgreSQL server: postmaster, and its children dead or alive."""

    def __init__(self, postmaster_pid: int) -> None:
        """Remember the postmaster."""
        self._pid = postmaster_pid

    def seconds(self) -> float:
        """User and system seconds so far."""
        own, _ = _times(self._pid, with_children=True)
        alive = sum(
            _times(int(entry.name), with_children=False)[0]
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _parent(int(entry.name)) == self._pid
        )
        return own + alive


def _fields(pid: int) -> list[str]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()


def _parent(pid: int) -> int:
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def _times(pid: int, *, with_children: bool) -> tuple[float, int]:
    fields = _fields(pid)
    if not fields:
        return 0.0, 0
    ticks = sum(int(field) for field in fields[11 : 15 if with_children else 13])
    return ticks / _TICKS_PER_S, ticks
