"""The Sender, by table and by simulation: no fault makes it forget what was not named."""

import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from jobledger_agent.protocol.stream import (
    ACK_MS_MAX,
    BACKOFF_FIRST_MS,
    BACKOFF_MAX_MS,
    SETTLED_MS,
    SILENCE_MS_MAX,
    STREAM_MS_MAX,
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
    Limits,
    Open,
    Phase,
    Renew,
    Send,
    Sender,
    SpoolRef,
    Tick,
    Welcomed,
)  # fmt: skip

LIMITS = Limits(500, 1 << 20)
WELCOME = Welcomed(8, 2000, 1 << 20)
NEW = 1


def a_sender() -> Sender:
    return Sender(LIMITS, jitter_ms=lambda most: most)


def streaming(blocks: int = 0) -> Sender:
    """Return a sender that has been welcomed and has sent ``blocks`` blocks of two records."""
    sender = a_sender()
    assert sender.step(0, Tick()) == (Open(),)
    assert sender.step(0, WELCOME) == (Fetch(0, 8),)
    sender.step(0, Found(tuple(SpoolRef(each, 2) for each in range(1, blocks + 1))))
    return sender


def test_it_says_hello_waits_and_then_fills_the_window() -> None:
    sender = a_sender()
    assert sender.step(0, Grew()) == ()
    assert sender.step(0, Tick()) == (Open(),)
    assert sender.step(5, Grew()) == ()
    assert sender.step(9, WELCOME) == (Fetch(0, 8),)
    found = Found(tuple(SpoolRef(block_id, 2) for block_id in range(10, 18)))
    assert sender.step(9, found) == tuple(Send(n, 9 + n) for n in range(1, 9))
    assert sender.step(9, Grew()) == ()  # the window is full


def test_each_ack_forgets_its_block_and_asks_for_the_next() -> None:
    sender = streaming(8)
    assert sender.step(1, Acked(2, (NEW, NEW))) == (Forget(2), Fetch(8, 1))
    assert sender.step(1, Found((SpoolRef(9, 1),))) == (Send(9, 9),)


def test_an_empty_spool_is_not_asked_until_it_grows() -> None:
    sender = streaming(0)
    assert sender.step(1, Tick()) == ()
    assert sender.step(2, Grew()) == (Fetch(0, 8),)


@pytest.mark.parametrize(
    ("windows", "expected"), [((3, 8), 3), ((100, 8), 8), ((8, 2), 2), ((1, 1), 1)]
)
def test_the_window_is_the_smaller_of_both(windows: tuple[int, int], expected: int) -> None:
    theirs, ours = windows
    sender = Sender(LIMITS, lambda most: most, window_max=ours)
    sender.step(0, Tick())
    assert sender.step(0, Welcomed(theirs, 2000, 1 << 20)) == (Fetch(0, expected),)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Acked(1, (NEW,)), "named 1 verdicts for the 2 records"),
        (Acked(1, (NEW, NEW, NEW)), "named 3 verdicts for the 2 records"),
        (Acked(1, (NEW, 0)), "unnamed"),
        (Acked(3, (NEW, NEW)), "never sent"),
        (Acked(0, ()), "never sent"),
        (WELCOME, "Welcome twice"),
        (Broke("the wire was cut"), "the wire was cut"),
    ],
)
def test_what_must_not_be_closes_the_stream_and_forgets_nothing(event: Event, reason: str) -> None:
    sender = streaming(2)
    (effect,) = sender.step(1, event)
    assert isinstance(effect, Close)
    assert reason in effect.reason
    assert sender.phase is Phase.WAITING
    assert sender.in_flight == 0


@pytest.mark.parametrize(
    "welcome",
    [Welcomed(0, 2000, 1 << 20), Welcomed(8, 499, 1 << 20), Welcomed(8, 2000, (1 << 20) - 1)],
)
def test_limits_below_one_block_are_refused_in_words(welcome: Welcomed) -> None:
    sender = a_sender()
    sender.step(0, Tick())
    (effect,) = sender.step(0, welcome)
    assert isinstance(effect, Close)


def test_an_ack_acknowledged_twice_is_refused() -> None:
    sender = streaming(2)
    sender.step(1, Acked(1, (NEW, NEW)))
    assert isinstance(sender.step(1, Acked(1, (NEW, NEW)))[0], Close)


