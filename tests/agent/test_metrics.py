"""What Prometheus reads is what is so."""

import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from jobledger_agent.daemon.metrics import (
    AgentMetrics,
    MetricsError,
    Subject,
    complete_through,
    serve,
)
from jobledger_agent.daemon.service import Service
from jobledger_agent.health import Health
from jobledger_agent.protocol.wire import Compared, Encoded, UsageSum
from jobledger_agent.settings.config import Supervisor
from jobledger_agent.settings.sections import (
    AgentConfig,
    CollectorSection,
    MetricsSection,
    SacctSection,
    SpoolSection,
)
from jobledger_agent.source import SourceFacts
from jobledger_agent.spooling.spool import Spool

AGENT_MD = Path(__file__).parents[2] / "docs" / "agent.md"
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


def test_what_sources_told_is_measured_and_what_is_unknown_is_absent(spool: Spool) -> None:
    health = Health()
    alpha = SourceFacts(7, 40, 39, 1_790_000_000, 1_790_000_100, "", 900, 2)
    told = {"alpha": alpha, "beta": SourceFacts(paused="long")}
    scrape = Scrape(spool, health)
    known = {
        "source_dbd_queue_messages": 7,
        "source_running_jobs": 40,
        "source_open_runs": 39,
        "source_runaway_suspects": 2,
        "source_canary_success_timestamp_seconds": 1_790_000_100,
        "source_sweep_through_timestamp_seconds": 1_790_000_000,
    }
    health.source_told("s", told)
    for name, value in known.items():
        assert scrape(name, source="s", cluster="alpha") == value, name
        assert scrape(name, source="s", cluster="beta") is None, name
    assert scrape("source_paused", source="s") == 1
    health.source_told("s", {"alpha": alpha})
    assert scrape("source_paused", source="s") == 0


def compared(missing: int = 0, differing: int = 0, extra: int = 0) -> Compared:
    nothing = UsageSum(0, 0, 0, 0, 0, 0)
    return Compared(nothing, nothing, missing, 0, differing, 0, (), extra)


def test_sweeps_are_counted_and_what_is_too_much_is_that_of_each_span_as_last_seen(
    spool: Spool,
) -> None:
    health = Health()
    scrape = Scrape(spool, health)
    health.compared("alpha", 0, 99, compared(missing=2, differing=1, extra=3))
    health.compared("alpha", 100, 199, compared(missing=1, extra=4))
    assert scrape("sweep_missing_total", cluster="alpha") == 3
    assert scrape("sweep_differing_total", cluster="alpha") == 1
    assert scrape("sweep_extra", cluster="alpha") == 7
    health.compared("alpha", 0, 99, compared())
    assert scrape("sweep_extra", cluster="alpha") == 4
    health.compared("alpha", 50, 150, compared())
    assert scrape("sweep_extra", cluster="alpha") == 0


def test_the_skew_of_the_clocks_is_absent_until_a_collector_told_its_own(spool: Spool) -> None:
    health = Health()
    scrape = Scrape(spool, health)
    health.link_is_up("0.1")
    assert scrape("clock_skew_seconds") is None
    health.link_is_up("0.2", -1_500)
    assert scrape("clock_skew_seconds") == -1.5
    health.source_went_well("s", 1, 2_250)
    assert scrape("source_cycle_seconds", source="s") == 2.25


def families(page: str) -> set[str]:
    """The metrics of a page, as a rule or a dashboard names them."""
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(page)
        if family.name.startswith("jobledger_agent_")
    }


def test_a_real_agent_serves_exactly_what_its_page_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documented = set(re.findall(r"^\| `(jobledger_agent_\w+)", AGENT_MD.read_text(), re.MULTILINE))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = AgentConfig(
        collector=CollectorSection("127.0.0.1:1"),
        spool=SpoolSection(tmp_path / "spool.db"),
        metrics=MetricsSection(address),
        sources=(SacctSection(clusters=("alpha",), sacct=tmp_path / "sacct"),),
    )
    with closing(Service(config)) as service:
        running = threading.Thread(target=service.run, args=(Supervisor("", 0, journal=False),))
        monkeypatch.setattr("signal.signal", lambda *_: None)  # for the main thread only
        running.start()
        deadline = time.monotonic() + 20
        page = ""
        while "jobledger_agent_build_info{" not in page:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            with suppress(OSError), urllib.request.urlopen(f"http://{address}/metrics") as served:
                page = served.read().decode()
        service.stop.set()
        running.join(20)
    assert families(page) == documented


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
