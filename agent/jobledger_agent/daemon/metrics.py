"""What Prometheus reads from the agent, computed at each scrape."""

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Final, NamedTuple
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jobledger_agent import clock
from jobledger_agent.daemon.kick import Kicks
from jobledger_agent.delivery.certificates import expiries
from jobledger_agent.errors import AgentError
from jobledger_agent.health import Health, HealthReport, Sweeps
from jobledger_agent.settings.config import split_address
from jobledger_agent.settings.sections import CollectorSection
from jobledger_agent.source import SourceFacts
from jobledger_agent.spooling.spool import Spool

PREFIX: Final = "jobledger_agent"
VERDICTS: Final = ("new", "known", "revised", "quarantined")


class MetricsError(AgentError):
    """The metrics cannot be served; says where and why."""


class Subject(NamedTuple):
    """Whose metrics these are; ``started_s`` in epoch seconds."""

    version: str
    agent: str
    live_sources: tuple[str, ...]
    started_s: int
    clusters: tuple[str, ...] = ()
    spool_max_bytes: int = 0
    collector: CollectorSection = CollectorSection()
    kicks: Kicks | None = None


class AgentMetrics(Collector):
    """Turns the spool and the health into metric families."""

    def __init__(self, subject: Subject, spool: Spool, health: Health) -> None:
        self._subject = subject
        self._spool = spool
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """Yield every family of the agent."""
        yield from self._of_spool()
        report = self._health.report()
        yield from _of_health(report)
        yield from _of_sources(report)
        yield from _of_facts(report)
        yield from self._of_sweeps(report)
        yield from self._of_surroundings(report)
        info = _gauge("build_info", "Always 1.", ("version", "agent"))
        info.add_metric((self._subject.version, self._subject.agent), 1)
        yield info

    def _of_spool(self) -> Iterator[Metric]:
        stats = self._spool.stats()
        now_s = clock.now_s()
        age_s = max(0, now_s - stats.oldest_s) if stats.oldest_s else 0
        yield _gauge("spool_records", "Records that wait for the collector.", stats.records)
        yield _gauge(
            "spool_held_records",
            "Records that the collector refused as a block; they wait for a person.",
            stats.held_records,
        )
        yield _gauge("spool_bytes", "Bytes of records that wait.", stats.payload_bytes)
        yield _gauge("spool_oldest_age_seconds", "Age of the oldest that waits; 0: none.", age_s)
        if self._subject.live_sources:
            through = complete_through(self._spool, self._subject.live_sources)
            lag_s = max(0, now_s - (through or self._subject.started_s))
            yield _gauge(
                "lag_seconds",
                "Now minus the time through which everything that ended was read and"
                " acknowledged; since the agent's start while that is not known.",
                lag_s,
            )

    def _of_sweeps(self, report: HealthReport) -> Iterator[Metric]:
        missing = _counter("sweep_missing", "Runs that a sweep found missing.", "cluster")
        differing = _counter("sweep_differing", "Runs that a sweep found otherwise.", "cluster")
        extra = _gauge(
            "sweep_extra", "Runs that the collector has and Slurm does not tell.", ("cluster",)
        )
        for cluster in sorted({*self._subject.clusters, *report.sweeps}):
            found = report.sweeps.get(cluster, Sweeps())
            missing.add_metric((cluster,), found.missing)
            differing.add_metric((cluster,), found.differing)
            extra.add_metric((cluster,), found.extra)
        yield from (missing, differing, extra)

    def _of_surroundings(self, report: HealthReport) -> Iterator[Metric]:
        yield _gauge("spool_max_bytes", "Size that spool.max_bytes allows.",
                     self._subject.spool_max_bytes)  # fmt: skip
        kicks = _counter("kicks", "Touches seen of the file that says that a job ended.")
        kicks.add_metric((), self._subject.kicks.total if self._subject.kicks else 0)
        yield kicks
        skew = _gauge("clock_skew_seconds", "This machine's clock minus the collector's.", ())
        if report.clock_skew_ms is not None:
            skew.add_metric((), report.clock_skew_ms / 1000)
        yield skew
        ends = _gauge(
            "certificate_expiry_timestamp_seconds", "When a certificate of the link ends.",
            ("file",),
        )  # fmt: skip
        for path, when_s in expiries(self._subject.collector).items():
            ends.add_metric((str(path),), when_s)
        yield ends


