"""``jobledger-agent replay``: send again what the collector refused, or what it had once.

Records that a collector refused as a whole block are held in the agent's spool.
The spool is the running agent's alone, so that it is asked by a file beside the
spool; without a running agent this program does it itself.
"""

import time
from contextlib import closing
from pathlib import Path
from typing import Final

from jobledger_agent import clock
from jobledger_agent.spooling.spool import Spool, peek

REQUEST_SUFFIX: Final = ".release"
ANSWER_WAIT_MS: Final = 5_000
"""How long a running agent may take to see the request; it looks each second."""
_LOOK_S: Final = 0.1


def release(spool: Path, max_bytes: int) -> int:
    """Have everything that is held offered again; returns how many records. Raises SpoolError."""
    stats, _ = peek(spool)
    if not stats.held_blocks:
        return 0
    request = request_beside(spool)
    request.touch()
    deadline_ms = clock.monotonic_ms() + ANSWER_WAIT_MS
    while request.exists():
        if clock.monotonic_ms() >= deadline_ms:
            request.unlink(missing_ok=True)
            with closing(Spool(spool, max_bytes)) as own:
                return own.release_held()
        time.sleep(_LOOK_S)
    return stats.held_records


def request_beside(spool: Path) -> Path:
    """Return the file whose presence asks a running agent to offer again what is held."""
    return spool.with_name(f"{spool.name}{REQUEST_SUFFIX}")
