"""Gauges that the database and the certificate files tell, asked for at most now and then."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from jobledger_collector import clock
from jobledger_collector.config import TlsSection
from jobledger_collector.core.errors import DatabaseFailed
from jobledger_collector.store import operations_views, quarantine, verifications
from jobledger_collector.store.engine import reading
from jobledger_collector.store.handles import Engine
from jobledger_collector.store.verifications import Verified
from jobledger_collector.tls import MAX_PEM_BYTES, expiry

PROBE_EVERY_S: Final = 15
"""The database is asked at most so often, however often one scrapes."""
FORGOTTEN_S: Final = 30 * 86_400
"""An agent that was not seen for so long is not told of any more."""
PREFIX: Final = "jobledger_collector_"


class _Seen(NamedTuple):
    """What the database said last; ``at_s`` is when it was asked."""

    at_s: int
    up: bool
    quarantined: dict[str, int]
    agents: list[tuple[str, int, int]]
    """Name, last seen (epoch s), clock ahead of ours (ms)."""
    verified: list[Verified]


class Probe(Collector):
    """What Prometheus is told beside the counters of this process."""

    def __init__(self, engine: Engine, tls: TlsSection) -> None:
        """Ask nothing yet."""
        self._engine = engine
        self._tls = tls
        self._lock = threading.Lock()
        self._seen = _Seen(0, up=False, quarantined={}, agents=[], verified=[])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges."""
        seen = self._look()
        yield _gauge("database_up", "1 when the database answers", [((), int(seen.up))])
        total = sum(seen.quarantined.values())
        yield _gauge("quarantine_rows", "Records kept aside", [((), total)])
        yield _gauge(
            "quarantine_records",
            "Records kept aside, by who found them unfit: agent, wire, collector",
            [((kind,), number) for kind, number in sorted(seen.quarantined.items())],
            "kind",
        )
        yield _gauge(
            "agent_last_seen_timestamp_seconds",
            "When an agent last reported",
            [((name,), last_seen) for name, last_seen, _ in seen.agents],
            "agent",
        )
        yield _gauge(
            "agent_clock_skew_seconds",
            "How far an agent's clock is ahead of the collector's",
            [((name,), skew_ms / 1_000) for name, _, skew_ms in seen.agents],
            "agent",
        )
        for name, text, column in (
            ("verified_missing", "Runs that comparisons of the last day found missing", "missing"),
            ("verified_extra", "Stored runs that Slurm did not tell, of the last day", "extra"),
        ):
            values = [((one.cluster,), int(getattr(one, column))) for one in seen.verified]
            yield _gauge(name, text, values, "cluster")
        yield _gauge(
            "certificate_expiry_timestamp_seconds",
            "When a certificate of the server's ends",
            [((name,), ends) for name, ends in _expiries(self._tls)],
            "file",
        )

    def _look(self) -> _Seen:
        with self._lock:
            now_s = clock.now_s()
            if now_s - self._seen.at_s >= PROBE_EVERY_S:
                try:
                    self._seen = self._ask(now_s)
                except DatabaseFailed:
                    self._seen = self._seen._replace(at_s=now_s, up=False)
            return self._seen

    def _ask(self, now_s: int) -> _Seen:
        with reading(self._engine) as conn:
            return _Seen(
                now_s,
                up=True,
                quarantined=quarantine.count_by_origin(conn),
                agents=operations_views.agents_seen(conn, now_s - FORGOTTEN_S),
                verified=verifications.last_verified(conn),
            )


def _gauge(
    name: str,
    text: str,
    values: Sequence[tuple[tuple[str, ...], float]],
    *labels: str,
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _expiries(tls: TlsSection) -> Iterator[tuple[str, int]]:
    """Yield each certificate file and when the first in it ends; unreadable ones are left out."""
    for name in filter(None, (tls.certificate_file, tls.client_ca_file)):
        try:
            with Path(name).open("rb") as file:
                found = x509.load_pem_x509_certificates(file.read(MAX_PEM_BYTES))
        except (OSError, ValueError):
            continue
        yield name, min(map(expiry, found))
