"""Years of history, sent in slices: ``jobledger-agent backfill`` and ``replay --since``.

It has a spool of its own beside the agent's, so that the agent goes on meanwhile.
How far it came is in there with the records: killed at any moment, it goes on at
the slice that it was in. What the collector knows already it recognises.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from jobledger_agent import clock
from jobledger_agent.daemon.service import Outcome, Service
from jobledger_agent.health import HealthReport
from jobledger_agent.operating.moments import DAY_S
from jobledger_agent.operating.past import Past, Wait, slices
from jobledger_agent.operating.progress import Progress, counts
from jobledger_agent.reading.blocks import filled
from jobledger_agent.settings.sections import AgentConfig, MetricsSection
from jobledger_agent.source import Block
from jobledger_agent.sources.feeds import Feed
from jobledger_agent.spooling.spool import Spool, SpoolFull

TIMEOUT_S: Final = 120
"""Without an acknowledgement for so long, while records wait, it gives up; a second run goes on."""


class Backfill:
    """The past of some clusters, oldest first: a ``source.Source`` with an end."""

    def __init__(self, pasts: Sequence[Past], span: tuple[int, int], wait: Wait) -> None:
        """``span`` of Ends (epoch s, both included); ``wait`` says whether to stop."""
        self._pasts = pasts
        self._begin, self._end = span
        self._wait = wait
        self.done_s = 0
        self.resumed_s = 0

    @property
    def name(self) -> str:
        """Name of the position in a spool that is this command's alone."""
        return "backfill"

    @property
    def total_s(self) -> int:
        """Seconds of Ends to read, over all clusters."""
        return len(self._pasts) * (self._end - self._begin + 1)

    def read(self, position: str) -> Iterator[Block]:
        """Yield what ended in the span and was not yet stored. Raises SourceError."""
        reached = _reached(position, self._begin)
        self.resumed_s = self.done_s = sum(
            max(0, min(reached.get(past.cluster, 0), self._end + 1) - self._begin)
            for past in self._pasts
        )
        for past in self._pasts:
            begin = max(self._begin, reached.get(past.cluster, 0))
            for answer in slices(past, begin, self._end, self._wait):
                still = Block((), _position(reached, self._begin), 0)
                yield from filled(answer.readings, still, lambda job: job)
                reached[past.cluster] = answer.end + 1
                yield still._replace(position=_position(reached, self._begin))
                self.done_s += answer.end - answer.begin + 1


class Line:
    """The line of progress: how far, how fast, how long still."""

    def __init__(self, backfill: Backfill) -> None:
        self._backfill = backfill
        self._started_ms = clock.monotonic_ms()

    def __call__(self, report: HealthReport, waiting: int) -> str:
        """Return the line."""
        spent_ms = clock.monotonic_ms() - self._started_ms
        done_s, total_s = self._backfill.done_s, self._backfill.total_s
        days = -(-total_s // DAY_S)
        parts = [
            f"{days if done_s >= total_s else done_s // DAY_S:,} of {days:,} days",
            counts(report, waiting),
            f"{report.acknowledged * 1000 // max(1, spent_ms):,}/s",
        ]
        worked_s = done_s - self._backfill.resumed_s
        if worked_s and done_s < total_s:
            left_s = spent_ms * (total_s - done_s) // worked_s // 1000
            parts.append(f"about {_duration(left_s)} left")
        return "  ".join(parts)


def spool_beside(path: Path, purpose: str) -> Path:
    """Return the spool of a command that works beside the agent."""
    return path.with_name(f"{path.name}.{purpose}")


def send(
    config: AgentConfig,
    pasts: Sequence[Past],
    span: tuple[int, int],
    spool: Path,
    *,
    quiet: bool = False,
) -> Outcome:
    """Send what ended in a span, from where the spool says that it stopped.

    Raises AgentError.
    """
    beside = replace(config, spool=replace(config.spool, path=spool), metrics=MetricsSection(""))
    stop = threading.Event()
    backfill = Backfill(pasts, span, stop.wait)
    feed = Feed(backfill.name, backfill, 1, is_live=False, tells_lag=False)
    with closing(Service(beside, (feed,), stop)) as service:
        with suppress(SpoolFull):  # then it is told as held, and offered the next time
            service.spool.release_held()
        return service.once(TIMEOUT_S, Progress(Line(backfill), quiet=quiet))


def forget(spool: Path) -> None:
    """Remove the spool of a finished command, if nobody holds it. Raises SpoolError."""
    Spool(spool).close()
    for suffix in ("", "-wal", "-shm", ".lock"):
        spool.with_name(spool.name + suffix).unlink(missing_ok=True)


def _duration(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _position(reached: Mapping[str, int], begin: int) -> str:
    return json.dumps({"since": begin, "reached": reached}, sort_keys=True)


def _reached(position: str, begin: int) -> dict[str, int]:
    """Return the first End still to read, by cluster; nothing of a span that began elsewhere."""
    try:
        stored = json.loads(position) if position else {}
        if stored.get("since") != begin:
            return {}
        return {str(name): int(end) for name, end in stored["reached"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
