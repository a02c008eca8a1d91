"""The link and what goes wrong around it: refused blocks, damage, rotation, clocks."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from jobledger_agent import clock
from jobledger_agent.delivery.link import STATUS_EVERY_MS, Identity, Link
from jobledger_agent.health import Health
from jobledger_agent.protocol import wire
from jobledger_agent.protocol.stream import BACKOFF_FIRST_MS
from jobledger_agent.settings.sections import CollectorSection
from jobledger_agent.spooling.spool import Spool
from jobledger_proto.v1 import usage_pb2 as pb
from jobledger_proto.v1 import usage_pb2_grpc
from tests.agent.notebook import Notebook, a_job, full_ack

SECRET = "correct-horse-battery-staple"


class Picky(Notebook):
    """Refuses, as a collector does that finds a batch to be none, what holds these jobs."""

    def __init__(self, poison: set[int]) -> None:
        super().__init__()
        self.poison = poison
        self.context: grpc.ServicerContext | None = None
        self.answer = self.judge

    def Report(  # noqa: N802  gRPC's name
        self, request_iterator: Iterator[pb.ReportRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ReportResponse]:
        self.context = context
        yield from super().Report(request_iterator, context)

    def judge(self, batch: pb.Batch) -> pb.Ack:
        assert self.context
        if self.poison & set(batch.jobs.job_id):
            self.context.abort(grpc.StatusCode.INVALID_ARGUMENT, "its columns are not equal")
        return full_ack(batch)


class Delivery:
    """A link in a thread of its own, to a notebook behind real gRPC."""

    def __init__(self, notebook: Notebook, spool: Spool, token_file: Path | None = None) -> None:
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        usage_pb2_grpc.add_LedgerServiceServicer_to_server(notebook, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.health = Health()
        section = CollectorSection(address=f"127.0.0.1:{port}", token_file=token_file)
        self.link = Link(
            section, Identity("test", "0.1", ("alpha",)), spool, self.health, lambda: 0
        )
        self._thread = threading.Thread(target=self.link.run, daemon=True)
        self._thread.start()

    def until(self, holds: Callable[[], bool], within_s: float = 20) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, self.health.report()
            time.sleep(0.01)

    def stop(self) -> None:
        self.link.stop(5)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.server.stop(None).wait()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db")
    yield spool
    spool.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the back-off be short."""
    monkeypatch.setattr("jobledger_agent.protocol.stream.BACKOFF_FIRST_MS", BACKOFF_FIRST_MS // 50)


def fill(spool: Spool, job_ids: range) -> None:
    for job_id in job_ids:
        spool.append("file:test", wire.encode([a_job(job_id)]), str(job_id), job_id)


@pytest.mark.usefixtures("hurried")
def test_blocks_that_are_refused_are_held_and_the_others_flow(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    notebook = Picky({3, 4, 17})
    fill(spool, range(1, 31))
    delivery = Delivery(notebook, spool)
    delivery.until(lambda: spool.stats().records == 0)
    assert spool.stats()[3:] == (3, 3)
    assert set(notebook.jobs) == set(range(1, 31))  # the notebook writes down before it judges
    assert delivery.health.report().verdicts == {"new": 27}
    assert ["INVALID_ARGUMENT: its columns" in each.reason for each in spool.held()] == [True] * 3
    assert "replay --held" in caplog.text
    # What is held is not acknowledged, and the collector is told of it.
    assert spool.marks()[0].acknowledged_through == 2
    delivery.link._status_due_ms = 0  # noqa: SLF001 - it is said every ten seconds
    delivery.link.wake()
    delivery.until(lambda: any(status.held_records == 3 for status in notebook.statuses))
    notebook.poison = set()
    assert spool.release_held() == 3
    delivery.link.wake()
    delivery.until(lambda: spool.stats() == (0, 0, 0, 0, 0))
    assert delivery.health.report().verdicts == {"new": 30}
    assert spool.marks()[0].acknowledged_through == 30
    delivery.stop()


@pytest.mark.usefixtures("hurried")
def test_damage_found_while_sending_ends_the_stream_and_the_rest_is_delivered(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    notebook = Notebook()
    fill(spool, range(1, 11))
    with sqlite3.connect(spool.path) as other:
        other.execute("UPDATE blocks SET payload = x'0102' WHERE id = 5")
    other.close()
    delivery = Delivery(notebook, spool)
    delivery.until(lambda: spool.stats().records == 0 and len(notebook.jobs) >= 9)
    delivery.stop()
    assert set(notebook.jobs) == {*range(1, 5), *range(6, 11)}
    assert spool.position("file:test") == ""  # and so the fifth is read again
    assert "block 5 is not what was stored" in caplog.text
    assert "9 blocks that waited in it were carried over, 1 could not be read" in caplog.text


def test_a_new_token_replaces_the_stream_and_a_wrong_one_does_not(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("jobledger_agent.delivery.link.STATUS_EVERY_MS", STATUS_EVERY_MS // 200)
    token = tmp_path / "token"
    token.write_text(SECRET)
    notebook = Notebook()
    delivery = Delivery(notebook, spool, token)
    delivery.until(lambda: len(notebook.hellos) == 1)
    token.write_text("changeme")
    delivery.until(lambda: "the stream is kept" in caplog.text)
    assert len(notebook.hellos) == 1
    token.write_text(SECRET.upper())
    delivery.until(lambda: len(notebook.hellos) == 2)
    fill(spool, range(1, 4))
    delivery.link.wake()
    delivery.until(lambda: spool.stats().records == 0)
    delivery.stop()
    told = [each["authorization"] for each in notebook.metadata]
    assert told == [f"Bearer {SECRET}", f"Bearer {SECRET.upper()}"]
    assert caplog.text.count("the stream is kept") == 1


@pytest.mark.parametrize(("ahead_s", "least_s"), [(0, 0), (3600, 3590), (-86_400, -86_390)])
def test_the_collectors_clock_is_compared_with_ours(
    spool: Spool, ahead_s: int, least_s: int
) -> None:
    notebook = Notebook()
    notebook.welcome = pb.Welcome(
        window_batches=8,
        max_batch_records=2000,
        max_batch_bytes=1 << 20,
        clock_ms=clock.now_ms() - ahead_s * 1000,
    )
    delivery = Delivery(notebook, spool)
    delivery.until(lambda: delivery.health.report().connected)
    skew_ms = delivery.health.report().clock_skew_ms
    delivery.stop()
    assert skew_ms is not None
    assert abs(least_s) * 1000 <= abs(skew_ms) <= abs(ahead_s) * 1000 + 5000
    assert not ahead_s or (skew_ms > 0) is (ahead_s > 0)


def test_a_collector_that_tells_no_clock_leaves_the_skew_unknown(spool: Spool) -> None:
    delivery = Delivery(Notebook(), spool)
    delivery.until(lambda: delivery.health.report().connected)
    assert delivery.health.report().clock_skew_ms is None
    delivery.stop()
