"""Sender: which block is sent when, and when it may be forgotten. Pure.

The machine is told what happened (an event, with the time) and answers what to
do (effects). It opens no socket, reads no clock and no file, so a simulation
can run it through any sequence of faults.

Batch numbers live and die with a stream. A block leaves the spool only when an
Ack has named a verdict for each of its records; whatever else happens, the
stream is closed and everything still in the spool is sent again on the next
one. The collector's unique key makes the repetition harmless.

A block that the collector refuses as no batch at all would be sent again for
ever, and everything behind it would wait. After such a refusal the blocks that
were in flight are suspects: the next stream sends them one at a time, and the
one that is refused alone is held for a person while the others flow.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

WINDOW_BATCHES_MAX: Final = 8
"""Batches in flight, whatever a collector allows: it bounds the agent's memory."""
SILENCE_MS_MAX: Final = 30_000
"""With something in flight, or a Hello unanswered, a collector silent for longer is gone."""
BACKOFF_FIRST_MS: Final = 1_000
BACKOFF_MAX_MS: Final = 60_000
SETTLED_MS: Final = BACKOFF_MAX_MS
"""A stream that lasted this long was no failure, even if there was nothing to acknowledge."""
ACK_MS_MAX: Final = WINDOW_BATCHES_MAX * SILENCE_MS_MAX
"""A batch that waits longer for its own acknowledgement was passed over."""
STREAM_MS_MAX: Final = 3_600_000
"""A stream is ended in order after this or a tenth more: who is who is then proved again."""
VERDICT_UNNAMED: Final = 0
"""``VERDICT_UNSPECIFIED``: the collector did not say what became of the record."""


class SpoolRef(NamedTuple):
    """A block in the spool: its id and how many records it holds."""

    block_id: int
    records: int


class Limits(NamedTuple):
    """The largest block that this agent makes; a collector must take it whole."""

    batch_records: int
    batch_bytes: int


class Tick(NamedTuple):
    """Time has passed."""


class Grew(NamedTuple):
    """The spool has new blocks."""


class Welcomed(NamedTuple):
    """The collector answered Hello with its limits (batches, records, bytes)."""

    window_batches: int
    max_batch_records: int
    max_batch_bytes: int


class Found(NamedTuple):
    """Answer to Fetch: the blocks, oldest first; fewer than asked when there are no more."""

    blocks: tuple[SpoolRef, ...]


class Acked(NamedTuple):
    """The collector named a verdict for each record of a batch."""

    number: int
    verdicts: Sequence[int]


class Broke(NamedTuple):
    """The stream is gone; why. A refusal: what the collector was sent is no proper batch."""

    reason: str
    is_refusal: bool = False


class Renew(NamedTuple):
    """The stream shall be replaced once nothing is in flight; why, in one sentence."""

    reason: str


Event = Tick | Grew | Welcomed | Found | Acked | Broke | Renew


class Open(NamedTuple):
    """Open a stream and say Hello."""


class Fetch(NamedTuple):
    """Read up to ``limit`` blocks that follow ``after_id`` from the spool."""

    after_id: int
    limit: int


class Send(NamedTuple):
    """Send one block under this batch number."""

    number: int
    block_id: int


class Forget(NamedTuple):
    """Delete this block from the spool: each of its records has a verdict."""

    block_id: int


class Hold(NamedTuple):
    """Keep this block in the spool but offer it no more: it was refused alone; why."""

    block_id: int
    reason: str


class Finish(NamedTuple):
    """End the stream in order, nothing is in flight; another is opened at once. Why."""

    reason: str


class Close(NamedTuple):
    """Drop the stream; why, in one sentence, and when another is tried."""

    reason: str
    retry_in_ms: int


Effect = Open | Fetch | Send | Forget | Hold | Finish | Close


class Phase(enum.Enum):
    """Where the machine stands."""

    WAITING = "waiting"
    GREETING = "greeting"
    STREAMING = "streaming"


class _InFlight(NamedTuple):
    block_id: int
    records: int
    sent_at_ms: int


