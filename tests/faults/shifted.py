"""Run a program whose wall clock is off: ``python -m tests.faults.shifted SECONDS MODULE …``.

Only the clock on the wall: a host whose date is wrong counts its seconds as well
as any other. (libfaketime cannot do that to Python 3.11: its sleep then fails.)
"""

import runpy
import sys
import time

SECOND_NS = 10**9

if __name__ == "__main__":
    shift_ns, right_ns = int(sys.argv[1]) * SECOND_NS, time.time_ns
    time.time_ns = lambda: right_ns() + shift_ns
    time.time = lambda: time.time_ns() / 1e9
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
