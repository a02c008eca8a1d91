"""Years of history, sent in slices: ``jobledger-agent backfill`` and ``replay --since``.

It has a spool of its own beside the agent's, so that the agent goes on meanwhile.
How far it came is in there with the records: killed at any moment, it goes on at
the slice that it was in. What the collector knows already it recognises.
"""

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from jobledger_agent import clock
from jobledger_agent.blocks import filled
from jobledger_agent.health import HealthReport
from jobledger_agent.past import DAY_S, Past, Wait, slices
from jobledger_agent.sections import AgentConfig, MetricsSection
from jobledger_agent.service import Outcome, Service
from jobledger_agent.source import Block
from jobledger_agent.sources import Feed
from jobledger_agent.spool import Spool, peek
from jobledger_agent.spoolfile import SpoolError

PROGRESS_MS_TERMINAL: Final = 500
PROGRESS_MS_LOG: Final = 10_000
TIMEOUT_S: Final = 120
"""Without an acknowledgement for so long, while records wait, it gives up; a second run goes on."""


class Span(NamedTuple):
    """Ends from ``begin`` to ``end`` (epoch s, both included)."""

    begin: int
    end: int


class Backfill:
    """The past of some clusters, oldest first: a ``source.Source`` with an end."""

    def __init__(self, pasts: Sequence[Past], span: Span, wait: Wait) -> None:
        """``wait`` waits for seconds and returns whether to stop."""
        self._pasts = pasts
        self._span = span
        self._wait = wait
        self.done_s = 0
        self.resumed_s = 0

    @property
    def name(self) -> str:
        """Tells apart what is asked for, so that a position never meets another span."""
        clusters = ",".join(past.cluster for past in self._pasts)
        return f"backfill:{clusters}:{self._span.begin}-{self._span.end}"

    @property
    def total_s(self) -> int:
        """Seconds of Ends to read, over all clusters."""
        return len(self._pasts) * (self._span.end - self._span.begin + 1)

    def read(self, position: str) -> Iterator[Block]:
        """Yield what ended in the span and was not yet stored. Raises SourceError."""
        reached = _reached(position)
        self.resumed_s = self.done_s = sum(
            max(0, reached.get(past.cluster, self._span.begin) - self._span.begin)
            for past in self._pasts
        )
        for past in self._pasts:
            begin = max(self._span.begin, reached.get(past.cluster, 0))
            for answer in slices(past, begin, self._span.end, self._wait):
                still = Block((), _position(reached), 0)
                yield from filled(answer.readings, still, lambda job: job)
                reached[past.cluster] = answer.end + 1
                yield still._replace(position=_position(reached))
                self.done_s += answer.end - answer.begin + 1


class Progress:
    """Tells a person, or now and then a log, how far a backfill is."""

    def __init__(self, backfill: Backfill, *, quiet: bool) -> None:
        self._backfill = backfill
        self._quiet = quiet
        self._redraws = sys.stderr.isatty()
        self._started_ms = self._due_ms = clock.monotonic_ms()

    def __call__(self, report: HealthReport, waiting: int, *, last: bool = False) -> None:
        """Take the state, as ``service.Tell``."""
        now_ms = clock.monotonic_ms()
        if self._quiet or not (last or now_ms >= self._due_ms):
            return
        self._due_ms = now_ms + (PROGRESS_MS_TERMINAL if self._redraws else PROGRESS_MS_LOG)
        line = self.line(report, waiting, now_ms - self._started_ms)
        sys.stderr.write(f"\r\x1b[K{line}" if self._redraws else f"{line}\n")
        sys.stderr.write("\n" if self._redraws and last else "")
        sys.stderr.flush()

    def line(self, report: HealthReport, waiting: int, spent_ms: int) -> str:
        """Return one line of progress after ``spent_ms``."""
        done_s, total_s = self._backfill.done_s, self._backfill.total_s
        parts = [
            f"day {done_s // DAY_S:,} of {-(-total_s // DAY_S):,}",
            f"{report.read:,} records read, {report.acknowledged:,} acknowledged",
            f"{waiting:,} wait",
            f"{report.acknowledged * 1000 // max(1, spent_ms):,}/s",
        ]
        worked_s = done_s - self._backfill.resumed_s
        if worked_s and done_s < total_s:
            left_s = spent_ms * (total_s - done_s) // worked_s // 1000
            parts.append(f"about {_duration(left_s)} left")
        if report.link_error:
            parts.append("no collector")
        return "  ".join(parts)


def spool_beside(path: Path, purpose: str) -> Path:
    """Return the spool of a command that works beside the agent."""
    return path.with_name(f"{path.name}.{purpose}")


def send(
    config: AgentConfig, pasts: Sequence[Past], span: Span, spool: Path, *, quiet: bool = False
) -> Outcome:
    """Send what ended in a span, from where the spool says that it stopped.

    The spool is removed when everything was read and acknowledged. Raises AgentError.
    """
    beside = replace(config, spool=replace(config.spool, path=spool), metrics=MetricsSection(""))
    stop = threading.Event()
    backfill = Backfill(pasts, span, stop.wait)
    feed = Feed(backfill.name, backfill, 1, is_live=False, tells_lag=False)
    with closing(Service(beside, (feed,), stop)) as service:
        return service.once(TIMEOUT_S, Progress(backfill, quiet=quiet))


def has_begun(spool: Path) -> bool:
    """Whether a spool of an earlier, unfinished command is there."""
    try:
        peek(spool)
    except SpoolError:
        return False
    return True


def forget(spool: Path) -> None:
    """Remove the spool of a finished command, if nobody holds it. Raises SpoolError."""
    Spool(spool).close()
    for suffix in ("", "-wal", "-shm", ".lock"):
        spool.with_name(spool.name + suffix).unlink(missing_ok=True)


def as_json(outcome: Outcome, span: Span) -> dict[str, object]:
    """Return the outcome for a script."""
    report = outcome.report
    return {
        "since": span.begin,
        "until": span.end + 1,
        "read": report.read,
        "unreadable": report.unreadable,
        "acknowledged": report.acknowledged,
        "verdicts": dict(report.verdicts),
        "undelivered": outcome.undelivered,
        "complaints": dict(report.complaints),
        "why": outcome.why,
    }


def _duration(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _position(reached: dict[str, int]) -> str:
    return json.dumps(reached, sort_keys=True)


def _reached(position: str) -> dict[str, int]:
    """Return the first End still to read, by cluster."""
    try:
        return {str(name): int(end) for name, end in json.loads(position or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}
