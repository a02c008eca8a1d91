"""The server over real gRPC: who may report, what is acknowledged, how streams end."""

import queue
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from jobledger_collector.admission import LOOK_EVERY_S
from jobledger_collector.config import Address, ServerSection, TlsSection
from jobledger_collector.core.enrolment import Listener, sha256_of
from jobledger_collector.core.errors import CannotListen
from jobledger_collector.metrics import Metrics
from jobledger_collector.server import MAX_MESSAGE_BYTES, SERVICE, Ledger, Server
from jobledger_collector.store import agents, enrolments
from jobledger_collector.store.engine import open_engine, reading, transaction
from jobledger_collector.store.enrolments import Enrolled
from jobledger_collector.store.quarantined import iter_quarantine
from jobledger_collector.store.runs import find_runs
from jobledger_proto.v1 import usage_pb2, usage_pb2_grpc
from tests.factories import a_batch, a_job
from tests.postgres import TEMPLATE, PostgresServer

LOOPBACK = Address("127.0.0.1", 0)
WAIT_S = 20
NEW, KNOWN, REVISED, QUARANTINED = 1, 2, 3, 4


class Served:
    """A running server over a fresh database."""

    def __init__(self, url: str, token: str = "", tls: TlsSection = TlsSection()) -> None:  # noqa: B008
        self.engine = open_engine(url)
        self.metrics = Metrics(self.engine)
        listener = Listener(sha256_of(token) if token else "", open_to_all=True)
        self.ledger = Ledger(self.engine, self.metrics, listener, max_streams=4)
        self.server = Server(self.ledger, ServerSection(max_streams=4), LOOPBACK, tls)
        self.server.start()
        self.target = str(self.server.address)

    def runs(self, job_id: int) -> int:
        """Return how many runs of a job are stored."""
        with reading(self.engine) as conn:
            return len(find_runs(conn, "alpha", job_id))


Serve = Callable[..., Served]


@pytest.fixture
def serve(sqlite_url: str) -> Iterator[Serve]:
    running: list[Served] = []

    def start(url: str = sqlite_url, **settings: Any) -> Served:  # noqa: ANN401
        running.append(Served(url, **settings))
        return running[-1]

    yield start
    for served in running:
        served.server.stop()
        served.engine.dispose()


class Agent:
    """The other side of a stream, step by step."""

    def __init__(self, channel: grpc.Channel, token: str = "", wait_s: int = WAIT_S) -> None:
        self._requests: queue.Queue[usage_pb2.ReportRequest | None] = queue.Queue()
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self.call = usage_pb2_grpc.LedgerServiceStub(channel).Report(
            iter(self._requests.get, None), metadata=metadata, timeout=wait_s
        )

    def say(self, request: usage_pb2.ReportRequest) -> None:
        self._requests.put(request)

    def hello(self, name: str = "agent-1") -> usage_pb2.Welcome:
        """Greet and return the answer."""
        said = usage_pb2.Hello(agent=name, version="9", clusters=["alpha"], clock_ms=1)
        self.say(usage_pb2.ReportRequest(hello=said))
        welcome: usage_pb2.Welcome = next(self.call).welcome
        return welcome

    def send(self, batch: usage_pb2.Batch) -> usage_pb2.Ack:
        """Send a batch and return its acknowledgement."""
        self.say(usage_pb2.ReportRequest(batch=batch))
        ack: usage_pb2.Ack = next(self.call).ack
        return ack

    def done(self) -> None:
        """End the stream in order and wait until the server has, too."""
        self._requests.put(None)
        assert list(self.call) == []

    def failure(self) -> tuple[grpc.StatusCode, str]:
        """Return how the stream ended."""
        with pytest.raises(grpc.RpcError) as caught:
            list(self.call)
        return caught.value.code(), caught.value.details() or ""


