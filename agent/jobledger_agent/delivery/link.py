"""The link: one gRPC stream at a time, driven by the Sender.

Three threads a stream: gRPC's own, which takes requests from the outbox; a
reader, which turns answers into events; and the driver (``Link.run``), the only
one that touches the Sender.
"""

import logging
import queue
import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from jobledger_agent import clock
from jobledger_agent.delivery.call import Call
from jobledger_agent.delivery.rotation import Rotation
from jobledger_agent.health import Health
from jobledger_agent.protocol import wire
from jobledger_agent.protocol.stream import (
    Acked,
    Broke,
    Close,
    Effect,
    Event,
    Fetch,
    Finish,
    Forget,
    Found,
    Grew,
    Hold,
    Open,
    Phase,
    Renew,
    Send,
    Sender,
    SpoolRef,
    Tick,
    Welcomed,
)  # fmt: skip
from jobledger_agent.records.job import UNKNOWN
from jobledger_agent.settings.config import ConfigError
from jobledger_agent.settings.sections import CollectorSection
from jobledger_agent.spooling.spool import Spool, SpoolFull, SpoolUnwell, StoredBlock

STATUS_EVERY_MS: Final = 10_000
EVENTS_AT_ONCE_MAX: Final = 64

log = logging.getLogger(__name__)


class Identity(NamedTuple):
    """Who the agent says it is.

    ``is_beside``: a command with a spool of its own, whose condition is not the agent's.
    """

    agent: str
    version: str
    clusters: tuple[str, ...]
    is_beside: bool = False


