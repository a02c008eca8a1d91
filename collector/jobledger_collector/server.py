"""The gRPC server: who may report, and how each stream ends.

Plaintext is served on loopback only; the configuration refuses anything else.
"""

import hmac
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from jobledger_collector import clock
from jobledger_collector.config import Address, ServerSection, TlsSection
from jobledger_collector.core.errors import (
    BatchInvalid,
    CannotListen,
    DatabaseFailed,
    DatabaseUnavailable,
)
from jobledger_collector.ingest import Ingest
from jobledger_collector.metrics import Metrics
from jobledger_collector.rating import Rating
from jobledger_collector.store import agents
from jobledger_collector.store.engine import transaction
from jobledger_collector.store.handles import Engine
from jobledger_collector.stream import Stopping, Stream
from jobledger_collector.tls import Certificates
from jobledger_collector.wire import read_greeting, welcome
from jobledger_proto.v1 import usage_pb2, usage_pb2_grpc

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
SPARE_THREADS: Final = 4
"""For health checks while every stream is taken."""
KEEPALIVE_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
MIN_PING_INTERVAL_MS: Final = 5_000
GRACE_S: Final = 30
"""How long a stream may take for the batch in hand when the server stops."""
SERVICE: Final = "jobledger.v1.LedgerService"
_BUSY: Final = "The collector's database is not available; its log says why. Send it again later."

log = logging.getLogger(__name__)


class Context(Protocol):
    """What is used of grpc.ServicerContext, whose own types are too loose."""

    def invocation_metadata(self) -> Any:  # noqa: ANN401 - gRPC's own
        """Return the call's metadata as (key, value) pairs."""

    def peer(self) -> str:
        """Return the address of the other side."""

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the call with an error."""


class Ledger(usage_pb2_grpc.LedgerServiceServicer):
    """Receives what agents report."""

    def __init__(self, engine: Engine, metrics: Metrics, token: str, max_streams: int = 32) -> None:
        """Read the books; raises DatabaseFailed. ``token`` "" asks agents for none."""
        self.stopping = threading.Event()
        self._engine = engine
        self._metrics = metrics
        self._token = token.encode()
        self._rating = Rating(engine)
        self._free = threading.BoundedSemaphore(max_streams)

    def Report(  # noqa: N802 - the contract's name
        self,
        request_iterator: Iterator[usage_pb2.ReportRequest],
        context: Any,  # noqa: ANN401
    ) -> Iterator[usage_pb2.ReportResponse]:
        """Serve one agent for as long as it stays."""
        self._admit(context)
        if not self._free.acquire(blocking=False):
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "This collector serves as many agents as it may: raise [server] max_streams.",
            )
        try:
            with self._metrics.streams.track_inprogress():
                yield from self._serve(request_iterator, context)
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
            self._free.release()

    def _serve(
        self, requests: Iterator[usage_pb2.ReportRequest], context: Context
    ) -> Iterator[usage_pb2.ReportResponse]:
        greeting = read_greeting(next(requests, usage_pb2.ReportRequest()), clock.now_ms())
        with transaction(self._engine) as conn:
            agents.greet(conn, greeting, clock.now_s())
        log.info("agent %s %s connected from %s", greeting.name, greeting.version, context.peer())
        yield welcome()
        ingest = Ingest(self._engine, self._rating, greeting.name)
        yield from Stream(ingest, requests, self._metrics, self.stopping).answers()
        log.info("agent %s is done", greeting.name)

    def _admit(self, context: Context) -> None:
        """Refuse who does not know the token; compared in constant time."""
        if not self._token:
            return
        told = dict(context.invocation_metadata()).get("authorization", "")
        given = told.encode() if isinstance(told, str) else told
        if not hmac.compare_digest(given, b"Bearer " + self._token):
            log.warning("%s was refused: no valid token", context.peer())
            context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "This collector asks agents for a token: set token_file in the agent's settings.",
            )


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
        self._ledger.stopping.set()
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
