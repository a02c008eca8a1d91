"""One call of Report on a channel of its own: channel options, reader, sentences."""

import queue
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

import grpc

from jobledger_agent import clock
from jobledger_agent.delivery.tls import bearer_token, credentials
from jobledger_agent.errors import AgentError
from jobledger_agent.protocol import wire
from jobledger_agent.protocol.stream import Broke, Event, Welcomed
from jobledger_agent.settings.sections import CollectorSection

MESSAGE_BYTES_MAX: Final = 4 << 20
KEEPALIVE_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
GOODBYE_S: Final = 2.0
"""How long the collector may take to end a stream that the agent has half-closed."""
DETAILS_CHARS_MAX: Final = 300
CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Each attempt is its own, or an earlier failure's back-off would delay it.
    ("grpc.use_local_subchannel_pool", 1),
    # Records of who computed what do not pass through a proxy that a shell profile names.
    ("grpc.enable_http_proxy", 0),
)


class LinkError(AgentError):
    """The collector did not take the agent's call; says why."""


class Call:
    """An open stream. Events come from its reader's thread, the last one is Broke."""

    def __init__(self, collector: CollectorSection, hear: Callable[["Call", Event], None]) -> None:
        """Start the call; nothing has been sent yet. Raises ConfigError."""
        self.collector_version = ""
        self.collector_clock_ms = 0
        self._welcome_at_ms = 0
        self._address = collector.address
        self._hear = hear
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        metadata = call_metadata(collector)
        self._channel = open_channel(collector)
        report = self._channel.stream_stream(wire.METHOD, _as_it_is, _as_it_is)
        self._rpc = report(iter(self._outbox.get, None), metadata=metadata)
        self._reader = threading.Thread(target=self._read, name="link-reader", daemon=True)
        self._reader.start()

    def clock_skew_ms(self, hello_at_ms: int) -> int | None:
        """Return how far this machine's clock is surely ahead of the collector's.

        The collector read its clock at some time between Hello (``hello_at_ms``) and
        Welcome: half of that is the doubt, in whose favour it is left out. None
        where the collector does not tell its clock.
        """
        if not self.collector_clock_ms:
            return None
        doubt_ms = abs(self._welcome_at_ms - hello_at_ms) // 2
        skew_ms = (self._welcome_at_ms + hello_at_ms) // 2 - self.collector_clock_ms
        if abs(skew_ms) <= doubt_ms:
            return 0
        return skew_ms - doubt_ms if skew_ms > 0 else skew_ms + doubt_ms

    def send(self, message: bytes) -> None:
        """Queue a message; the Sender's window bounds how many there can be."""
        self._outbox.put(message)

    def end(self) -> None:
        """Say that no more comes and let the collector end the stream, but not for ever."""
        self._outbox.put(None)
        self._reader.join(GOODBYE_S)
        self.drop()

    def drop(self) -> None:
        """Cut the stream off."""
        self._outbox.put(None)
        self._channel.close()

    def _read(self) -> None:
        reason = f"the collector at {self._address} ended the stream"
        is_refusal = False
        try:
            for message in self._rpc:
                answer = wire.answer(message)
                self.collector_version = answer.version or self.collector_version
                if answer.clock_ms:
                    self.collector_clock_ms = answer.clock_ms
                    self._welcome_at_ms = clock.now_ms()
                self._hear(self, answer.event)
        except wire.BadAnswer as error:
            reason = str(error)
        except grpc.RpcError:
            reason = explain(self._rpc.code(), self._rpc.details(), self._address)
            is_refusal = self._rpc.code() is grpc.StatusCode.INVALID_ARGUMENT
        self._hear(self, Broke(reason, is_refusal))


class Greeting(NamedTuple):
    """What a collector says of itself; its clock in ms since the epoch, 0 where it tells none."""

    version: str
    clock_ms: int


def greet(collector: CollectorSection, hello: bytes, timeout_s: int) -> Greeting:
    """Say Hello once and hang up; returns what the collector says of itself.

    Raises LinkError or ConfigError with what is wrong.
    """
    heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
    call = Call(collector, lambda _, event: heard.put(event))
    try:
        call.send(hello)
        event = heard.get(timeout=timeout_s)
    except queue.Empty as error:
        raise LinkError(
            f"the collector at {collector.address} did not answer for {timeout_s} s"
        ) from error
    finally:
        call.end()
    if isinstance(event, Welcomed):
        return Greeting(call.collector_version, call.collector_clock_ms)
    reason = event.reason if isinstance(event, Broke) else "the collector did not say Welcome"
    raise LinkError(reason)


_ADVICE: Final = {
    # A collector that asks for a certificate closes the socket on who shows none.
    grpc.StatusCode.UNAVAILABLE: (
        "the collector at {0} cannot be reached ({1}): check that it runs, collector.address, "
        "IPAddressAllow of the unit, and ca_file and cert_file where it asks for certificates"
    ),
    grpc.StatusCode.UNAUTHENTICATED: (
        "the collector at {0} does not accept this agent's token or certificate ({1}): "
        "check collector.token_file and cert_file"
    ),
    grpc.StatusCode.PERMISSION_DENIED: (
        "the collector at {0} refuses this agent ({1}): ask its operators to allow agent.name"
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: "the collector at {0} takes no more streams now ({1})",
    grpc.StatusCode.UNIMPLEMENTED: (
        "what listens at {0} is no jobledger collector ({1}): check collector.address"
    ),
}


def explain(code: grpc.StatusCode, details: str | None, address: str) -> str:
    """Say in a sentence why the collector at ``address`` ended a call."""
    told = " ".join((details or "").split())[:DETAILS_CHARS_MAX]
    sentence = _ADVICE.get(code, "the collector at {0} broke the stream ({1})")
    return sentence.format(address, f"{code.name}: {told}" if told else code.name)


def _as_it_is(message: bytes) -> bytes:
    return message


def call_metadata(collector: CollectorSection) -> tuple[tuple[str, str], ...]:
    """Return what proves to the collector who calls. Raises ConfigError."""
    token = bearer_token(collector)
    return (("authorization", f"Bearer {token}"),) if token else ()


def open_channel(collector: CollectorSection) -> grpc.Channel:
    """Open a channel of its own, with the certificates as they are now. Raises ConfigError."""
    trust = credentials(collector)
    if trust is None:
        return grpc.insecure_channel(collector.address, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(collector.address, trust, options=CHANNEL_OPTIONS)
