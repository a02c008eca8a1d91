"""The link over real gRPC: what is delivered, what stays, and what people are told."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from jobledger_agent.delivery.call import LinkError, greet
from jobledger_agent.delivery.link import Identity, Link
from jobledger_agent.health import Health
from jobledger_agent.protocol import wire
from jobledger_agent.records.job import Unreadable
from jobledger_agent.settings.sections import CollectorSection
from jobledger_agent.spooling.spool import Spool, SpoolFull
from jobledger_proto.v1 import usage_pb2 as pb
from jobledger_proto.v1 import usage_pb2_grpc
from tests.agent.notebook import Notebook, a_job, full_ack

IDENTITY = Identity("test", "0.1", ("alpha",))


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


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db")
    yield spool
    spool.close()


def fill(spool: Spool, blocks: int, records: int = 10) -> list[int]:
    for block in range(blocks):
        jobs = [a_job(block * records + each) for each in range(records)]
        spool.append("file:test", wire.encode(jobs), str(block), 0)
    return list(range(blocks * records))


class Delivery:
    """A link running in a thread of its own."""

    def __init__(self, collector: CollectorSection, spool: Spool) -> None:
        self.health = Health()
        self.spool = spool
        self.link = Link(collector, IDENTITY, spool, self.health, lambda: 1_790_000_123)
        self._thread = threading.Thread(target=self.link.run, daemon=True)
        self._thread.start()

    def until(self, holds: Callable[[], bool], within_s: float = 20) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, self.health.report()
            time.sleep(0.01)

    def drained(self) -> None:
        self.until(lambda: self.spool.stats().records == 0)

    def stop(self) -> None:
        self.link.stop(5)
        self._thread.join(10)
        assert not self._thread.is_alive()


Deliver = Callable[[CollectorSection], Delivery]


@pytest.fixture
def deliver(spool: Spool) -> Iterator[Deliver]:
    running: list[Delivery] = []

    def start(collector: CollectorSection) -> Delivery:
        running.append(Delivery(collector, spool))
        return running[-1]

    yield start
    for delivery in running:
        delivery.stop()


def test_everything_in_the_spool_is_delivered_once(
    notebook: Notebook, collector: CollectorSection, spool: Spool, deliver: Deliver
) -> None:
    sent = fill(spool, 40)
    delivery = deliver(collector)
    delivery.drained()
    assert notebook.jobs == sent
    assert delivery.health.report().verdicts == {"new": 400}
    assert notebook.hellos[0].agent == "test"
    assert list(notebook.hellos[0].clusters) == ["alpha"]


def test_what_comes_while_connected_is_sent_at_once(
    notebook: Notebook, collector: CollectorSection, spool: Spool, deliver: Deliver
) -> None:
    delivery = deliver(collector)
    delivery.until(lambda: delivery.health.report().connected)
    fill(spool, 3)
    delivery.link.wake()
    delivery.until(lambda: len(notebook.jobs) == 30, within_s=5)


def test_a_collector_that_comes_late_gets_everything(
    notebook: Notebook, spool: Spool, deliver: Deliver
) -> None:
    sent = fill(spool, 5)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    usage_pb2_grpc.add_LedgerServiceServicer_to_server(notebook, server)
    port = server.add_insecure_port("127.0.0.1:0")
    delivery = deliver(CollectorSection(address=f"127.0.0.1:{port}"))
    time.sleep(0.3)
    server.start()
    delivery.drained()
    assert notebook.jobs == sent
    server.stop(None).wait()


def test_nobody_listening_is_told_once_in_one_sentence(
    spool: Spool, deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    fill(spool, 1)
    delivery = deliver(CollectorSection(address="127.0.0.1:1"))
    delivery.until(lambda: bool(delivery.health.report().link_error))
    assert "127.0.0.1:1 cannot be reached" in delivery.health.report().link_error
    assert spool.stats().records == 10
    assert sum("cannot be reached" in line for line in caplog.messages) == 1


def test_a_stream_that_breaks_again_and_again_loses_nothing(
    notebook: Notebook, collector: CollectorSection, spool: Spool, deliver: Deliver
) -> None:
    notebook.drop_every = 4
    sent = fill(spool, 12)
    delivery = deliver(collector)
    delivery.drained()
    assert set(notebook.jobs) == set(sent)
    assert len(notebook.hellos) > 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            lambda b: pb.Ack(number=b.number, verdicts=[pb.VERDICT_NEW] * (b.jobs.rows - 1)),
            "named 9 verdicts",
        ),
        (
            lambda b: pb.Ack(number=b.number, verdicts=[pb.VERDICT_NEW] * (b.jobs.rows + 1)),
            "named 11 verdicts",
        ),
        (
            lambda b: pb.Ack(number=b.number, verdicts=[pb.VERDICT_UNSPECIFIED] * b.jobs.rows),
            "unnamed",
        ),
        (
            lambda b: pb.Ack(number=b.number + 1, verdicts=[pb.VERDICT_NEW] * b.jobs.rows),
            "never sent",
        ),
    ],
)
def test_an_ack_that_does_not_name_each_record_deletes_nothing(
    answer: Callable[[pb.Batch], pb.Ack], told: str, notebook: Notebook,
    collector: CollectorSection, spool: Spool,
    deliver: Deliver,
) -> None:  # fmt: skip
    notebook.answer = answer
    fill(spool, 1)
    delivery = deliver(collector)
    delivery.until(lambda: told in delivery.health.report().link_error)
    assert spool.stats().records == 10
    assert delivery.health.report().verdicts == {}


def test_a_collector_with_smaller_batches_is_told_to_raise_them(
    notebook: Notebook, collector: CollectorSection, spool: Spool, deliver: Deliver
) -> None:
    notebook.welcome = pb.Welcome(window_batches=8, max_batch_records=100, max_batch_bytes=1 << 20)
    fill(spool, 1)
    delivery = deliver(collector)
    delivery.until(lambda: "raise the collector's limits" in delivery.health.report().link_error)
    assert notebook.jobs == []


def test_the_window_bounds_what_is_in_flight(
    notebook: Notebook, collector: CollectorSection, spool: Spool, deliver: Deliver
) -> None:
    held = threading.Event()
    numbers: list[int] = []

    def wait_then_ack(batch: pb.Batch) -> pb.Ack:
        numbers.append(batch.number)
        held.wait(10)
        return full_ack(batch)

    notebook.answer = wait_then_ack
    fill(spool, 30)
    delivery = deliver(collector)
    delivery.until(lambda: len(numbers) == 1)
    time.sleep(0.2)
    assert delivery.link._sender.in_flight == 8  # noqa: SLF001
    held.set()
    delivery.drained()


def test_quarantined_records_leave_the_spool_too_and_people_are_told(
    notebook: Notebook, collector: CollectorSection, spool: Spool, deliver: Deliver,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    bad = Unreadable("alpha", "dump:7", "End is no time", b"1|x|", 4)
    spool.append("file:test", wire.encode([a_job(1), bad]), "1", 0)
    delivery = deliver(collector)
    delivery.drained()
    assert delivery.health.report().verdicts == {"new": 1, "quarantined": 1}
    assert notebook.unreadable == 1
    delivery.stop()
    assert "put 1 records into quarantine" in caplog.text


def test_the_collectors_operators_are_told_how_the_agent_is(
    notebook: Notebook, collector: CollectorSection, deliver: Deliver
) -> None:
    delivery = deliver(collector)
    delivery.until(lambda: bool(notebook.statuses))
    status = notebook.statuses[0]
    assert (status.spool_records, status.complete_through) == (0, 1_790_000_123)
    assert abs(status.clock_ms - time.time() * 1000) < 60_000


def test_stopping_waits_for_what_is_in_flight(
    notebook: Notebook, collector: CollectorSection, spool: Spool, deliver: Deliver
) -> None:
    def slow(batch: pb.Batch) -> pb.Ack:
        time.sleep(0.05)
        return full_ack(batch)

    notebook.answer = slow
    fill(spool, 100)
    delivery = deliver(collector)
    delivery.until(lambda: len(notebook.jobs) > 100)
    delivery.stop()
    assert spool.stats().records == 1000 - len(notebook.jobs)
    assert spool.stats().records > 0


def test_the_token_travels_as_bearer(
    notebook: Notebook, collector: CollectorSection, deliver: Deliver
) -> None:
    with_token = CollectorSection(address=collector.address, token="0123456789abcdef0123")
    deliver(with_token).until(lambda: bool(notebook.hellos))
    assert notebook.metadata[0]["authorization"] == "Bearer 0123456789abcdef0123"


def test_greeting_tells_the_version_or_why_not(collector: CollectorSection) -> None:
    hello = wire.hello("test", "0.1", (), 0)
    assert greet(collector, hello, 5).version == "0.0-test"
    with pytest.raises(LinkError, match=r"cannot be reached .*check that it runs.*cert_file"):
        greet(CollectorSection(address="127.0.0.1:1"), hello, 5)


class FullOnce(Spool):
    """A spool whose disk is full for the first deletion."""

    full = True

    def forget(self, block_ids: Sequence[int]) -> None:
        if self.full:
            self.full = False
            raise SpoolFull("the disk is full")
        super().forget(block_ids)


def test_what_cannot_be_deleted_is_sent_again(
    notebook: Notebook, collector: CollectorSection, tmp_path: Path
) -> None:
    spool = FullOnce(tmp_path / "spool.db")
    sent = fill(spool, 20)
    delivery = Delivery(collector, spool)
    delivery.drained()
    delivery.stop()
    spool.close()
    assert len(notebook.hellos) == 2
    assert set(notebook.jobs) == set(sent)
    assert delivery.health.report().verdicts == {"new": 200}


class Authority:
    """A certificate authority of one test, made by openssl."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca_file = directory / "ca.pem"
        self._openssl("req", "-x509", *KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
                      "-subj", "/CN=test authority")  # fmt: skip

    def certify(self, name: str) -> tuple[Path, Path]:
        self._openssl("req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr",
                      "-subj", f"/CN={name}")  # fmt: skip
        extensions = self._directory / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                      "-CAcreateserial", "-out", f"{name}.pem", "-days", "2",
                      "-extfile", f"{name}.ext")  # fmt: skip
        return self._directory / f"{name}.pem", self._directory / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self._directory, check=True, capture_output=True
        )


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def test_mutual_tls_and_a_strangers_certificate(
    tmp_path: Path, notebook: Notebook, spool: Spool, deliver: Deliver
) -> None:
    authority = Authority(tmp_path)
    server_cert, server_key = authority.certify("collector")
    cert, key = authority.certify("agent")
    ca = authority.ca_file.read_bytes()
    trust = grpc.ssl_server_credentials(
        [(server_key.read_bytes(), server_cert.read_bytes())], ca, require_client_auth=True
    )
    server = grpc.server(futures.ThreadPoolExecutor(4))
    usage_pb2_grpc.add_LedgerServiceServicer_to_server(notebook, server)
    port = server.add_secure_port("127.0.0.1:0", trust)
    server.start()
    sent = fill(spool, 2)
    known = CollectorSection(f"127.0.0.1:{port}", False, authority.ca_file, cert, key)
    stranger = CollectorSection(f"127.0.0.1:{port}", False, authority.ca_file)
    hello = wire.hello("stranger", "0.1", (), 0)
    with pytest.raises(LinkError):
        greet(stranger, hello, 5)
    deliver(known).drained()
    assert notebook.jobs == sent
    assert [hello.agent for hello in notebook.hellos] == ["test"]
    server.stop(None).wait()


@pytest.mark.parametrize("address", ["10.0.0.1:7610", "collector.example.org:7610", "[::2]:1"])
def test_plain_text_never_leaves_this_machine(address: str, spool: Spool) -> None:
    delivery = Delivery(CollectorSection(address=address), spool)
    delivery.until(lambda: "plain text" in delivery.health.report().link_error)
    delivery.stop()