def test_numbers_and_memory_die_with_the_stream() -> None:
    sender = streaming(3)
    sender.step(1, Broke("cut"))
    assert sender.step(1 + BACKOFF_FIRST_MS, Tick()) == (Open(),)
    assert sender.step(2000, Acked(2, (NEW, NEW)))[0].__class__ is Close  # of the old stream
    sender.step(10_000, Tick())
    assert sender.step(10_001, WELCOME) == (Fetch(0, 8),)
    assert sender.step(10_001, Found((SpoolRef(1, 2),))) == (Send(1, 1),)


def test_a_silent_collector_is_given_up_but_a_slow_one_is_not() -> None:
    sender = streaming(8)
    now = 0
    for number in range(1, 9):  # one commit takes 29 s: the last is answered after 232 s
        now += SILENCE_MS_MAX - 1000
        assert sender.step(now, Tick()) == ()
        assert sender.step(now, Acked(number, (NEW, NEW)))[0] == Forget(number)
        sender.step(now, Found(()))
    sender = streaming(1)
    assert sender.next_due_ms(0) == SILENCE_MS_MAX
    assert isinstance(sender.step(SILENCE_MS_MAX, Tick())[0], Close)


def test_an_idle_stream_is_not_silent() -> None:
    sender = streaming(0)
    assert sender.step(10 * SILENCE_MS_MAX, Tick()) == ()
    sender.step(10 * SILENCE_MS_MAX, Grew())
    sender.step(10 * SILENCE_MS_MAX, Found((SpoolRef(1, 2),)))
    assert sender.step(11 * SILENCE_MS_MAX - 1, Tick()) == ()


def test_a_hello_without_welcome_is_given_up() -> None:
    sender = a_sender()
    sender.step(0, Tick())
    assert sender.step(SILENCE_MS_MAX - 1, Tick()) == ()
    assert isinstance(sender.step(SILENCE_MS_MAX, Tick())[0], Close)


def delays(sender: Sender, rounds: int) -> list[int]:
    """How long the sender waits after each of several failed attempts, in milliseconds."""
    now = 0
    waited = []
    for _ in range(rounds):
        while sender.step(now, Tick()) != (Open(),):
            now += sender.next_due_ms(now)
        (effect,) = sender.step(now, Broke("refused"))
        assert isinstance(effect, Close)
        waited.append(effect.retry_in_ms)
    return waited


