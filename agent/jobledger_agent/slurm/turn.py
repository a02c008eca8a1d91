"""One question to Slurm at a time, among all processes that name the same lock file."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Final

from jobledger_agent import clock
from jobledger_agent.source import SourceError

LOCK_POLL_S: Final = 0.05
"""How often a lock that another process holds is tried again."""


@contextmanager
def alone(lock_path: Path | None, timeout_s: int, what: str) -> Iterator[None]:
    """Hold the lock, which the system takes from a process that dies; None: no lock.

    Raises SourceError if another holds it for ``timeout_s``.
    """
    if lock_path is None:
        yield
        return
    try:
        handle = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SourceError(
            f"{lock_path} cannot be opened ({error.strerror}); give its directory to the agent's"
            " user"
        ) from error
    try:
        _lock(handle, timeout_s, what)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, timeout_s: int, what: str) -> None:
    deadline_ms = clock.monotonic_ms() + 1000 * timeout_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic_ms() > deadline_ms:
                raise SourceError(
                    f"{what} was not asked: another jobledger-agent has been asking Slurm for"
                    f" {timeout_s} s; it is tried again"
                ) from None
            sleep(LOCK_POLL_S)
        else:
            return
