"""The real jobledger-web as a process, on a loopback port of the lower range."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

START_S: Final = 60


def environment() -> dict[str, str]:
    """A clean one: nothing of the developer's leaks into the program."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
    }


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run jobledger-web to its end."""
    return subprocess.run(
        [sys.executable, "-m", "jobledger_web.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=START_S,
        env=environment(),
        check=False,
    )


class Served:
    """jobledger-web while the ``with`` block runs; ``url`` once it is ready."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.url = ""
        self.log: list[str] = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "jobledger_web.cli", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(line)
            if line.startswith("READY"):
                self.url = line.split()[-1]
                self._ready.set()
        self._ready.set()

    def stop(self) -> int:
        """Ask it to end, as systemd does; its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            code = self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def __enter__(self) -> Self:
        self._ready.wait(START_S)
        assert self.url, "".join(self.log)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