class Link:
    """Delivers what is in the spool until it is stopped."""

    def __init__(
        self,
        collector: CollectorSection,
        identity: Identity,
        spool: Spool,
        health: Health,
        complete_through: Callable[[], int],
        jitter_ms: Callable[[int], int] = lambda most: secrets.randbelow(most + 1),
        open_call: Callable[[CollectorSection, Callable[[Call, Event], None]], Call] = Call,
    ) -> None:
        """``complete_through`` gives what the Status message says of it (epoch s).

        ``jitter_ms(n)`` draws a whole number of milliseconds from 0 to n; ``open_call``
        starts a stream whose events are told to the function that it is given.
        """
        self._collector = collector
        self._identity = identity
        self._spool = spool
        self._health = health
        self._complete_through = complete_through
        self._open_call = open_call
        self._rotation = Rotation(collector)
        self._sender = Sender(wire.BLOCK_LIMITS, jitter_ms)
        self._events: queue.SimpleQueue[tuple[Call | None, Event]] = queue.SimpleQueue()
        self._stream: Call | None = None
        self._fetched: dict[int, bytes] = {}
        self._status_due_ms = 0
        self._quarantined = 0
        self._hello_at_ms = 0
        self._stop_by_ms: int | None = None
        self.alive_at_ms = clock.monotonic_ms()

    def wake(self) -> None:
        """The spool has new blocks."""
        self._events.put((None, Grew()))

    def stop(self, grace_s: int) -> None:
        """Take no more from the spool; end once all in flight is acknowledged, or after this."""
        self._stop_by_ms = clock.monotonic_ms() + grace_s * 1000
        self.wake()

    def run(self) -> None:
        """Drive the Sender until ``stop``. Raises SpoolError, ConfigError."""
        try:
            while not self._is_over():
                self.turn(self.due_in_ms())
            self._status_due_ms = 0  # the last word the collector keeps must not be an old one
            self._say_status()
        finally:
            self._tell_of_quarantine()
            if self._stream:
                self._stream.end()

    def turn(self, wait_ms: int) -> None:
        """Wait so long at most for something to happen, and act on all that did."""
        self.alive_at_ms = clock.monotonic_ms()
        self._take([*self._next_events(wait_ms), Tick()])
        self._say_status()

    def due_in_ms(self) -> int:
        """How long nothing has to be done unless something happens, in milliseconds."""
        now_ms = clock.monotonic_ms()
        wait_ms = self._sender.next_due_ms(now_ms)
        if self._sender.phase is Phase.STREAMING:
            wait_ms = min(wait_ms, max(0, self._status_due_ms - now_ms))
        if self._stop_by_ms is not None:
            wait_ms = min(wait_ms, max(0, self._stop_by_ms - now_ms))
        return wait_ms

    def _hear(self, call: Call, event: Event) -> None:
        self._events.put((call, event))

    def _is_over(self) -> bool:
        if self._stop_by_ms is None:
            return False
        is_idle = self._sender.phase is not Phase.STREAMING or not self._sender.in_flight
        return is_idle or clock.monotonic_ms() >= self._stop_by_ms

    def _next_events(self, wait_ms: int) -> list[Event]:
        """Wait for an event, then take what else is there; an old stream's are dropped."""
        events: list[Event] = []
        try:
            stream, event = self._events.get(timeout=wait_ms / 1000)
            while True:
                if stream is None or stream is self._stream:
                    events.append(event)
                if len(events) == EVENTS_AT_ONCE_MAX:
                    break
                stream, event = self._events.get_nowait()
        except queue.Empty:
            pass
        return events

    def _take(self, events: Sequence[Event]) -> None:
        """Step the Sender through events; what was acknowledged is deleted in one go."""
        waiting = deque(events)
        forget: list[int] = []
        named: Counter[int] = Counter()
        while waiting:
            event = waiting.popleft()
            effects = self._sender.step(clock.monotonic_ms(), event)
            self._note(event, effects)
            for effect in effects:
                match effect:
                    case Forget(block_id):
                        forget.append(block_id)
                        self._fetched.pop(block_id, None)
                        named.update(event.verdicts if isinstance(event, Acked) else ())
                    case Fetch():
                        waiting.appendleft(self._fetch(effect))
                    case _:
                        self._do(effect)
        if forget:
            self._forget(forget, named)

    def _forget(self, block_ids: Sequence[int], named: Mapping[int, int]) -> None:
        try:
            self._spool.forget(block_ids)
        except (SpoolFull, SpoolUnwell) as refused:
            # On a full disk nothing can be deleted either: they are sent again later, and known.
            self._take([Broke(str(refused))])
            return
        verdicts = {wire.verdict_name(verdict): count for verdict, count in named.items()}
        self._health.count_verdicts(verdicts)
        self._quarantined += verdicts.get(wire.QUARANTINED, 0)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Open():
                self._open()
            case Send(number, block_id) if self._stream:
                self._stream.send(wire.request(number, self._fetched[block_id]))
            case Hold(block_id, reason):
                self._hold(block_id, reason)
            case Finish(reason):
                self._finish(reason)
            case Close(reason, retry_in_ms):
                self._close(reason, retry_in_ms)
            case _:
                pass

    def _fetch(self, wanted: Fetch) -> Found | Broke:
        blocks: list[StoredBlock] = []
        try:
            if self._stop_by_ms is None:
                blocks = self._spool.head(wanted.after_id, wanted.limit)
        except SpoolUnwell as unwell:
            return Broke(str(unwell))
        self._fetched.update((block.block_id, block.payload) for block in blocks)
        return Found(tuple(SpoolRef(block.block_id, block.records) for block in blocks))

    def _open(self) -> None:
        self._rotation.use()
        try:
            self._stream = self._open_call(self._collector, self._hear)
        except ConfigError as error:
            # A certificate that is being replaced may be half there: try again later.
            self._take([Broke(str(error))])
            return
        who = self._identity
        self._hello_at_ms = clock.now_ms()
        self._stream.send(wire.hello(who.agent, who.version, who.clusters, self._hello_at_ms))

    def _hold(self, block_id: int, reason: str) -> None:
        try:
            self._spool.hold(block_id, reason)
        except (SpoolFull, SpoolUnwell) as refused:
            log.warning("%s; block %d is sent and refused again", refused, block_id)
            return
        log.error(
            "%s; block %d is held in the spool and the others go on: once a newer agent or "
            "collector is installed, `jobledger-agent replay --held` sends it again",
            reason,
            block_id,
        )

    def _finish(self, reason: str) -> None:
        if self._stream:
            self._stream.end()
        self._stream = None
        self._fetched.clear()
        log.info("%s: the stream to the collector is replaced", reason)

    def _close(self, reason: str, retry_in_ms: int) -> None:
        if self._stream:
            self._stream.drop()
        self._stream = None
        self._fetched.clear()
        if self._health.link_is_down(reason):
            log.warning("%s; trying again in %d ms", reason, retry_in_ms)

    def _note(self, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Welcomed) and not any(isinstance(each, Close) for each in effects):
            call = self._stream
            version = call.collector_version if call else ""
            skew_ms = call.clock_skew_ms(self._hello_at_ms) if call else None
            self._health.link_is_up(version, skew_ms)
            self._status_due_ms = 0
            log.info("connected to the collector at %s", self._collector.address)

    def _say_status(self) -> None:
        """Tell the collector now and then how the agent is; also look after its own identity."""
        now_ms = clock.monotonic_ms()
        if self._sender.phase is not Phase.STREAMING or now_ms < self._status_due_ms:
            return
        self._status_due_ms = now_ms + STATUS_EVERY_MS
        # While a refused block is looked for, nothing but blocks may be what was refused.
        tells = not self._sender.is_isolating and not self._identity.is_beside
        if self._stream and tells:
            with suppress(SpoolUnwell):  # the next Fetch says so
                self._stream.send(wire.status(self._condition(), clock.now_ms()))
        self._tell_of_quarantine()
        if reason := self._rotation.reason():
            self._take([Renew(reason)])

    def _condition(self) -> wire.Condition:
        report, stats = self._health.report(), self._spool.stats()
        queues = [fact.dbd_queue for facts in report.facts.values() for fact in facts.values()]
        return wire.Condition(
            stats.records,
            self._complete_through(),
            report.source_error,
            stats.held_records,
            max(queues, default=UNKNOWN),
        )

    def _tell_of_quarantine(self) -> None:
        """Say now and then, not for each batch, that records were put aside."""
        if self._quarantined:
            log.warning(
                "the collector put %d records into quarantine; `jobledger quarantine` says why",
                self._quarantined,
            )
        self._quarantined = 0
