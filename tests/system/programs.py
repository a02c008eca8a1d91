"""The real programs as processes: started, killed and asked for their results."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

START_TIMEOUT_S = 60.0


class Started(Protocol):
    """What tests use of subprocess.Popen."""

    @property
    def pid(self) -> int:
        """Its id, and that of its process group."""

    @property
    def returncode(self) -> int | None:
        """Its exit status as last looked at, negative for a signal."""

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: int, /) -> None:
        """Send it a signal, if it still runs."""

    def terminate(self) -> None:
        """Ask it to end."""


class Starter(Protocol):
    """Another way to start a program than exec."""

    def start(
        self, module: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> Started:
        """Start it in a session of its own, its output appended to ``log``."""


class Running:
    """A program of Jobledger in a process group of its own."""

    process: Started

    def __init__(
        self,
        module: str,
        *arguments: str,
        log: Path,
        under: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        starter: Starter | None = None,
    ) -> None:
        """Start ``python -m module arguments``; stdout and stderr go to ``log``.

        ``under`` is a program that starts it, as ("strace", "-f"); ``environment``
        is added to this process's own.
        """
        self.log = log
        if starter and not under:
            self.process = starter.start(module, arguments, log, environment or {})
            return
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [*under, sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def kill(self) -> bool:
        """Kill -9 the whole process group and reap it; whether it was still running."""
        was_running = self.is_running
        if was_running:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return was_running

    def stop(self) -> int:
        """Ask it to end; its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=30)

    def output(self) -> str:
        """Return everything it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing running."""
        self.kill()


def start_collector(
    url: str,
    port: int,
    log: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    starter: Starter | None = None,
) -> Running:
    """Start a collector on loopback and wait until its port answers."""
    program = Running(
        "jobledger_collector.cli", "serve", "--db", url,
        "--listen", f"127.0.0.1:{port}", "--metrics-listen", "127.0.0.1:0", *arguments,
        log=log, environment=environment, starter=starter,
    )  # fmt: skip
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return program
        if program.process.poll() is not None:
            break
        time.sleep(0.05)
    program.kill()
    message = f"the collector did not start: {program.output()[-2000:]}"
    raise AssertionError(message)


def start_agent_once(port: int, spool: Path, *inputs: str, log: Path) -> Running:
    """Start an agent that reads the inputs to their end, delivers and exits."""
    arguments = [argument for one in inputs for argument in ("--input", one)]
    return Running(
        "jobledger_agent.cli", "once", "--name", "test", "--collector", f"127.0.0.1:{port}",
        "--spool", str(spool), *arguments, log=log,
    )  # fmt: skip
