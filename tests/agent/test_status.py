"""What `status` says of an agent, by its spool and by what it serves."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobledger_agent.daemon.metrics import AgentMetrics, Subject, serve
from jobledger_agent.health import Health
from jobledger_agent.operating.status import as_json, as_text, facts, look
from jobledger_agent.protocol.wire import encode
from jobledger_agent.source import SourceFacts
from jobledger_agent.spooling.spool import Spool
from tests.agent.notebook import a_job

SOURCE = "sacct:alpha"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool.db", 16 << 20)) as opened:
        yield opened


def test_without_a_running_agent_the_spool_alone_speaks(spool: Spool) -> None:
    spool.append(SOURCE, encode([a_job(1), a_job(2)]), "p", 1_795_000_000)
    found = look(spool.path, "")
    text = as_text(found)
    assert "waiting    2 records" in text
    assert "sacct:alpha: read through 2026-11-18T" in text
    assert "not seen: no metrics" in text
    assert "held" not in text
    told = as_json(found)
    assert (told["records"], told["held_records"], told["clusters"]) == (2, 0, {})


def test_held_records_are_told_with_the_way_out(spool: Spool) -> None:
    spool.append(SOURCE, encode([a_job(1)]), "p", 0)
    spool.hold(spool.head(0, 1)[0].block_id, "no batch")
    found = look(spool.path, "")
    assert "held       1 records" in as_text(found)
    assert "replay --held" in as_text(found)
    assert as_json(found)["held_blocks"] == 1


def test_a_running_agent_tells_of_each_cluster(spool: Spool) -> None:
    health = Health()
    health.know([SOURCE])
    told = SourceFacts(
        dbd_queue=1_200, running=7, open_runs=6, sweep_through=1_795_000_000,
        canary_ok_at=1_795_000_100, paused="the queue is long", runaway_suspects=0,
    )  # fmt: skip
    health.source_told(SOURCE, {"alpha": told})
    health.link_is_up("0.2.0", 0)
    subject = Subject("0.2.0", "a", (SOURCE,), 0, ("alpha",))
    server, thread = serve("127.0.0.1:0", AgentMetrics(subject, spool, health))
    try:
        found = look(spool.path, f"127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    text = as_text(found)
    assert "cluster    alpha: 1,200 messages wait for slurmdbd, 7 jobs run, 6 in accounting" in text
    assert "proved true 2026-11-18T" in text
    assert "paused     sacct:alpha waits" in text
    assert "connected to the collector" in text
    clusters = as_json(found)["clusters"]
    assert isinstance(clusters, dict)
    assert clusters["alpha"]["running_jobs"] == 7


@pytest.mark.parametrize("name", ["a,b", 'a\\"b', "a}b", "ü"])
def test_labels_of_any_text_do_no_harm(name: str) -> None:
    sample = f'jobledger_agent_source_open_runs{{cluster="{name}",source="s"}}'
    assert len(facts({sample: "1.0"})) <= 1
