"""An agent of the release before this one, against today's collector."""

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from jobledger_agent.spooling.spool import Spool
from jobledger_collector.config import Address, ServerSection, TlsSection
from jobledger_collector.core.enrolment import Listener
from jobledger_collector.metrics import Metrics
from jobledger_collector.server import Ledger, Server
from jobledger_collector.store.engine import open_engine, reading
from jobledger_collector.store.quarantined import iter_quarantine
from jobledger_collector.store.runs import find_runs
from tests.compatibility.contract import RELEASES, REPORT, Contract
from tests.compatibility.spools import a_copy

NEW, KNOWN, QUARANTINED = 1, 2, 4


class OldAgent:
    """What an agent of that release says, step by step, in that release's messages."""

    def __init__(self, contract: Contract, target: str) -> None:
        self._contract = contract
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._channel = grpc.insecure_channel(target)
        report = self._channel.stream_stream(
            REPORT, lambda message: message, contract.Response.FromString
        )
        self._answers: Any = report(iter(self._requests.get, None), timeout=30)

    def say(self, **body: Any) -> None:  # noqa: ANN401
        self._requests.put(self._contract.Request(**body).SerializeToString())

    def hello(self) -> Any:  # noqa: ANN401 - a message of that release
        self.say(hello={"agent": "old", "version": "0.2", "clusters": ["alpha"], "clock_ms": 1})
        return next(self._answers).welcome

    def send(self, number: int, payload: bytes) -> Any:  # noqa: ANN401
        numbered = self._contract.Request(batch={"number": number}).SerializeToString()
        self._requests.put(numbered + payload)
        return next(self._answers).ack

    def done(self) -> None:
        self._requests.put(None)
        assert list(self._answers) == []
        self._channel.close()


@pytest.fixture
def served(sqlite_url: str) -> Iterator[tuple[Any, str]]:
    engine = open_engine(sqlite_url)
    ledger = Ledger(engine, Metrics(engine), Listener("", open_to_all=True), max_streams=4)
    server = Server(ledger, ServerSection(max_streams=4), Address("127.0.0.1", 0), TlsSection())
    server.start()
    yield engine, str(server.address)
    server.stop()
    engine.dispose()


@pytest.mark.parametrize("release", RELEASES)
def test_all_that_an_old_agent_has_is_stored_once(
    release: str, served: tuple[Any, str], tmp_path: Path
) -> None:
    engine, target = served
    spool = Spool(a_copy(release, "waiting", tmp_path))
    blocks = spool.head(0, 100)
    spool.close()
    contract = Contract(release)
    for expected in (NEW, KNOWN):  # the second time it has lost every acknowledgement
        agent = OldAgent(contract, target)
        welcome = agent.hello()
        assert welcome.window_batches >= 1
        assert welcome.max_batch_records >= 1_000
        verdicts: list[int] = []
        for number, block in enumerate(blocks, 1):
            ack = agent.send(number, block.payload)
            assert (ack.number, len(ack.verdicts)) == (number, block.records)
            verdicts += ack.verdicts
            agent.say(status={"spool_records": 7, "complete_through": 1, "clock_ms": 2})
        agent.done()
        assert verdicts.count(expected) == 55
        assert verdicts.count(QUARANTINED) == 3
        assert len(verdicts) == 58
    with reading(engine) as conn:
        assert [len(find_runs(conn, "alpha", job_id)) for job_id in (11, 60, 1004)] == [1, 1, 1]
        assert len(find_runs(conn, "alpha", 1)) == 0  # its block was acknowledged before
        assert len(list(iter_quarantine(conn))) == 3
