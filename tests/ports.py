"""Loopback ports for the programs that tests start: no two tests are ever given the same one."""

import random
import socket

FIRST, LAST = 17_000, 31_999
"""Below the ports that the kernel hands out to clients by itself."""
_claims: list[socket.socket] = []
"""Names that only one process at a time may hold; all are free again when it ends."""


def free_port() -> int:
    """Return a port that nobody listens on and that no test was given.

    Between this answer and the program that listens pass seconds, in which another
    test of this process, or of one beside it, asks the same.
    """
    for port in random.sample(range(FIRST, LAST + 1), 1_000):
        if _is_silent(port) and _is_ours(port):
            return port
    message = f"no free port between {FIRST} and {LAST}"
    raise RuntimeError(message)


def free_ports(count: int) -> list[int]:
    """Return that many of them."""
    return [free_port() for _ in range(count)]


def _is_silent(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _is_ours(port: int) -> bool:
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0jobledger-test-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True
