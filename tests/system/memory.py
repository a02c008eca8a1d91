"""How much memory a running program has had at most."""

import time
from pathlib import Path

from tests.system.programs import Running

LOOK_EVERY_S = 0.05
PROMISED_BYTES = 64 << 20
"""The most that an agent may hold while any number of ordinary records pass."""
LIBRARIES_VARY_BYTES = 8 << 20
"""How much more of the same libraries' files is mapped on one machine than on another.

With large folios the kernel maps a file's pages by the dozen: `import grpc` alone was seen
to hold 17.8 and 24.3 MB of files, from two copies of one environment on one machine.
"""


def peak_rss_bytes(pid: int) -> int:
    """Most memory that a process has held since it was started; 0 once it has ended.

    VmHWM and not ru_maxrss: that one also counts what the process was before exec,
    a copy of its parent, which may have been larger than the program.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    kib = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kib[0]) * 1024 if kib else 0


def wait_and_watch(program: Running, timeout_s: float) -> tuple[int, int]:
    """Wait for a program's end; its exit status and the most memory that it held, in bytes."""
    peak = 0
    deadline = time.monotonic() + timeout_s
    while (status := program.process.poll()) is None:
        peak = max(peak, peak_rss_bytes(program.process.pid))
        if time.monotonic() > deadline:
            message = f"not done after {timeout_s:.0f} s: {program.output()[-2000:]}"
            raise AssertionError(message)
        time.sleep(LOOK_EVERY_S)
    return status, peak