def complete_through(spool: Spool, live_sources: tuple[str, ...]) -> int:
    """Everything that ended before this is acknowledged (epoch s); 0 while unknown."""
    marks = {mark.source: mark.acknowledged_through for mark in spool.marks()}
    return min((marks.get(source, 0) for source in live_sources), default=0)


def serve(listen: str, metrics: AgentMetrics) -> tuple[WSGIServer, Thread]:
    """Serve /metrics at "host:port" in a thread of its own. Raises MetricsError, ConfigError."""
    host, port = split_address(listen)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    try:
        return start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise MetricsError(
            f"cannot serve metrics at {listen} ({error.strerror}): another program has that port; "
            "set metrics.listen to a free one"
        ) from error


def _of_health(report: HealthReport) -> Iterator[Metric]:
    records = _counter("records", "Records by the verdict that the collector named.", "verdict")
    for verdict in sorted({*VERDICTS, *report.verdicts}):
        records.add_metric((verdict,), report.verdicts.get(verdict, 0))
    yield records
    unreadable = _counter("unreadable", "Records that could not be read; they go to quarantine.")
    unreadable.add_metric((), report.unreadable)
    yield unreadable
    errors = _counter("source_errors", "Readings of a source that failed.", "source")
    for source, count in report.source_errors.items():
        errors.add_metric((source,), count)
    yield errors
    success = _gauge(
        "source_last_success_timestamp_seconds", "When the source was last read; 0: never.",
        ("source",),
    )  # fmt: skip
    for source, when_s in report.last_success.items():
        success.add_metric((source,), when_s)
    yield success
    yield _gauge("collector_connected", "Whether a stream is open.", int(report.connected))
    full = _gauge("spool_full", "Whether sources wait for room in the spool.")
    full.add_metric((), int(bool(report.spool_full)))
    yield full


def _of_sources(report: HealthReport) -> Iterator[Metric]:
    took = _gauge(
        "source_cycle_seconds", "How long the last reading of the source took.", ("source",)
    )
    for source, took_ms in report.cycle_ms.items():
        took.add_metric((source,), took_ms / 1000)
    yield took
    paused = _gauge(
        "source_paused", "Whether a cluster of the source is not read, for slurmctld's queue.",
        ("source",),
    )  # fmt: skip
    for source, told in report.facts.items():
        paused.add_metric((source,), int(any(facts.paused for facts in told.values())))
    yield paused


def _of_facts(report: HealthReport) -> Iterator[Metric]:
    """Yield what each cluster's source learned; a figure that is not known is absent."""
    for name, text, figure in _FACTS:
        family = _gauge(name, text, ("source", "cluster"))
        for source, told in report.facts.items():
            for cluster, facts in told.items():
                value = figure(facts)
                if value is not None:
                    family.add_metric((source, cluster), value)
        yield family


def _counted(figure: Callable[[SourceFacts], int]) -> Callable[[SourceFacts], int | None]:
    return lambda facts: figure(facts) if figure(facts) >= 0 else None


def _timed(figure: Callable[[SourceFacts], int]) -> Callable[[SourceFacts], int | None]:
    return lambda facts: figure(facts) or None


_FACTS: Final[tuple[tuple[str, str, Callable[[SourceFacts], int | None]], ...]] = (
    (
        "source_dbd_queue_messages",
        "Messages that slurmctld holds for slurmdbd.",
        _counted(lambda facts: facts.dbd_queue),
    ),
    (
        "source_running_jobs",
        "Jobs that slurmctld says are running.",
        _counted(lambda facts: facts.running),
    ),
    (
        "source_open_runs",
        "Runs that the accounting shows running or suspended.",
        _counted(lambda facts: facts.open_runs),
    ),
    (
        "source_runaway_suspects",
        "Open runs that cannot plausibly still run.",
        _counted(lambda facts: facts.runaway_suspects),
    ),
    (
        "source_canary_success_timestamp_seconds",
        "When a finished run that is known was last found again.",
        _timed(lambda facts: facts.canary_ok_at),
    ),
    (
        "source_sweep_through_timestamp_seconds",
        "Everything that ended before this was read again by a sweep.",
        _timed(lambda facts: facts.sweep_through),
    ),
)


def _gauge(name: str, text: str, value_or_labels: int | tuple[str, ...] = ()) -> GaugeMetricFamily:
    if isinstance(value_or_labels, int):
        return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value_or_labels)
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=value_or_labels)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
