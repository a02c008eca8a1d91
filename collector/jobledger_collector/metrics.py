"""What Prometheus reads of the collector, on a port of its own."""

from collections import Counter as Counts
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from jobledger_collector.config import Address, TlsSection
from jobledger_collector.core.errors import CannotListen
from jobledger_collector.core.record import Verdict
from jobledger_collector.probe import Probe
from jobledger_collector.store.handles import Engine

BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The collector's counters; all methods may be called from any thread."""

    def __init__(self, engine: Engine, tls: TlsSection | None = None) -> None:
        """Register everything; nothing is served until ``serve``."""
        self.registry = CollectorRegistry()
        self.registry.register(Probe(engine, tls or TlsSection()))
        self._records = Counter(
            "jobledger_collector_records",
            "Records by what became of them",
            ["verdict"],
            registry=self.registry,
        )
        for verdict in Verdict:
            self._records.labels(verdict.name.lower())
        self._batches = self._counter("batches", "Batches that were stored and acknowledged")
        self._refused = self._counter("batches_refused", "Batches that were not acknowledged")
        self._refused_agents = self._counter("agents_refused", "Calls of agents that were refused")
        self._tree_dropped = self._counter(
            "tree_entries_dropped", "Entries of account trees that were not the agent's to tell"
        )
        self._checked = Counter(
            "jobledger_collector_verified_records",
            "Records that were compared, by what would become of them",
            ["verdict"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "jobledger_collector_ingest_seconds",
            "Time to store one batch durably",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.streams = self._gauge("streams", "Agents connected now")

    def applied(self, verdicts: Sequence[Verdict], seconds: float) -> None:
        """Count one batch that is durable, and how long it took."""
        self._batches.inc()
        self._seconds.observe(seconds)
        for verdict in Verdict:
            number = verdicts.count(verdict)
            if number:
                self._records.labels(verdict.name.lower()).inc(number)

    def refused(self) -> None:
        """Count one batch that could not be stored."""
        self._refused.inc()

    def not_admitted(self) -> None:
        """Count one call of an agent that may not report."""
        self._refused_agents.inc()

    def tree_dropped(self, entries: int) -> None:
        """Count entries of account trees that were passed over."""
        self._tree_dropped.inc(entries)

    def checked(self, verdicts: Sequence[Verdict]) -> None:
        """Count records that were compared."""
        for verdict, number in Counts(verdicts).items():
            self._checked.labels(verdict.name.lower()).inc(number)

    def serve(self, address: Address) -> tuple[Address, Callable[[], None]]:
        """Serve them over HTTP; returns the bound address and how to stop.

        Raises CannotListen when the port cannot be had.
        """
        try:
            server, thread = start_http_server(address.port, address.host, self.registry)
        except OSError as error:
            raise CannotListen(
                f"Cannot listen on {address} for metrics ({error.strerror or error}): another"
                " program may use the port; change [metrics] listen or --metrics-listen."
            ) from error

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return Address(address.host, server.server_port), stop

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"jobledger_collector_{name}", text, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"jobledger_collector_{name}", text, registry=self.registry)