class Sender:
    """The state machine of one agent's delivery."""

    def __init__(
        self, limits: Limits, jitter_ms: Callable[[int], int], window_max: int = WINDOW_BATCHES_MAX
    ) -> None:
        """``jitter_ms(n)`` draws a whole number of milliseconds from 0 to n."""
        self._limits = limits
        self._jitter_ms = jitter_ms
        self._window_max = window_max
        self._failures = 0
        self._phase = Phase.WAITING
        self._retry_at_ms = 0
        self._opened_at_ms = 0
        self._suspect_through = 0
        self._start_afresh()

    @property
    def phase(self) -> Phase:
        """Where the machine stands."""
        return self._phase

    @property
    def in_flight(self) -> int:
        """Batches sent on this stream and not acknowledged."""
        return len(self._in_flight)

    @property
    def is_isolating(self) -> bool:
        """Whether blocks are sent one at a time, to find the one that was refused."""
        return self._suspect_through > 0

    def next_due_ms(self, now_ms: int) -> int:
        """How long the caller may sleep before the next Tick is due, in milliseconds."""
        if self._phase is Phase.WAITING:
            due_ms = self._retry_at_ms
        elif self._phase is Phase.GREETING or self._in_flight:
            due_ms = self._patience_ends_ms()
        else:
            due_ms = min(now_ms + SILENCE_MS_MAX, self._renew_at_ms)
        return max(0, due_ms - now_ms)

    def step(self, now_ms: int, event: Event) -> tuple[Effect, ...]:
        """Take one event at monotonic time ``now_ms``; returns what must be done, in order."""
        match event:
            case Tick():
                return self._tick(now_ms)
            case Grew():
                self._drained = False
                return self._ask()
            case Welcomed():
                return self._welcomed(now_ms, event)
            case Found(blocks):
                return self._found(now_ms, blocks)
            case Acked(number, verdicts):
                return self._acked(now_ms, number, verdicts)
            case Broke(reason, is_refusal):
                return self._broke(now_ms, reason, is_refusal=is_refusal)
            case Renew(reason):
                self._renewal = reason
                return self._finish_if_done()

    def _start_afresh(self) -> None:
        self._in_flight: dict[int, _InFlight] = {}
        self._next_number = 1
        self._last_id = 0
        self._window = 0
        self._asked = 0
        self._drained = False
        self._heard_at_ms = 0
        self._renewal = ""
        self._renew_at_ms = 0

    def _patience_ends_ms(self) -> int:
        oldest = next(iter(self._in_flight.values()), None)
        silent_ms = self._heard_at_ms + SILENCE_MS_MAX
        return min(silent_ms, oldest.sent_at_ms + ACK_MS_MAX) if oldest else silent_ms

    def _tick(self, now_ms: int) -> tuple[Effect, ...]:
        if self._phase is Phase.WAITING:
            if now_ms < self._retry_at_ms:
                return ()
            self._start_afresh()
            self._phase = Phase.GREETING
            self._opened_at_ms = self._heard_at_ms = now_ms
            self._renew_at_ms = now_ms + STREAM_MS_MAX + self._jitter_ms(STREAM_MS_MAX // 10)
            return (Open(),)
        waits = self._phase is Phase.GREETING or self._in_flight
        if waits and now_ms >= self._patience_ends_ms():
            is_silent = now_ms >= self._heard_at_ms + SILENCE_MS_MAX
            waited_s = (SILENCE_MS_MAX if is_silent else ACK_MS_MAX) // 1000
            return self._close(now_ms, f"the collector did not answer for {waited_s} s")
        if now_ms >= self._renew_at_ms and not self._renewal:
            self._renewal = "the stream is old enough"
        return self._finish_if_done() or self._ask()

    def _welcomed(self, now_ms: int, welcome: Welcomed) -> tuple[Effect, ...]:
        if self._phase is not Phase.GREETING:
            return self._close(now_ms, "the collector said Welcome twice")
        if welcome.window_batches < 1:
            return self._close(now_ms, "the collector allows no batch in flight")
        if (
            welcome.max_batch_records < self._limits.batch_records
            or welcome.max_batch_bytes < self._limits.batch_bytes
        ):
            reason = (
                f"the collector takes batches of {welcome.max_batch_records} records and "
                f"{welcome.max_batch_bytes} bytes, this agent's hold up to "
                f"{self._limits.batch_records} and {self._limits.batch_bytes}: "
                "raise the collector's limits"
            )
            return self._close(now_ms, reason)
        self._phase = Phase.STREAMING
        self._heard_at_ms = now_ms
        self._window = min(self._window_max, welcome.window_batches)
        return self._ask()

    def _ask(self) -> tuple[Effect, ...]:
        window = 1 if self.is_isolating else self._window
        room = window - len(self._in_flight)
        is_settled = self._drained or self._asked or self._renewal
        if self._phase is not Phase.STREAMING or is_settled or room < 1:
            return ()
        self._asked = room
        return (Fetch(self._last_id, room),)

    def _found(self, now_ms: int, blocks: tuple[SpoolRef, ...]) -> tuple[Effect, ...]:
        if not self._asked:
            return ()
        self._drained = len(blocks) < self._asked
        self._asked = 0
        if not blocks or blocks[-1].block_id > self._suspect_through:
            self._suspect_through = 0  # every suspect was named, or is held
        if blocks and not self._in_flight:
            self._heard_at_ms = now_ms  # the silence counts from what is now to be answered
        sent = tuple(self._send(now_ms, block) for block in blocks)
        return (*sent, *self._ask())

    def _send(self, now_ms: int, block: SpoolRef) -> Send:
        number = self._next_number
        self._next_number += 1
        self._last_id = block.block_id
        self._in_flight[number] = _InFlight(block.block_id, block.records, now_ms)
        return Send(number, block.block_id)

    def _finish_if_done(self) -> tuple[Effect, ...]:
        is_busy = self._in_flight or self._asked
        if self._phase is not Phase.STREAMING or is_busy or not self._renewal:
            return ()
        finish = Finish(self._renewal)
        self._phase, self._retry_at_ms = Phase.WAITING, 0
        self._start_afresh()
        return (finish,)

    def _acked(self, now_ms: int, number: int, verdicts: Sequence[int]) -> tuple[Effect, ...]:
        if self._phase is not Phase.STREAMING or number not in self._in_flight:
            return self._close(now_ms, f"the collector acknowledged batch {number}, never sent")
        sent = self._in_flight[number]
        if len(verdicts) != sent.records:
            reason = (
                f"the collector named {len(verdicts)} verdicts for the {sent.records} records "
                f"of batch {number}"
            )
            return self._close(now_ms, reason)
        if VERDICT_UNNAMED in verdicts:
            return self._close(now_ms, f"the collector left a record of batch {number} unnamed")
        del self._in_flight[number]
        self._heard_at_ms = now_ms
        self._failures = 0
        return (Forget(sent.block_id), *(self._finish_if_done() or self._ask()))

    def _broke(self, now_ms: int, reason: str, *, is_refusal: bool) -> tuple[Effect, ...]:
        sent = [block.block_id for block in self._in_flight.values()]
        if not is_refusal or self._phase is not Phase.STREAMING or not sent:
            return self._close(now_ms, reason)
        if self.is_isolating and len(sent) == 1:
            return (Hold(sent[0], reason), *self._close(now_ms, reason))
        self._suspect_through = max(self._suspect_through, *sent)
        return self._close(now_ms, reason)

    def _close(self, now_ms: int, reason: str) -> tuple[Effect, ...]:
        if self._phase is Phase.WAITING:
            return ()
        if self._phase is Phase.STREAMING and now_ms - self._opened_at_ms >= SETTLED_MS:
            self._failures = 0
        # Full jitter: a hundred agents must not come back in the same second.
        ceiling_ms = min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS << min(self._failures, 16))
        retry_in_ms = self._jitter_ms(ceiling_ms)
        self._failures += 1
        self._phase = Phase.WAITING
        self._start_afresh()
        self._retry_at_ms = now_ms + retry_in_ms
        return (Close(reason, retry_in_ms),)
