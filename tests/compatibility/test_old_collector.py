"""Today's agent against a collector of the release before this one."""

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from jobledger_agent.delivery.link import Identity, Link
from jobledger_agent.delivery.verifier import Verifier, VerifyUnknown
from jobledger_agent.health import Health
from jobledger_agent.protocol import wire
from jobledger_agent.records.job import Unreadable
from jobledger_agent.records.tree import TreeEntry, TreeKind
from jobledger_agent.settings.sections import CollectorSection
from jobledger_agent.spooling.spool import Spool
from tests.agent.notebook import a_job
from tests.compatibility.contract import RELEASES, REPORT, VERIFY, Contract
from tests.compatibility.spools import a_copy

NOW = 1_790_000_000


class OldCollector(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """A collector that knows only its release's messages, and each run once."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.runs: list[tuple[int, int]] = []
        self.unreadable: list[bytes] = []
        self.statuses: list[Any] = []
        self.break_after = 0

    def service(self, details: Any) -> Any:  # noqa: ANN401 - gRPC's own
        if details.method != REPORT:
            return None
        return grpc.stream_stream_rpc_method_handler(
            self.report,
            request_deserializer=self.contract.Request.FromString,
            response_serializer=self.contract.Response.SerializeToString,
        )

    def report(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        response = self.contract.Response
        for request in requests:
            body = request.WhichOneof("body")
            if body == "hello":
                limits = {"window_batches": 8, "max_batch_records": 2000,
                          "max_batch_bytes": 1 << 20}  # fmt: skip
                yield response(welcome={"version": "0.2", **limits})
            elif body == "status":
                self.statuses.append(request.status)
            elif body == "batch":
                yield response(ack={"number": request.batch.number,
                                    "verdicts": self.apply(request.batch)})  # fmt: skip
                if self.break_after and len(self.runs) > self.break_after:
                    self.break_after = 0
                    context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    def apply(self, batch: Any) -> list[int]:  # noqa: ANN401
        verdicts = []
        for key in zip(batch.jobs.job_id, batch.jobs.submit, strict=True):
            verdicts.append(2 if key in self.runs else 1)
            if key not in self.runs:
                self.runs.append(key)
        self.unreadable += [each.raw for each in batch.unreadable]
        return verdicts + [4] * len(batch.unreadable)


@pytest.fixture(params=RELEASES)
def collector(request: pytest.FixtureRequest) -> Iterator[tuple[OldCollector, CollectorSection]]:
    old = OldCollector(Contract(request.param))
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((old,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield old, CollectorSection(address=f"127.0.0.1:{port}")
    server.stop(None).wait()


def deliver(spool: Spool, section: CollectorSection) -> Health:
    """Run today's link until nothing waits."""
    health = Health()
    link = Link(section, Identity("new", "9", ("alpha",)), spool, health, lambda: NOW)
    thread = threading.Thread(target=link.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while spool.stats().payload_bytes:
        assert time.monotonic() < deadline, health.report()
        time.sleep(0.01)
    link.stop(5)
    thread.join(10)
    return health


def test_records_and_what_it_does_not_know_are_delivered(
    collector: tuple[OldCollector, CollectorSection], tmp_path: Path
) -> None:
    old, section = collector
    spool = Spool(tmp_path / "spool.db")
    bad = Unreadable("alpha", "sacct", "End is no time", b"1|x|", 4)
    spool.append("s", wire.encode([a_job(1), a_job(2), bad]), "1", 1)
    entry = TreeEntry("alpha", TreeKind.ACCOUNT, "physics", (("description", "x"),), False, NOW)
    spool.append("s", wire.encode_tree([entry]), "2", 2)
    spool.append("s", wire.encode([a_job(2), a_job(3)]), "3", 3)
    health = deliver(spool, section)
    spool.close()
    assert sorted(job_id for job_id, _ in old.runs) == [1, 2, 3]
    assert old.unreadable == [b"1|x|"]
    assert health.report().verdicts == {"new": 3, "known": 1, "quarantined": 1}
    assert health.report().clock_skew_ms is None
    assert old.statuses


def test_a_spool_of_its_own_release_is_delivered_to_it_once(
    collector: tuple[OldCollector, CollectorSection], tmp_path: Path
) -> None:
    old, section = collector
    old.break_after = 20  # and a stream that breaks on the way
    spool = Spool(a_copy("0.2", "killed", tmp_path))
    deliver(spool, section)
    spool.close()
    assert len(old.runs) == len(set(old.runs)) == 55
    assert len(set(old.unreadable)) == 3


def test_a_collector_without_comparisons_says_so(
    collector: tuple[OldCollector, CollectorSection],
) -> None:
    old, section = collector
    if "Verify" in old.contract.methods:
        pytest.skip("that release compares")
    with (
        pytest.raises(VerifyUnknown),
        Verifier(section, "new").comparing("alpha", NOW, NOW + 60) as comparison,
    ):
        comparison.check([a_job(1)])
    assert VERIFY.endswith("Verify")
