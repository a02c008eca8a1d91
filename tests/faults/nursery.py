"""Starts our programs in a twentieth of the time: forks of a process that has imported them.

What runs in a fork is the program's own ``main`` in a process, a session and an
environment of its own, as after an exec; only the import of its modules is not
repeated. Thousands of kills are bearable this way.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

MODULES: Final = (
    "jobledger_agent.cli", "jobledger_agent.daemon.service", "jobledger_collector.cli",
    "jobledger_collector.server", "jobledger_collector.store.migrate", "psycopg2",
    "sqlalchemy.dialects.postgresql.psycopg2", "sqlalchemy.dialects.sqlite",
    "alembic.command", "jobledger_collector.metrics", "jobledger_collector.admin.cli",
)  # fmt: skip
ROOT: Final = Path(__file__).parents[2]
PATH: Final = os.pathsep.join(path for path in (str(ROOT), os.environ.get("PYTHONPATH")) if path)
"""Where the tests' own programs are found, too."""
PR_SET_CHILD_SUBREAPER: Final = 36
POLL_S: Final = 0.01


class Child:
    """A process that we did not start and may wait for; as much of Popen as tests use."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + (timeout if timeout is not None else 1e9)
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(POLL_S)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


@cache
def shared() -> "Nursery":
    """Return the one of this test run; it ends with it, as its stdin does."""
    return Nursery(PATH)


class Nursery:
    """The process that forks."""

    def __init__(self, path: str) -> None:
        """Start it; ``path`` is where it imports from."""
        # What it forks becomes our child once the process between has ended.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def start(
        self, module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> Child:
        """Fork a program; its output is appended to ``log``. Any thread may order one."""
        log.touch()
        assert self._process.stdin
        assert self._process.stdout
        order = {"module": module, "arguments": list(arguments), "log": str(log),
                 "environment": dict(environment)}  # fmt: skip
        with self._lock:  # or one thread reads the process id of another's program
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return Child(int(self._process.stdout.readline()))


def serve() -> int:
    """Fork what is ordered on stdin, one line each; answer with its process id.

    In the fork it returns what the program's own ``main`` does.
    """
    for module in MODULES:
        importlib.import_module(module)
    while line := sys.stdin.readline():
        told, tell = os.pipe()
        between = os.fork()
        if between:
            os.waitpid(between, 0)  # only then is what it forked the tests' child
            os.write(1, os.read(told, 32))
            os.close(told)
            os.close(tell)
            continue
        if os.fork():
            os._exit(0)
        os.setsid()
        os.write(tell, f"{os.getpid()}\n".encode())
        os.close(told)
        os.close(tell)
        return be(json.loads(line))
    return 0


def be(order: Mapping[str, object]) -> int:
    """Become the program that was ordered."""
    out = os.open(str(order["log"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.environ.update(order["environment"])  # type: ignore[call-overload]
    time.tzset()
    name = str(order["module"])
    with contextlib.suppress(BrokenPipeError):
        return int(importlib.import_module(name).main(order["arguments"]))
    return 1


if __name__ == "__main__":
    sys.exit(serve())