@pytest.fixture
def connect() -> Iterator[Callable[..., Agent]]:
    channels: list[grpc.Channel] = []

    def to(served: Served, token: str = "") -> Agent:
        options = [("grpc.max_send_message_length", -1)]
        channels.append(grpc.insecure_channel(served.target, options))
        return Agent(channels[-1], token)

    yield to
    for channel in channels:
        channel.close()


Connect = Callable[..., Agent]


def test_a_stream_from_hello_to_the_last_acknowledgement(
    database_url: str, serve: Serve, connect: Connect
) -> None:
    served = serve(database_url)
    agent = connect(served)
    assert agent.hello().max_batch_records == 2_000
    first = agent.send(a_batch(a_job(1), a_job(2), number=1))
    assert (first.number, list(first.verdicts)) == (1, [NEW, NEW])
    batch = a_batch(a_job(1), a_job(2, end=200, observed=2_000), a_job(3, tres=""), number=2)
    batch.unreadable.add(cluster="alpha", origin="f:3", reason="cut short", raw=b"1|2", raw_size=3)
    second = agent.send(batch)
    assert list(second.verdicts) == [KNOWN, REVISED, QUARANTINED, QUARANTINED]
    assert [refusal.index for refusal in second.refusals] == [2, 3]
    agent.done()
    assert (served.runs(1), served.runs(2), served.runs(3)) == (1, 1, 0)


def test_what_was_acknowledged_is_known_to_the_next_stream(serve: Serve, connect: Connect) -> None:
    served = serve()
    for expected in (NEW, KNOWN, KNOWN):
        agent = connect(served)
        agent.hello()
        assert list(agent.send(a_batch(a_job(1), number=1)).verdicts) == [expected]
        agent.done()


def test_a_whole_window_is_acknowledged_in_order(serve: Serve, connect: Connect) -> None:
    agent = connect(serve())
    agent.hello()
    for number in range(1, 9):
        agent.say(usage_pb2.ReportRequest(batch=a_batch(a_job(number), number=number)))
    assert [next(agent.call).ack.number for _ in range(8)] == list(range(1, 9))


def test_health_of_an_agent_is_kept_for_its_operators(serve: Serve, connect: Connect) -> None:
    served = serve()
    agent = connect(served)
    agent.hello()
    status = usage_pb2.Status(spool_records=7, complete_through=55, source_error="sacct: away")
    agent.say(usage_pb2.ReportRequest(status=status))
    agent.send(a_batch(a_job(1), number=1))
    agent.done()
    with reading(served.engine) as conn:
        (row,) = agents.list_agents(conn)
    assert (row["name"], row["version"], row["clusters"]) == ("agent-1", "9", "alpha")
    assert (row["spool_records"], row["complete_through"]) == (7, 55)
    assert row["source_error"] == "sacct: away"
    assert row["records_new"] == 1


INVALID = [
    ("no Hello", [usage_pb2.ReportRequest(batch=a_batch(a_job(1)))], "must be Hello"),
    ("an empty stream", [], "must be Hello"),
]


@pytest.mark.parametrize(("what", "requests", "says"), INVALID)
def test_a_stream_must_begin_with_hello(
    what: str,
    requests: list[usage_pb2.ReportRequest],
    says: str,
    serve: Serve,
) -> None:
    with grpc.insecure_channel(serve().target) as channel:
        call = usage_pb2_grpc.LedgerServiceStub(channel).Report(iter(requests))
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, what
    assert says in (caught.value.details() or "")


def test_a_wrong_number_ends_the_stream_and_stores_nothing(serve: Serve, connect: Connect) -> None:
    served = serve()
    agent = connect(served)
    agent.hello()
    agent.send(a_batch(a_job(1), number=1))
    agent.say(usage_pb2.ReportRequest(batch=a_batch(a_job(2), number=5)))
    code, details = agent.failure()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "Batch 5 came where 2 was expected" in details
    assert (served.runs(1), served.runs(2)) == (1, 0)


