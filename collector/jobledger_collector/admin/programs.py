"""Child programs of the demo: started, waited for until ready, always stopped.

The demo runs the very programs that an operator installs, as processes of
their own, so that nothing works in the demo that would not work in service.
"""

import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 15
WAIT_TURN_S = 1.0
_NAMES = {"jobledger_collector.admin.cli": "jobledger"}
_READY = re.compile(r"^READY\b.*?(127\.0\.0\.1:\d+)")


class ProgramFailed(Exception):
    """A program ended, or was not ready in time; says which and shows why."""


def name_of(module: str) -> str:
    """Return the name by which people start a module: ``jobledger-web``."""
    return _NAMES.get(module) or module.removesuffix(".cli").replace("_", "-")


class Program:
    """One running program: its address once ready, its log on disk."""

    def __init__(self, module: str, arguments: Sequence[str], log: Path) -> None:
        """Start ``python -m module arguments`` with stderr appended to ``log``."""
        self._module = module
        self._log = log
        self._stderr = log.open("ab")
        self._process = subprocess.Popen(  # our own module, no shell
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        self._address = ""
        self._is_ready = threading.Event()
        self._reader = threading.Thread(target=self._read_stdout, daemon=True)
        self._reader.start()

    def _read_stdout(self) -> None:
        if self._process.stdout is None:
            return
        for line in self._process.stdout:
            if match := _READY.match(line):
                self._address = match.group(1)
                self._is_ready.set()
        self._is_ready.set()

    def wait_until_ready(self) -> str:
        """The ``host:port`` that it listens on. Raises ProgramFailed."""
        self._is_ready.wait(READY_TIMEOUT_S)
        if not self._address:
            message = f"{name_of(self._module)} did not start: {self._last_words()}"
            raise ProgramFailed(message)
        return self._address

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it said nothing (log: {self._log})"

    def wait(self) -> int:
        """Wait for its end; returns its exit status.

        In short turns: a Ctrl-C that comes just before a wait without a limit begins
        would be noticed only when that ends.
        """
        while True:
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(WAIT_TURN_S)

    def stop(self) -> None:
        """Ask it to end, wait, insist."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._stderr.close()

    def __enter__(self) -> Self:
        """Return itself: ``with Program(...) as collector``."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it, however the block was left."""
        self.stop()


def run_to_end(module: str, arguments: Sequence[str]) -> int:
    """Run ``python -m module arguments`` with our own stderr; its exit status."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


def read_output(module: str, arguments: Sequence[str]) -> tuple[int, str]:
    """Run ``python -m module arguments`` likewise; its exit status and its stdout."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False
    )
    return done.returncode, done.stdout
