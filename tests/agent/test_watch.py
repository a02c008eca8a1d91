"""What the running agent does beside reading and delivering: kicks, watchdog, held records."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import closing, suppress
from pathlib import Path

import grpc
import pytest

from jobledger_agent.daemon import replay
from jobledger_agent.daemon.feed import Intake, keep_reading
from jobledger_agent.daemon.kick import Kicks
from jobledger_agent.daemon.service import Service, Worker
from jobledger_agent.daemon.summary import Summary
from jobledger_agent.health import Health
from jobledger_agent.protocol.wire import encode
from jobledger_agent.settings.config import Supervisor
from jobledger_agent.settings.sections import (
    AgentConfig,
    AgentSection,
    CollectorSection,
    MetricsSection,
    SpoolSection,
)
from jobledger_agent.source import Block, SourceFacts
from jobledger_agent.sources.feeds import Feed
from jobledger_agent.spooling.spool import Spool
from jobledger_proto.v1 import usage_pb2_grpc
from tests.agent.notebook import Notebook, a_job

ENDED = 1_790_000_500
DONE = a_job(8)._replace(end=ENDED)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    yield spool
    spool.close()


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def collector(notebook: Notebook) -> Iterator[CollectorSection]:
    server = grpc.server(futures.ThreadPoolExecutor(8))
    usage_pb2_grpc.add_LedgerServiceServicer_to_server(notebook, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield CollectorSection(address=f"127.0.0.1:{port}")
    server.stop(None).wait()


def settings(tmp_path: Path, collector: CollectorSection) -> AgentConfig:
    return AgentConfig(
        agent=AgentSection("test"),
        collector=collector,
        spool=SpoolSection(tmp_path / "spool.db"),
        metrics=MetricsSection(""),
    )


def nothing() -> None:
    """Nobody waits for the block."""


def until(holds: Callable[[], bool], within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ------------------------------------------------------------------ kicks, watchdog


class Live:
    """A live source that counts how it was read; a glance finds one more run each time."""

    name = "live"

    def __init__(self) -> None:
        self.looks: list[str] = []

    def read(self, position: str) -> Iterator[Block]:
        del position
        self.looks.append("read")
        yield Block((DONE,), "1", ENDED)

    def glance(self, position: str) -> Iterator[Block]:
        del position
        self.looks.append("glance")
        yield Block((a_job(100 + len(self.looks))._replace(end=ENDED),), "1", ENDED)

    def facts(self) -> dict[str, SourceFacts]:
        return {"alpha": SourceFacts(dbd_queue=len(self.looks))}


def test_a_kick_makes_the_agent_glance_at_once(spool: Spool, tmp_path: Path) -> None:
    file = tmp_path / "kick"
    file.touch()
    source, health, stop, kicks = Live(), Health(), threading.Event(), Kicks(str(file))
    feed = Feed("live", source, 600, is_live=True)
    reader = Worker(
        "r", lambda: keep_reading(feed, Intake(spool, health, None, nothing, stop), kicks)
    )
    reader.start()
    until(lambda: health.report().last_success.get("live", 0) > 0)
    time.sleep(0.6)
    assert source.looks == ["read"]
    os.utime(file)
    until(lambda: source.looks == ["read", "glance"], within_s=4)
    assert kicks.total == 1
    until(lambda: health.report().facts["live"]["alpha"].dbd_queue == 2)
    time.sleep(2.6)
    assert source.looks == ["read", "glance"]  # it saw an end: that answers the kick
    stop.set()
    until(lambda: reader.is_done, within_s=3)


class Stuck:
    """A source that never comes back."""

    name = "hangs"

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def read(self, position: str) -> Iterator[Block]:
        del position
        self.let_go.wait(30)
        yield from ()


def test_a_source_that_hangs_is_told_and_the_watchdog_is_not(
    tmp_path: Path,
    collector: CollectorSection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("jobledger_agent.daemon.service.FILE_STEP_S_MAX", 2)
    monkeypatch.setattr("jobledger_agent.daemon.service.STOP_GRACE_S", 1)
    address = str(tmp_path / "notify")
    source = Stuck()
    feed = Feed("hangs", source, 1, is_live=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.setblocking(False)
        with closing(Service(settings(tmp_path, collector), (feed,))) as service:
            stopper = threading.Timer(6, service.stop.set)
            stopper.start()
            heard: list[tuple[float, bytes]] = []

            def listen() -> None:
                while stopper.is_alive():
                    with suppress(BlockingIOError):
                        heard.append((time.monotonic(), systemd.recv(100)))
                    time.sleep(0.01)

            listener = threading.Thread(target=listen)
            listener.start()
            began = time.monotonic()
            service.run(Supervisor(address, 900_000, journal=False))
            listener.join()
            source.let_go.set()
            complaints = service.health.report().complaints
    pings = [when - began for when, what in heard if what == b"WATCHDOG=1"]
    assert pings
    assert max(pings) < 4.5
    assert "stuck" in complaints["hangs"]
    assert sum("has been stuck for" in line for line in caplog.messages) == 1


# --------------------------------------------------------------------- held, summary


def test_held_records_are_offered_again_when_a_person_asks(
    tmp_path: Path, collector: CollectorSection, notebook: Notebook
) -> None:
    config = settings(tmp_path, collector)
    with closing(Service(config)) as service:
        service.spool.position("f")
        service.spool.append("f", encode([a_job(1), a_job(2)]), "1", 0)
        service.spool.hold(service.spool.head(0, 1)[0].block_id, "not understood")
        released: list[int] = []

        def ask() -> None:
            time.sleep(0.5)
            released.append(replay.release(config.spool.path, config.spool.max_bytes))
            until(lambda: notebook.jobs == [1, 2])
            service.stop.set()

        asker = threading.Thread(target=ask)
        asker.start()
        service.run(Supervisor("", 0, journal=False))
        asker.join()
    assert released == [2]
    assert notebook.jobs == [1, 2]
    assert not replay.request_beside(config.spool.path).exists()


def test_held_records_of_an_agent_that_rests_are_released_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobledger_agent.daemon.replay.ANSWER_WAIT_MS", 200)
    path = tmp_path / "spool.db"
    with closing(Spool(path)) as spool:
        spool.position("f")
        spool.append("f", encode([a_job(1)]), "1", 0)
        spool.hold(spool.head(0, 1)[0].block_id, "not understood")
        assert spool.head(0, 1) == []
    assert replay.release(path, 1 << 30) == 1
    assert replay.release(path, 1 << 30) == 0
    with closing(Spool(path)) as spool:
        assert len(spool.head(0, 9)) == 1


def test_the_hourly_line_tells_what_came_since_the_last(spool: Spool) -> None:
    health = Health()
    health.count_read(100, 0, 90)
    summary = Summary(spool, health, ("live",))
    health.count_read(50, 0, 30)
    health.count_verdicts({"new": 12, "known": 3})
    health.source_told("live", {"alpha": SourceFacts(dbd_queue=5)})
    health.source_complained("live", "away")
    spool.position("live")
    spool.append("live", (), "p", 1_000)
    line = summary.line(1_090)
    assert line == (
        "in the last hour: 50 records read, 20 of them news; 15 acknowledged; 0 wait; lag 90 s;"
        " slurmctld's queue for slurmdbd 5; 1 sources fail; no collector"
    )
    assert summary.line(1_090).startswith("in the last hour: 0 records read, 0 of them news; 0 ack")
