"""The line that a running agent writes into the journal each hour."""

from jobledger_agent.daemon.metrics import complete_through
from jobledger_agent.health import Health, HealthReport
from jobledger_agent.spooling.spool import Spool


class Summary:
    """Says what happened since it was last asked, and how things are."""

    def __init__(self, spool: Spool, health: Health, live: tuple[str, ...]) -> None:
        """``live`` are the sources whose lag is told."""
        self._spool = spool
        self._health = health
        self._live = live
        self._last = health.report()

    def line(self, now_s: int) -> str:
        """Return the summary; ``now_s`` in epoch seconds."""
        report, last = self._health.report(), self._last
        self._last = report
        stats = self._spool.stats()
        read = report.read - last.read
        parts = [
            f"{read:,} records read, {read - (report.repeated - last.repeated):,} of them news",
            f"{report.acknowledged - last.acknowledged:,} acknowledged",
            f"{stats.records:,} wait",
        ]
        through = complete_through(self._spool, self._live)
        if through:
            parts.append(f"lag {max(0, now_s - through)} s")
        parts += _of_sources(report)
        spans = _spans(report) - _spans(last)
        if spans:
            missing = _missing(report) - _missing(last)
            parts.append(f"{spans} spans compared with the collector, which lacked {missing} runs")
        if not report.connected:
            parts.append("no collector")
        return "in the last hour: " + "; ".join(parts)


def _of_sources(report: HealthReport) -> list[str]:
    facts = [each for told in report.facts.values() for each in told.values()]
    queue = max((each.dbd_queue for each in facts), default=-1)
    paused = sum(bool(each.paused) for each in facts)
    parts = [f"slurmctld's queue for slurmdbd {queue}"] if queue >= 0 else []
    if paused:
        parts.append(f"{paused} clusters paused")
    if report.complaints:
        parts.append(f"{len(report.complaints)} sources fail")
    return parts


def _spans(report: HealthReport) -> int:
    return sum(each.spans for each in report.sweeps.values())


def _missing(report: HealthReport) -> int:
    return sum(each.missing for each in report.sweeps.values())
