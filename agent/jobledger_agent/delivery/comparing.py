"""A source's sweep, compared with the collector on its way into the spool.

Only what the collector lacks, or has otherwise, is sent again. A comparison that
cannot be made now is put off: its blocks are not stored, so that the source's
position stays before the sweep and the next cycle begins it anew.
"""

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple, Self

from jobledger_agent import clock
from jobledger_agent.delivery.verifier import (
    NOT_TOLD,
    Comparison,
    Verifier,
    VerifyError,
    VerifyUnknown,
)
from jobledger_agent.health import Health
from jobledger_agent.protocol.wire import KNOWN, QUARANTINED, Compared, verdict_name
from jobledger_agent.records.job import Reading, SlurmJob
from jobledger_agent.source import Block, Sweep
from jobledger_agent.spooling.spool import Spool

DRAIN_S: Final = 5
"""How long a sweep waits for what is on its way, or it would find that missing."""
DRAIN_LOOK_S: Final = 0.1

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """Readings that the collector does not have as they are, and those that no comparison finds.

    The second are unreadable, do not fit the wire, or would be put into quarantine:
    whether they are there already a comparison does not say, and it puts nothing there.
    """

    lacking: list[Reading]
    untold: list[Reading]


class PutOff(Exception):
    """The sweep cannot be compared now; says why."""


class Sweeping:
    """The comparison of one reading's sweeps. For one thread."""

    def __init__(
        self, verifier: Verifier, spool: Spool, health: Health, stop: threading.Event
    ) -> None:
        self._verifier = verifier
        self._spool = spool
        self._health = health
        self._stop = stop
        self._span: tuple[str, int, int] | None = None
        self._call = ExitStack()
        self._comparison: Comparison | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no call open."""
        self._close()

    def found(self, block: Block, sweep: Sweep) -> Found | None:
        """Compare one block of a sweep.

        None if the collector knows no comparisons. Raises PutOff.
        """
        try:
            self._begin(sweep)
            if self._comparison is None:
                return None
            found = _sort(self._comparison, block.readings)
            if sweep.is_last:
                self._tell(sweep, self._comparison.finish())
        except VerifyUnknown:
            # Stays so for this span: its later blocks go the same way.
            self._close()
            log.info("the collector is too old to compare; a sweep's records are sent instead")
            return None
        except VerifyError as error:
            raise PutOff(str(error)) from error
        return found

    def _begin(self, sweep: Sweep) -> None:
        span = (sweep.cluster, sweep.begin, sweep.end)
        if span == self._span:
            return
        self._close()
        self._await_calm()
        self._comparison = self._call.enter_context(self._verifier.comparing(*span))
        self._span = span

    def _await_calm(self) -> None:
        """Wait until what was read before is acknowledged. Raises PutOff."""
        if not self._health.report().connected:
            raise PutOff("there is no connection to the collector")
        began_s = clock.now_s()
        deadline_ms = clock.monotonic_ms() + DRAIN_S * 1000
        while 0 < self._spool.stats().oldest_s <= began_s:
            if clock.monotonic_ms() >= deadline_ms or self._stop.wait(DRAIN_LOOK_S):
                raise PutOff("records still wait for the collector")

    def _tell(self, sweep: Sweep, found: Compared) -> None:
        self._health.compared(sweep.cluster, sweep.begin, sweep.end, found)
        if found.missing or found.differing or found.extra_runs:
            log.warning(
                "sweep of cluster %s, ended %d to %d: of %d runs the collector lacked %d and had %d"
                " otherwise, which are sent again; it has %d that Slurm does not tell",
                sweep.cluster, sweep.begin, sweep.end,
                found.told.runs, found.missing, found.differing, found.extra_runs,
            )  # fmt: skip
        self._close()

    def _close(self) -> None:
        self._call.close()
        self._comparison = None


def _sort(comparison: Comparison, readings: Sequence[Reading]) -> Found:
    jobs = [reading for reading in readings if isinstance(reading, SlurmJob)]
    lacking: list[Reading] = []
    untold: list[Reading] = [reading for reading in readings if not isinstance(reading, SlurmJob)]
    for job, verdict in zip(jobs, comparison.check(jobs), strict=True):
        if verdict == NOT_TOLD or verdict_name(verdict) == QUARANTINED:
            untold.append(job)
        elif verdict_name(verdict) != KNOWN:
            lacking.append(job)
    return Found(lacking, untold)
