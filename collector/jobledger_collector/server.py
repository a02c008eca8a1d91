"""The gRPC server: who may report, and how each stream ends.

Plaintext is served on loopback only; the configuration refuses anything else.
"""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, NoReturn, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from jobledger_collector import clock
from jobledger_collector.admission import Admission, Pass, shown_by
from jobledger_collector.config import Address, ServerSection, TlsSection
from jobledger_collector.core.enrolment import Listener, Shown
from jobledger_collector.core.errors import (
    BatchInvalid,
    CannotListen,
    DatabaseFailed,
    DatabaseUnavailable,
    NotAdmitted,
)
from jobledger_collector.ingest import Ingest
from jobledger_collector.metrics import Metrics
from jobledger_collector.rating import Rating
from jobledger_collector.store import agents
from jobledger_collector.store.books import read_generation
from jobledger_collector.store.engine import reading, transaction
from jobledger_collector.store.handles import Engine
from jobledger_collector.stream import Stopping, Stream
from jobledger_collector.tls import Certificates
from jobledger_collector.verifying import MAX_RECORDS, Comparison
from jobledger_collector.wire import (
    encode_checked,
    encode_compared,
    read_greeting,
    read_span,
    read_told,
    welcome,
)
from jobledger_proto.v1 import usage_pb2, usage_pb2_grpc

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
MAX_COMPARISONS: Final = 4
"""Agents that compare a span at one time; others come again later."""
QUIET_S: Final = 900
"""A comparison on which nothing comes for so long gives its place to another."""
SPARE_THREADS: Final = 4 + MAX_COMPARISONS
"""For comparisons and health checks while every stream is taken."""
KEEPALIVE_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
MIN_PING_INTERVAL_MS: Final = 5_000
GRACE_S: Final = 30
"""How long a stream may take for the batch in hand when the server stops."""
SERVICE: Final = "jobledger.v1.LedgerService"
_DENIED: Final = grpc.StatusCode.PERMISSION_DENIED
_UNPROVED: Final = grpc.StatusCode.UNAUTHENTICATED
_FULL: Final = "This collector serves as many agents as it may: raise [server] max_streams."
_BUSY_COMPARING: Final = (
    f"This collector compares for {MAX_COMPARISONS} agents already: come again in a minute."
)
_BUSY: Final = "The collector's database is not available; its log says why. Send it again later."

log = logging.getLogger(__name__)


class Context(Protocol):
    """What is used of grpc.ServicerContext, whose own types are too loose."""

    def invocation_metadata(self) -> Any:  # noqa: ANN401 - gRPC's own
        """Return the call's metadata as (key, value) pairs."""

    def auth_context(self) -> Any:  # noqa: ANN401 - gRPC's own
        """Return what the handshake verified, by property."""

    def peer(self) -> str:
        """Return the address of the other side."""

    def cancel(self) -> Any:  # noqa: ANN401 - gRPC's own
        """End the call from this side."""

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the call with an error."""


class Ledger(usage_pb2_grpc.LedgerServiceServicer):
    """Receives what agents report."""

    def __init__(
        self, engine: Engine, metrics: Metrics, listener: Listener, max_streams: int = 32
    ) -> None:
        """Read the books; raises DatabaseFailed. ``listener`` says how strangers are met."""
        self.stopping = threading.Event()
        self._engine = engine
        self._metrics = metrics
        self._admission = Admission(engine, listener)
        self._rating = Rating(engine)
        self._free = threading.BoundedSemaphore(max_streams)
        self._free_to_verify = threading.BoundedSemaphore(MAX_COMPARISONS)
        self._lock = threading.Lock()
        self._comparing: set[Context] = set()

    def Report(  # noqa: N802 - the contract's name
        self,
        request_iterator: Iterator[usage_pb2.ReportRequest],
        context: Any,  # noqa: ANN401
    ) -> Iterator[usage_pb2.ReportResponse]:
        """Serve one agent for as long as it stays."""
        with self._answering(context, self._free):
            yield from self._report(request_iterator, context)

    def Verify(  # noqa: N802 - the contract's name
        self,
        request_iterator: Iterator[usage_pb2.VerifyRequest],
        context: Any,  # noqa: ANN401
    ) -> Iterator[usage_pb2.VerifyResponse]:
        """Compare spans with what is stored, one after the other."""
        with self._answering(context, self._free_to_verify), self._comparing_in(context):
            yield from self._verify(request_iterator, context)

    def stop(self) -> None:
        """Let each stream finish the batch in hand; comparisons, which write nothing, just end."""
        self.stopping.set()
        with self._lock:
            for context in self._comparing:
                context.cancel()

    def _report(
        self, requests: Iterator[usage_pb2.ReportRequest], context: Context
    ) -> Iterator[usage_pb2.ReportResponse]:
        shown = shown_by(context)
        self._admission.knock(shown)
        with self._metrics.streams.track_inprogress():
            greeting = read_greeting(next(requests, usage_pb2.ReportRequest()), clock.now_ms())
            with transaction(self._engine) as conn:
                held = self._admission.admit(conn, greeting.name, greeting.clusters, shown)
                agents.greet(conn, greeting, clock.now_s())
            log.info(
                "agent %s %s connected from %s", greeting.name, greeting.version, context.peer()
            )
            yield welcome(clock.now_ms())
            ingest = Ingest(self._engine, self._rating, greeting.name, held)
            stream = Stream(ingest, requests, self._metrics, self._stay(held))
            yield from stream.answers()
            log.info("agent %s is done", greeting.name)

    def _verify(
        self, requests: Iterator[usage_pb2.VerifyRequest], context: Context
    ) -> Iterator[usage_pb2.VerifyResponse]:
        shown = shown_by(context)
        self._admission.knock(shown)
        comparison: Comparison | None = None
        for request in _in_time(requests, context):
            if self.stopping.is_set():
                raise Stopping
            body = request.WhichOneof("body")
            if body == "span":
                comparison = self._comparison(request.span, shown)
            elif comparison is None:
                raise BatchInvalid("The first message of a comparison must be Span.")
            elif body == "jobs":
                told = read_told(request.jobs, MAX_RECORDS, clock.now_s())
                verdicts = comparison.check(told)
                self._metrics.checked(verdicts)
                yield encode_checked(verdicts)
            elif body == "span_end":
                yield encode_compared(comparison.finish())
                comparison = None
            else:
                raise BatchInvalid("In a comparison only records and its end may follow.")

    @contextmanager
    def _comparing_in(self, context: Context) -> Iterator[None]:
        """Know of a comparison while it runs."""
        with self._lock:
            self._comparing.add(context)
        try:
            yield
        finally:
            with self._lock:
                self._comparing.discard(context)

    def _comparison(self, message: usage_pb2.Span, shown: Shown) -> Comparison:
        span = read_span(message)
        with reading(self._engine) as conn:
            held = self._admission.admit(conn, span.agent, (span.cluster,), shown)
            if read_generation(conn) != self._rating.books.generation:
                self._rating.refresh(conn)
        return Comparison(self._engine, self._rating, held, span)

    def _stay(self, held: Pass) -> Callable[[], None]:
        """Return what an open stream asks now and then: whether it may stay."""

        def check() -> None:
            if self.stopping.is_set():
                raise Stopping
            try:
                if self._admission.has_moved(held):
                    with reading(self._engine) as conn:
                        held.confirm(conn)
            except DatabaseFailed as error:
                log.debug("cannot look whether agent %s may stay: %s", held.agent, error)

        return check

    @contextmanager
    def _answering(self, context: Context, free: threading.BoundedSemaphore) -> Iterator[None]:
        """Take one of the places, and turn what goes wrong into the call's end."""
        if not free.acquire(blocking=False):
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                _FULL if free is self._free else _BUSY_COMPARING,
            )
        try:
            yield
        except NotAdmitted as error:
            log.warning("%s was refused: %s", context.peer(), error)
            self._metrics.not_admitted()
            context.abort(_DENIED if error.proved else _UNPROVED, str(error))
        except BatchInvalid as error:
            log.warning("%s: %s", context.peer(), error)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except DatabaseUnavailable as error:
            log.warning("%s", error)
            context.abort(grpc.StatusCode.UNAVAILABLE, _BUSY)
        except DatabaseFailed as error:
            log.error("%s", error)  # noqa: TRY400 - the sentence says it all
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, _BUSY)
        except Stopping:
            context.abort(
                grpc.StatusCode.UNAVAILABLE, "The collector is stopping; connect again later."
            )
        finally:
            free.release()


