"""Running one of Slurm's programs: the only place where the agent starts a process.

What may run is ``commands.allowed``'s to say. The environment is built from
nothing, for ``sacct`` obeys a dozen variables. One program runs at a time, across
all processes that share a lock file. An answer goes to a file first: it is looked
at only once the program has ended well.
"""

import os
import selectors
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, BinaryIO, Final, cast

from jobledger_agent import clock
from jobledger_agent.reading.accounting import TooMuch
from jobledger_agent.slurm.commands import allowed, verdict
from jobledger_agent.slurm.turn import alone
from jobledger_agent.source import SourceError

MAX_ANSWER_BYTES: Final = 1 << 30
"""Of one answer; a larger one is asked for in smaller spans."""
MAX_IN_MEMORY_BYTES: Final = 1 << 20
"""Of one answer; what is more waits in a temporary file."""
MAX_STDERR_BYTES: Final = 65_536
"""Of what a program says on stderr; the rest is read and dropped."""

_PIPE_BYTES = 65_536


class Runner:
    """Runs programs in an environment built from nothing, for a limited time."""

    def __init__(self, slurm_conf: str, timeout_s: int, lock_path: Path | None = None) -> None:
        """With a ``lock_path`` at most one program runs for all that name the same file."""
        self._slurm_conf = slurm_conf
        self._timeout_s = timeout_s
        self._lock_path = lock_path

    @contextmanager
    def __call__(self, argv: Sequence[str], what: str) -> Iterator[BinaryIO]:
        """Run a program to its end; its stdout, only if it succeeded.

        Raises SourceError if it did not, TooMuch at the time or size limit, and
        Forbidden for a command line that the agent must never run.
        """
        with SpooledTemporaryFile(MAX_IN_MEMORY_BYTES) as output:
            with alone(self._lock_path, self._timeout_s, what):
                said = self._finish(allowed(argv), what, cast("IO[bytes]", output))
            if said:
                raise SourceError(said)
            output.seek(0)
            yield cast("BinaryIO", output)

    def _finish(self, argv: Sequence[str], what: str, output: IO[bytes]) -> str:
        """Run a program, its stdout into ``output``; what went wrong, or nothing."""
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(),
                start_new_session=True,
            )
        except OSError as error:
            return f"{argv[0]} cannot be run ({error.strerror}); check its path in the settings"
        with child:
            try:
                stderr = self._drain(child, what, output)
                code = child.wait(timeout=self._timeout_s)
            except OSError as error:
                return (
                    f"the answer of {what} cannot be kept ({error.strerror}); make room in TMPDIR"
                )
            except subprocess.TimeoutExpired as error:
                raise TooMuch(f"{what} did not end in {self._timeout_s} s; asked again") from error
            finally:
                _kill(child)
        return verdict(what, code, stderr.decode("utf-8", "replace"))

    def _drain(self, child: subprocess.Popen[bytes], what: str, output: IO[bytes]) -> bytes:
        """Read both pipes to their ends. Raises TooMuch at the time or size limit."""
        deadline = clock.monotonic_ms() + 1000 * self._timeout_s
        stderr, size = b"", 0
        with selectors.DefaultSelector() as selector:
            for pipe in (child.stdout, child.stderr):
                selector.register(cast("IO[bytes]", pipe), selectors.EVENT_READ)
            while selector.get_map():
                left_ms = deadline - clock.monotonic_ms()
                ready = selector.select(left_ms / 1000) if left_ms > 0 else []
                if not ready:
                    raise TooMuch(
                        f"{what} gave no answer in {self._timeout_s} s; it was stopped and is asked"
                        " again; check slurmdbd, its database and munge"
                    )
                for key, _ in ready:
                    chunk = os.read(key.fd, _PIPE_BYTES)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is child.stderr:
                        stderr = (stderr + chunk)[:MAX_STDERR_BYTES]
                    else:
                        size += output.write(chunk)
                        if size > MAX_ANSWER_BYTES:
                            raise TooMuch(f"the answer of {what} is larger than 1 GiB")
        return stderr

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "SLURM_TIME_FORMAT": "%s",
            "SLURM_CONF": self._slurm_conf,
        }


def _kill(child: subprocess.Popen[Any]) -> None:
    """End a program that still runs, and all that it started."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