def test_back_off_doubles_from_one_second_to_sixty() -> None:
    expected = [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
    assert delays(a_sender(), 8) == expected
    assert expected[0] == BACKOFF_FIRST_MS
    assert expected[-1] == BACKOFF_MAX_MS


def test_back_off_ends_with_an_ack_not_with_a_connection() -> None:
    sender = a_sender()
    delays(sender, 5)
    now = 1_000_000
    sender.step(now, Tick())
    sender.step(now, WELCOME)
    assert sender.step(now, Broke("again")) == (Close("again", 32_000),)
    now += 32_000
    sender.step(now, Tick())
    sender.step(now, WELCOME)
    sender.step(now, Found((SpoolRef(1, 1),)))
    sender.step(now, Acked(1, (NEW,)))
    assert sender.step(now, Broke("again")) == (Close("again", BACKOFF_FIRST_MS),)


def test_a_stream_that_lasted_was_no_failure() -> None:
    sender = a_sender()
    delays(sender, 5)
    sender.step(1_000_000, Tick())
    sender.step(1_000_000, WELCOME)
    ended = sender.step(1_000_000 + SETTLED_MS, Broke("an hour is over"))
    assert ended == (Close("an hour is over", BACKOFF_FIRST_MS),)


def test_jitter_is_drawn_from_zero_to_the_ceiling() -> None:
    asked: list[int] = []

    def draw(most: int) -> int:
        asked.append(most)
        return 0

    delays(Sender(LIMITS, draw), 3)
    assert asked == [360_000, 1000, 360_000, 2000, 360_000, 4000]  # a stream's age is drawn too


# ------------------------------------------------------- a block that is refused

REFUSED = Broke("Batch 2 lacks a column", is_refusal=True)


def test_after_a_refusal_suspects_travel_alone_and_the_one_refused_alone_is_held() -> None:
    sender = streaming(3)
    assert sender.step(1, REFUSED) == (Close(REFUSED.reason, BACKOFF_FIRST_MS),)
    assert sender.is_isolating
    sender.step(2000, Tick())
    assert sender.step(2000, WELCOME) == (Fetch(0, 1),)
    assert sender.step(2000, Found((SpoolRef(1, 2),))) == (Send(1, 1),)
    assert sender.step(2001, Acked(1, (NEW, NEW))) == (Forget(1), Fetch(1, 1))
    assert sender.step(2001, Found((SpoolRef(2, 2),))) == (Send(2, 2),)
    hold, close = sender.step(2002, REFUSED)
    assert hold == Hold(2, REFUSED.reason)
    assert isinstance(close, Close)
    sender.step(9000, Tick())
    assert sender.step(9000, WELCOME) == (Fetch(0, 1),)  # 3 is a suspect still
    assert sender.step(9000, Found((SpoolRef(3, 2),))) == (Send(1, 3),)
    assert sender.step(9001, Acked(1, (NEW, NEW))) == (Forget(3), Fetch(3, 1))
    assert sender.step(9001, Found((SpoolRef(4, 2),))) == (Send(2, 4), Fetch(4, 7))
    assert not sender.is_isolating


def test_once_no_suspect_is_left_the_window_is_as_before() -> None:
    sender = streaming(2)
    sender.step(1, REFUSED)
    sender.step(2000, Tick())
    sender.step(2000, WELCOME)
    assert sender.step(2000, Found(())) == ()
    assert not sender.is_isolating
    assert sender.step(2001, Grew()) == (Fetch(0, 8),)


@pytest.mark.parametrize(
    "event", [Broke("the wire was cut"), Acked(7, (NEW,)), Broke("died", is_refusal=False)]
)
def test_only_a_refusal_accuses_a_block(event: Event) -> None:
    sender = streaming(3)
    sender.step(1, event)
    assert not sender.is_isolating


def test_a_refused_hello_accuses_no_block() -> None:
    sender = a_sender()
    sender.step(0, Tick())
    assert sender.step(1, REFUSED) == (Close(REFUSED.reason, BACKOFF_FIRST_MS),)
    assert not sender.is_isolating
    idle = streaming(0)
    idle.step(1, REFUSED)
    assert not idle.is_isolating


# ---------------------------------------------------------------- the stream's age


def aged(blocks: int) -> tuple[Sender, int]:
    """Return a sender whose stream is old enough, with none or one in flight, and the time."""
    sender = streaming(blocks)
    now = STREAM_MS_MAX + STREAM_MS_MAX // 10  # the jitter of these tests is the whole of it
    for number, at in enumerate(range(0, now, SILENCE_MS_MAX - 1), 1):
        assert sender.step(at, Tick()) == ()
        if blocks:
            assert sender.step(at, Acked(number, (NEW, NEW))) == (Forget(number),)
            assert sender.step(at, Grew()) == (Fetch(number, 8),)
            sender.step(at, Found((SpoolRef(number + 1, 2),)))
    return sender, now


def test_an_old_stream_is_ended_in_order_and_another_opened_at_once() -> None:
    sender, now = aged(0)
    assert sender.step(now, Tick()) == (Finish("the stream is old enough"),)
    assert sender.next_due_ms(now) == 0
    assert sender.step(now, Tick()) == (Open(),)


def test_an_old_stream_is_ended_between_batches_only() -> None:
    sender, now = aged(1)
    (number,) = sender._in_flight  # noqa: SLF001
    assert sender.step(now, Tick()) == ()
    assert sender.step(now, Grew()) == ()  # nothing new is begun
    forget, finish = sender.step(now + 1, Acked(number, (NEW, NEW)))
    assert isinstance(forget, Forget)
    assert isinstance(finish, Finish)


def test_new_credentials_replace_the_stream_between_batches() -> None:
    sender = streaming(2)
    assert sender.step(1, Renew("new certificate")) == ()
    assert sender.step(2, Acked(1, (NEW, NEW))) == (Forget(1),)
    assert sender.step(3, Acked(2, (NEW, NEW))) == (Forget(2), Finish("new certificate"))
    assert streaming(0).step(1, Renew("new certificate")) == (Finish("new certificate"),)
    waiting = a_sender()
    assert waiting.step(0, Renew("new certificate")) == ()
    assert waiting.step(0, Tick()) == (Open(),)


def test_a_batch_that_is_passed_over_while_others_are_answered_ends_the_stream() -> None:
    sender = streaming(8)
    for number in range(2, 2 + ACK_MS_MAX // SILENCE_MS_MAX):
        now = (number - 1) * (SILENCE_MS_MAX - 1)
        sender.step(now, Acked(number, (NEW, NEW)))
        sender.step(now, Found((SpoolRef(8 + number, 2),)))
        assert sender.step(now, Tick()) == ()
    (effect,) = sender.step(ACK_MS_MAX, Tick())
    assert isinstance(effect, Close)
    assert "240 s" in effect.reason


# ------------------------------------------------------------------ simulation


@dataclass
class World:
    """A spool, a collector and a network that fails, all driven by one seed."""

    dice: random.Random
    faults: int
    spool: dict[int, int] = field(default_factory=dict)
    applied: set[int] = field(default_factory=set)
    forgotten: set[int] = field(default_factory=set)
    mail: deque[tuple[int, Event]] = field(default_factory=deque)
    sent: dict[int, int] = field(default_factory=dict)
    now: int = 0
    born: int = 0
    is_open: bool = False
    sender: Sender = field(init=False)

    def __post_init__(self) -> None:
        self.sender = Sender(LIMITS, lambda most: self.dice.randint(0, most))

    def run(self) -> None:
        for _ in range(self.dice.randint(5, 40)):
            self.produce()
            self.advance()
        self.faults = 0
        for _ in range(2000):
            if not self.spool:
                break
            self.advance()

    def produce(self) -> None:
        for _ in range(self.dice.randint(0, 4)):
            self.born += 1
            self.spool[self.born] = self.dice.randint(0, 5)
        self.take(Grew())

    def advance(self) -> None:
        if self.mail and self.mail[0][0] <= self.now + self.dice.randint(0, 2000):
            due, event = self.mail.popleft()
            self.now = max(self.now, due)
            self.take(event)
        else:
            self.now += max(1, self.dice.randint(0, self.sender.next_due_ms(self.now) + 1))
            self.take(Tick())

    def take(self, event: Event) -> None:
        for effect in self.sender.step(self.now, event):
            self.do(effect)
        assert self.sender.in_flight <= 8
        assert self.forgotten <= self.applied

    def do(self, effect: Effect) -> None:
        match effect:
            case Open():
                self.is_open, self.sent = True, {}
                self.arrive(self.chance(Broke("refused")) or WELCOME)
            case Fetch(after_id, limit):
                later = [SpoolRef(i, n) for i, n in sorted(self.spool.items()) if i > after_id]
                self.take(Found(tuple(later[:limit])))
            case Send(number, block_id):
                assert number == len(self.sent) + 1
                self.sent[number] = block_id
                self.collect(number, block_id)
            case Forget(block_id):
                self.forgotten.add(block_id)
                del self.spool[block_id]
            case Close():
                self.is_open = False
                self.mail.clear()  # of a stream that is gone nothing is heard

    def collect(self, number: int, block_id: int) -> None:
        """The collector applies the batch, or dies before, or after; or answers nonsense."""
        if broken := self.chance(Broke("died before the commit")):
            self.arrive(broken)
            return
        self.applied.add(block_id)
        records = self.spool[block_id]
        nonsense: list[Event] = [
            Broke("died before the ack"),
            Acked(number, (NEW,) * (records + 1)),
            Acked(number + 100, (NEW,) * records),
            Acked(number, (0,) * (records + 1)),
        ]
        answer = self.chance(self.dice.choice(nonsense)) or Acked(number, (NEW,) * records)
        if not self.chance(Tick()):  # or the answer never comes
            self.arrive(answer)

    def chance(self, event: Event) -> Event | None:
        return event if self.dice.randint(0, 99) < self.faults else None

    def arrive(self, event: Event) -> None:
        latest = self.mail[-1][0] if self.mail else self.now
        slow = self.dice.randint(0, 60_000) if self.chance(Tick()) else self.dice.randint(0, 50)
        self.mail.append((latest + slow, event))


@pytest.mark.parametrize("faults", [0, 3, 15, 40])
def test_in_any_world_everything_is_applied_before_it_is_forgotten(faults: int) -> None:
    for seed in range(400):
        world = World(random.Random(seed), faults)
        world.run()
        assert not world.spool, f"seed {seed}: never delivered"
        assert world.forgotten == world.applied == set(range(1, world.born + 1)), seed


class ForgetfulSender(Sender):
    """A planted defect: a block is forgotten once it is sent."""

    def step(self, now_ms: int, event: Event) -> tuple[Effect, ...]:
        effects = super().step(now_ms, event)
        sent = [Forget(effect.block_id) for effect in effects if isinstance(effect, Send)]
        return (*sent, *(effect for effect in effects if not isinstance(effect, Forget | Send)))


def test_the_simulation_catches_a_sender_that_forgets_too_early() -> None:
    world = World(random.Random(0), 15)
    world.sender = ForgetfulSender(LIMITS, lambda most: most)
    with pytest.raises(AssertionError):
        world.run()