class Server:
    """The listening server; ``start`` it, then ``stop`` it."""

    def __init__(
        self, ledger: Ledger, section: ServerSection, address: Address, tls: TlsSection
    ) -> None:
        """Bind the port; raises CannotListen, and ConfigInvalid for wrong certificates."""
        self._ledger = ledger
        self._health = health.HealthServicer()
        self._server = grpc.server(
            ThreadPoolExecutor(section.max_streams + SPARE_THREADS, "grpc"),
            maximum_concurrent_rpcs=section.max_streams + SPARE_THREADS,
            options=_options(),
        )
        usage_pb2_grpc.add_LedgerServiceServicer_to_server(ledger, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.address = self._bind(address, tls)

    def start(self) -> None:
        """Begin to serve."""
        self._server.start()
        self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Let each stream finish and acknowledge the batch in hand, then close."""
        self._health.enter_graceful_shutdown()
        self._ledger.stop()
        self._server.stop(GRACE_S).wait()

    def _bind(self, address: Address, tls: TlsSection) -> Address:
        _probe(address)
        try:
            if tls.certificate_file:
                credentials = Certificates(tls).credentials()
                port = self._server.add_secure_port(str(address), credentials)
            else:
                port = self._server.add_insecure_port(str(address))
        except RuntimeError as error:
            raise CannotListen(_cannot_listen(address)) from error
        if not port:
            raise CannotListen(_cannot_listen(address))
        return Address(address.host, port)


def _in_time(
    requests: Iterator[usage_pb2.VerifyRequest], context: Context
) -> Iterator[usage_pb2.VerifyRequest]:
    """Yield requests; a call on which none comes for too long is cancelled."""
    while True:
        patience = threading.Timer(QUIET_S, context.cancel)
        patience.daemon = True
        patience.start()
        try:
            request = next(requests, None)
        finally:
            patience.cancel()
        if request is None:
            return
        yield request


def _probe(address: Address) -> None:
    """Ask the system for the port first: gRPC would write its own lines on stderr."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        socket.create_server((address.host, address.port), family=family).close()
    except OSError as error:
        raise CannotListen(_cannot_listen(address)) from error


def _cannot_listen(address: Address) -> str:
    return (
        f"Cannot listen on {address}: another program uses the port, or this machine has no such"
        " address; change [server] listen or --listen."
    )


def _options() -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),  # two collectors on one port: the second must be told
    ]
