"""Streams: read ahead, a transaction a batch, acknowledged in order."""

import threading
from collections.abc import Iterable, Iterator

import pytest

from jobledger_collector.core.errors import BatchInvalid
from jobledger_collector.ingest import Applied, Ingest, Prepared
from jobledger_collector.metrics import Metrics
from jobledger_collector.stream import Stopping, Stream
from jobledger_proto.v1 import usage_pb2
from tests.collector.ingesting import Collector
from tests.factories import a_batch, a_job


def said(*messages: usage_pb2.Batch | usage_pb2.Status) -> Iterator[usage_pb2.ReportRequest]:
    for message in messages:
        if isinstance(message, usage_pb2.Batch):
            yield usage_pb2.ReportRequest(batch=message)
        else:
            yield usage_pb2.ReportRequest(status=message)


class Rig:
    """A stream over a fresh database whose ingest counts its transactions."""

    def __init__(self, url: str) -> None:
        self.collector = Collector(url)
        self.applied: list[int] = []
        self.stopping = threading.Event()
        self.ready = threading.Event()
        self.ready.set()

    def stay(self) -> None:
        """Say whether the stream may go on, as the server does."""
        if self.stopping.is_set():
            raise Stopping

    def answers(self, requests: Iterable[usage_pb2.ReportRequest]) -> list[usage_pb2.Ack]:
        """Run a stream to its end."""
        rig = self

        class Counted(Ingest):
            def apply(self, prepared: Prepared) -> Applied:
                rig.ready.wait(10)
                rig.applied.append(prepared.decoded.number)
                return super().apply(prepared)

        ingest = self.collector.ingest
        counted = Counted(ingest.engine, ingest.rating, ingest.agent)
        stream = Stream(counted, requests, Metrics(ingest.engine), self.stay)
        return [answer.ack for answer in stream.answers()]


@pytest.fixture
def rig(sqlite_url: str) -> Rig:
    return Rig(sqlite_url)


def test_batches_that_wait_are_stored_and_answered_each_by_itself(rig: Rig) -> None:
    """The first transaction starts only when all have been read ahead."""
    rig.ready.clear()
    batches = [a_batch(a_job(n), a_job(n + 10, tres=""), number=n) for n in range(1, 5)]

    def requests() -> Iterator[usage_pb2.ReportRequest]:
        yield from said(*batches)
        rig.ready.set()

    acks = rig.answers(requests())
    assert [ack.number for ack in acks] == rig.applied == [1, 2, 3, 4]
    assert all(list(ack.verdicts) == [1, 4] for ack in acks)
    assert all([refusal.index for refusal in ack.refusals] == [1] for ack in acks)


def test_the_same_run_in_batches_that_wait_is_one_run(rig: Rig) -> None:
    rig.ready.clear()
    first, again = a_batch(a_job(1), number=1), a_batch(a_job(1), a_job(2), number=2)

    def requests() -> Iterator[usage_pb2.ReportRequest]:
        yield from said(first, again)
        rig.ready.set()

    acks = rig.answers(requests())
    assert [list(ack.verdicts) for ack in acks] == [[1], [2, 1]]
    assert rig.collector.owed() == 24


def test_health_between_batches_keeps_its_place(rig: Rig) -> None:
    status = usage_pb2.Status(spool_records=3)
    acks = rig.answers(said(a_batch(a_job(1), number=1), status, a_batch(a_job(2), number=2)))
    assert [ack.number for ack in acks] == [1, 2]


@pytest.mark.parametrize("agent_ends", [True, False])
def test_what_was_sent_before_a_fault_is_stored(rig: Rig, agent_ends: bool) -> None:
    def requests() -> Iterator[usage_pb2.ReportRequest]:
        yield from said(a_batch(a_job(1), number=1))
        if not agent_ends:
            yield usage_pb2.ReportRequest(hello=usage_pb2.Hello(agent="again"))

    if agent_ends:
        assert len(rig.answers(requests())) == 1
    else:
        with pytest.raises(BatchInvalid, match="After Hello"):
            rig.answers(requests())
    assert rig.collector.owed() == 12


def test_an_agent_that_breaks_off_ends_the_stream(rig: Rig) -> None:
    def requests() -> Iterator[usage_pb2.ReportRequest]:
        yield from said(a_batch(a_job(1), number=1))
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        rig.answers(requests())


def test_stopping_ends_a_stream_that_is_idle(rig: Rig) -> None:
    silent = threading.Event()

    def requests() -> Iterator[usage_pb2.ReportRequest]:
        rig.stopping.set()
        silent.wait(10)
        yield from ()

    with pytest.raises(Stopping):
        rig.answers(requests())
    silent.set()
