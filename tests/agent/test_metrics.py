"""What Prometheus reads is what is so."""

import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from jobledger_agent.health import Health
from jobledger_agent.metrics import AgentMetrics, MetricsError, Subject, complete_through, serve
from jobledger_agent.spool import Spool
from jobledger_agent.wire import Encoded

LIVE = ("sacct:alpha", "sacct:beta")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db")
    yield spool
    spool.close()


def block(records: int) -> Encoded:
    return Encoded(b"x" * 100, records, 0)


class Scrape:
    """One reading of an agent's metrics."""

    def __init__(
        self, spool: Spool, health: Health, live: tuple[str, ...] = LIVE, started_s: int = 0
    ) -> None:
        subject = Subject("0.1", "test", live, started_s)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(AgentMetrics(subject, spool, health))

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(f"jobledger_agent_{name}", labels)


def test_an_agent_that_has_done_nothing(spool: Spool) -> None:
    health = Health()
    health.know(LIVE)
    scrape = Scrape(spool, health)
    for name in ("spool_records", "spool_bytes", "spool_oldest_age_seconds", "spool_full",
                 "unreadable_total", "collector_connected"):  # fmt: skip
        assert scrape(name) == 0, name
    for verdict in ("new", "known", "revised", "quarantined"):
        assert scrape("records_total", verdict=verdict) == 0
    assert scrape("source_errors_total", source="sacct:alpha") == 0
    assert scrape("source_last_success_timestamp_seconds", source="sacct:beta") == 0
    assert scrape("build_info", version="0.1", agent="test") == 1


def test_the_spool_is_measured(tmp_path: Path) -> None:
    now = int(time.time())
    spool = Spool(tmp_path / "spool.db", now_s=lambda: now - 40)
    spool.append("f", [block(3), block(4)], "p", 0)
    scrape = Scrape(spool, Health())
    assert (scrape("spool_records"), scrape("spool_bytes")) == (7, 200)
    age_s = scrape("spool_oldest_age_seconds")
    assert age_s is not None
    assert 40 <= age_s < 100
    spool.close()


def test_health_is_counted(spool: Spool) -> None:
    health = Health()
    health.count_read(10, 2, 3)
    health.count_verdicts({"new": 5, "quarantined": 2})
    health.count_verdicts({"new": 1, "verdict_9": 1})
    health.source_complained("f", "broken")
    health.source_complained("f", "broken")
    health.source_went_well("g", 1_790_000_000)
    health.link_is_up("0.1")
    health.spool_is_full("full")
    scrape = Scrape(spool, health)
    assert scrape("records_total", verdict="new") == 6
    assert scrape("records_total", verdict="quarantined") == 2
    assert scrape("records_total", verdict="verdict_9") == 1
    assert scrape("unreadable_total") == 2
    assert scrape("source_errors_total", source="f") == 2
    assert scrape("source_last_success_timestamp_seconds", source="g") == 1_790_000_000
    assert (scrape("collector_connected"), scrape("spool_full")) == (1, 1)
    health.link_is_down("cut")
    assert scrape("collector_connected") == 0


def test_the_lag_is_that_of_the_slowest_source_and_counts_what_is_acknowledged(
    spool: Spool,
) -> None:
    now = int(time.time())
    scrape = Scrape(spool, Health(), started_s=now - 1000)

    def lag_s() -> int:
        seconds = scrape("lag_seconds")
        assert seconds is not None
        return int(seconds) // 10 * 10

    assert lag_s() == 1000  # unknown: since the start
    spool.append("sacct:alpha", [block(1)], "p", now - 20)
    spool.append("sacct:beta", [], "p", now - 300)
    assert complete_through(spool, LIVE) == 0
    assert lag_s() == 1000
    spool.forget([each.block_id for each in spool.head(0, 9)])
    assert complete_through(spool, LIVE) == now - 300
    assert lag_s() == 300
    spool.append("sacct:beta", [], "p", now - 10)
    assert lag_s() == 20


def test_without_a_live_source_there_is_no_lag(spool: Spool) -> None:
    assert Scrape(spool, Health(), live=())("lag_seconds") is None
    assert complete_through(spool, ()) == 0


def test_it_is_served_over_http_and_a_busy_port_is_told(spool: Spool) -> None:
    metrics = AgentMetrics(Subject("0.1", "test", (), 0), spool, Health())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    server, thread = serve(address, metrics)
    try:
        with urllib.request.urlopen(f"http://{address}/metrics") as page:
            assert b"jobledger_agent_spool_records 0.0" in page.read()
        with pytest.raises(MetricsError, match=r"another program has that port; set metrics\.lis"):
            serve(address, metrics)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