def test_a_batch_that_is_broken_inside_is_kept_aside_and_blocks_nobody(
    database_url: str, serve: Serve, connect: Connect
) -> None:
    served = serve(database_url)
    broken = a_batch(a_job(2), a_job(3), number=2)
    broken.jobs.uid.append(1)
    broken.unreadable.add(cluster="alpha", origin="f:3", reason="cut", raw=b"1|2", raw_size=3)
    agent = connect(served)
    for number in (1, 3):
        if number == 1:
            agent.hello()
        assert list(agent.send(a_batch(a_job(number), number=number)).verdicts) == [NEW]
        if number == 1:
            ack = agent.send(broken)
            assert list(ack.verdicts) == [QUARANTINED] * 3
            assert "column uid has 3" in ack.refusals[0].reason
    agent.done()
    assert (served.runs(1), served.runs(2), served.runs(3)) == (1, 0, 1)
    with reading(served.engine) as conn:
        (kept,) = iter_quarantine(conn)
    again = usage_pb2.Batch.FromString(kept.raw)
    assert (list(again.jobs.job_id), kept.times) == ([2, 3], 1)


def test_a_message_over_the_limit_is_refused(serve: Serve, connect: Connect) -> None:
    agent = connect(serve())
    agent.hello()
    batch = usage_pb2.Batch(number=1)
    batch.unreadable.add(raw=b"x" * MAX_MESSAGE_BYTES)
    agent.say(usage_pb2.ReportRequest(batch=batch))
    assert agent.failure()[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


TOKEN = "8f3a1c5d7e9b2046"


@pytest.mark.parametrize("given", ["", "wrong", TOKEN.upper(), TOKEN + "0"])
def test_without_the_token_nobody_reports(given: str, serve: Serve, connect: Connect) -> None:
    agent = connect(serve(token=TOKEN), given)
    code, details = agent.failure()
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "token_file" in details


def test_with_the_token_an_agent_reports(serve: Serve, connect: Connect) -> None:
    agent = connect(serve(token=TOKEN), TOKEN)
    agent.hello()
    assert list(agent.send(a_batch(a_job(1), number=1)).verdicts) == [NEW]


@pytest.mark.postgres
def test_a_database_that_goes_away_is_no_acknowledgement(
    postgres_server: PostgresServer, serve: Serve, connect: Connect
) -> None:
    url = postgres_server.create(template=TEMPLATE)
    served = serve(url)
    agent = connect(served)
    agent.hello()
    agent.send(a_batch(a_job(1), number=1))
    postgres_server.drop(url)
    for number in (2, 0):
        if number:
            agent.say(usage_pb2.ReportRequest(batch=a_batch(a_job(2), number=number)))
        code, details = agent.failure()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "database is not available" in details
        assert url not in details
        agent = connect(served)
        agent.say(usage_pb2.ReportRequest(hello=usage_pb2.Hello(agent="a")))


def test_stopping_lets_each_stream_finish_the_batch_in_hand(serve: Serve, connect: Connect) -> None:
    served = serve()
    agent = connect(served)
    agent.hello()
    agent.send(a_batch(a_job(1), number=1))
    stopper = threading.Thread(target=served.server.stop)
    stopper.start()
    code, details = agent.failure()
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "stopping" in details
    stopper.join(WAIT_S)
    assert not stopper.is_alive()


def test_the_health_service_answers(serve: Serve) -> None:
    served = serve()
    with grpc.insecure_channel(served.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=WAIT_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_busy_port_is_one_sentence(serve: Serve, sqlite_url: str) -> None:
    served = serve()
    engine = open_engine(sqlite_url)
    metrics = Metrics(engine)
    taken = served.server.address
    with pytest.raises(CannotListen, match=f"Cannot listen on 127.0.0.1:{taken.port}"):
        Server(
            Ledger(engine, metrics, Listener("", open_to_all=True)),
            ServerSection(),
            taken,
            TlsSection(),
        )
    with pytest.raises(CannotListen, match="for metrics"):
        metrics.serve(taken)


def test_metrics_say_what_became_of_records(serve: Serve, connect: Connect) -> None:
    served = serve()
    agent = connect(served)
    agent.hello()
    agent.send(a_batch(a_job(1), a_job(2), number=1))
    agent.send(a_batch(a_job(1), a_job(3, tres=""), number=2))
    address, stop = served.metrics.serve(LOOPBACK)
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=WAIT_S) as page:
            text = page.read().decode()
    finally:
        stop()
    for line in (
        'jobledger_collector_records_total{verdict="new"} 2.0',
        'jobledger_collector_records_total{verdict="known"} 1.0',
        'jobledger_collector_records_total{verdict="quarantined"} 1.0',
        'jobledger_collector_records_total{verdict="revised"} 0.0',
        "jobledger_collector_batches_total 2.0",
        "jobledger_collector_ingest_seconds_count 2.0",
        "jobledger_collector_quarantine_rows 1.0",
        'jobledger_collector_quarantine_records{kind="wire"} 1.0',
        'jobledger_collector_quarantine_records{kind="agent"} 0.0',
        'jobledger_collector_agent_last_seen_timestamp_seconds{agent="agent-1"} 1.',
        'jobledger_collector_agent_clock_skew_seconds{agent="agent-1"} -1',
        "jobledger_collector_database_up 1.0",
        "jobledger_collector_streams 1.0",
    ):
        assert line in text


def test_metrics_say_that_the_database_is_away(sqlite_url: str, tmp_path: Path) -> None:
    engine = open_engine(sqlite_url.replace("jobledger.db", "nowhere/jobledger.db"))
    metrics = Metrics(engine)
    assert metrics.registry.get_sample_value("jobledger_collector_database_up") == 0
    assert tmp_path.exists()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a server's and an agent's certificate, as openssl makes them."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "agent"):
        openssl(
            "req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-extfile", "san", "-out", f"{name}.pem",
        )  # fmt: skip
    return folder


def enrol(served: Served, token: str, certificate_name: str = "") -> None:
    """Enrol agent-1 for cluster alpha."""
    enrolled = Enrolled("agent-1", ("alpha",), True, certificate_name, 1, "root", 0, "", ())
    with transaction(served.engine) as conn:
        enrolments.enrol(conn, enrolled)
        enrolments.add_token(conn, "agent-1", sha256_of(token), 1, "root")


def revoke(served: Served) -> None:
    with transaction(served.engine) as conn:
        assert enrolments.revoke(conn, "agent-1", 70, "root")


def test_a_revoked_agent_is_refused_with_its_next_batch(
    database_url: str, serve: Serve, connect: Connect
) -> None:
    served = serve(database_url)
    enrol(served, TOKEN)
    agent = connect(served, TOKEN)
    agent.hello()
    assert list(agent.send(a_batch(a_job(1), number=1)).verdicts) == [NEW]
    revoke(served)
    agent.say(usage_pb2.ReportRequest(batch=a_batch(a_job(2), number=2)))
    code, details = agent.failure()
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "agent-1 was revoked" in details
    again = connect(served, TOKEN)
    again.say(usage_pb2.ReportRequest(hello=usage_pb2.Hello(agent="agent-1")))
    assert again.failure()[0] is grpc.StatusCode.PERMISSION_DENIED
    assert (served.runs(1), served.runs(2)) == (1, 0)


def test_a_revoked_agent_s_idle_stream_ends_within_seconds(serve: Serve, connect: Connect) -> None:
    served = serve()
    enrol(served, TOKEN)
    agent = connect(served, TOKEN)
    agent.hello()
    revoke(served)
    began = time.monotonic()
    assert agent.failure()[0] is grpc.StatusCode.PERMISSION_DENIED
    assert time.monotonic() - began < LOOK_EVERY_S + 3


def test_a_comparison_is_admitted_as_a_report_is(serve: Serve) -> None:
    served = serve()
    enrol(served, TOKEN)
    span = usage_pb2.Span(agent="agent-1", cluster="alpha", begin=1, end=2)
    beta = usage_pb2.Span(agent="agent-1", cluster="beta", begin=1, end=2)
    other = usage_pb2.Span(agent="other", cluster="alpha", begin=1, end=2)
    cases = [
        (span, TOKEN, None),
        (span, "", grpc.StatusCode.UNAUTHENTICATED),
        (beta, TOKEN, grpc.StatusCode.PERMISSION_DENIED),
        (other, "", grpc.StatusCode.PERMISSION_DENIED),
    ]
    end = usage_pb2.VerifyRequest(span_end=usage_pb2.SpanEnd())
    for asked, token, wanted in cases:
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        with grpc.insecure_channel(served.target) as channel:
            requests = iter([usage_pb2.VerifyRequest(span=asked), end])
            call = usage_pb2_grpc.LedgerServiceStub(channel).Verify(
                requests, metadata=metadata, timeout=WAIT_S
            )
            if wanted is None:
                assert next(call).compared.missing == 0
                continue
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            assert caught.value.code() is wanted, asked


def test_a_certificate_and_a_token_must_both_be_the_agent_s(
    certificates: Path, serve: Serve
) -> None:
    tls = TlsSection(
        certificate_file=str(certificates / "server.pem"),
        key_file=str(certificates / "server.key"),
        client_ca_file=str(certificates / "ca.pem"),
    )
    served = serve(tls=tls)
    enrol(served, TOKEN, certificate_name="agent")  # a common name
    ca = (certificates / "ca.pem").read_bytes()
    for name, token, admitted in (
        ("agent", TOKEN, True),
        ("agent", "", False),
        ("server", TOKEN, False),
    ):
        key, pem = ((certificates / f"{name}.{end}").read_bytes() for end in ("key", "pem"))
        trust = grpc.ssl_channel_credentials(ca, key, pem)
        with grpc.secure_channel(served.target, trust) as channel:
            agent = Agent(channel, token)
            if admitted:
                agent.hello()
                agent.done()
            else:
                agent.say(usage_pb2.ReportRequest(hello=usage_pb2.Hello(agent="agent-1")))
                assert agent.failure()[0] is grpc.StatusCode.UNAUTHENTICATED


def test_mutual_tls_admits_who_has_a_certificate_and_nobody_else(
    certificates: Path, serve: Serve
) -> None:
    tls = TlsSection(
        certificate_file=str(certificates / "server.pem"),
        key_file=str(certificates / "server.key"),
        client_ca_file=str(certificates / "ca.pem"),
    )
    served = serve(tls=tls)
    ca, key, pem = (
        (certificates / name).read_bytes() for name in ("ca.pem", "agent.key", "agent.pem")
    )
    with grpc.secure_channel(served.target, grpc.ssl_channel_credentials(ca, key, pem)) as channel:
        agent = Agent(channel)
        agent.hello()
        assert list(agent.send(a_batch(a_job(1), number=1)).verdicts) == [NEW]
        agent.done()
    with grpc.secure_channel(served.target, grpc.ssl_channel_credentials(ca)) as channel:
        assert Agent(channel).failure()[0] is grpc.StatusCode.UNAVAILABLE
    with grpc.insecure_channel(served.target) as channel:
        assert Agent(channel).failure()[0] is grpc.StatusCode.UNAVAILABLE


def test_more_streams_than_allowed_are_refused(serve: Serve, connect: Connect) -> None:
    served = serve()
    streams = [connect(served) for _ in range(4)]
    for stream in streams:
        stream.hello("agent-many")
    refused = connect(served)
    assert refused.failure()[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    streams[0].done()
    connect(served).hello()


def test_a_connection_that_says_nothing_harms_nobody(serve: Serve, connect: Connect) -> None:
    served = serve()
    with socket.create_connection(
        (served.server.address.host, served.server.address.port), WAIT_S
    ) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\n\r\n")
        agent = connect(served)
        agent.hello()
        assert list(agent.send(a_batch(a_job(1), number=1)).verdicts) == [NEW]
