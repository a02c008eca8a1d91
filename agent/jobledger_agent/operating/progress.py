"""What a command that works to an end says meanwhile, and at the end."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from jobledger_agent import clock

if TYPE_CHECKING:
    from jobledger_agent.daemon.service import Outcome
    from jobledger_agent.health import HealthReport

LOG_EVERY_MS: Final = 5_000
VERDICTS: Final = ("new", "known", "revised", "quarantined")


class Progress:
    """Tells a terminal at once, and a log every few seconds and at the end; on stderr."""

    def __init__(self, line: Callable[["HealthReport", int], str], *, quiet: bool) -> None:
        """``line`` makes the line to say; ``quiet`` says nothing."""
        self._line = line
        self._quiet = quiet
        self._redraws = sys.stderr.isatty()
        self._due_ms = clock.monotonic_ms() + LOG_EVERY_MS
        self._last = ""

    def __call__(self, report: "HealthReport", waiting: int, *, last: bool = False) -> None:
        """Take the state, as ``service.Tell``."""
        now_ms = clock.monotonic_ms()
        if self._quiet or not (last or self._redraws or now_ms >= self._due_ms):
            return
        self._due_ms = now_ms + LOG_EVERY_MS
        line = self._line(report, waiting)
        if report.link_error:
            line = f"{line}  no collector"
        if line != self._last or last:
            self._last = line
            sys.stderr.write(f"\r\x1b[K{line}" if self._redraws else f"{line}\n")
            sys.stderr.write("\n" if self._redraws and last else "")
            sys.stderr.flush()


def counts(report: "HealthReport", waiting: int) -> str:
    """Return what was read, sent and waits, in one line."""
    named = " ".join(f"{name} {report.verdicts.get(name, 0):,}" for name in VERDICTS)
    return f"read {report.read:,}  sent {report.acknowledged:,} ({named})  waiting {waiting:,}"


def as_json(outcome: "Outcome") -> dict[str, object]:
    """Return an outcome for a script."""
    report = outcome.report
    return {
        "read": report.read,
        "unreadable": report.unreadable,
        "acknowledged": report.acknowledged,
        "verdicts": dict(report.verdicts),
        "undelivered": outcome.undelivered,
        "complaints": dict(report.complaints),
        "why": outcome.why,
    }
