"""Streams between agents and the collector, and what the collector does with what arrives."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobledger_agent.protocol import wire
from jobledger_agent.protocol.stream import Acked, Broke, Event
from jobledger_collector.core.errors import BatchInvalid
from jobledger_collector.wire import encode_ack, welcome
from tests.simulation.agent import Agent
from tests.simulation.ledger import Change, Refused

if TYPE_CHECKING:
    from tests.simulation.world import World


class SimCall:
    """A stream: in order, until it is cut. Takes the place of ``call.Call``."""

    def __init__(
        self, world: "World", agent: Agent, hear: Callable[["SimCall", Event], None]
    ) -> None:
        self.world = world
        self.agent = agent
        self._hear = hear
        self.up: deque[bytes] = deque()
        self.down: deque[Event] = deque()
        self.expected = 0
        self.is_dropped = False
        self.is_half_open = False
        self.is_dead = False
        self.collector_version = "sim"
        world.calls.append(self)

    @property
    def is_over(self) -> bool:
        """Whether nothing can come of it any more."""
        return self.is_dropped and not self.up and not self.down

    def clock_skew_ms(self, _: int) -> int | None:
        """No skew."""
        return 0

    def send(self, message: bytes) -> None:
        """Queue a message."""
        self.world.agent_may_crash("before send")
        if not self.is_half_open:
            self.up.append(message)

    def end(self) -> None:
        """End in order."""
        self.drop()

    def drop(self) -> None:
        """The agent hangs up; what is on its way may still arrive."""
        self.is_dropped = True
        if not self.world.faults.late_old_stream:
            self.up.clear()
            self.down.clear()
            self.is_dead = True

    def answer(self, event: Event) -> None:
        """The collector says something."""
        if not self.is_half_open:
            self.down.append(event)

    def deliver(self) -> None:
        """The agent's end hears the next answer."""
        self._hear(self, self.down.popleft())

    def cut(self, reason: str, *, is_refusal: bool = False) -> None:
        """Both ends lose each other; what was answered before may be lost, too."""
        if not is_refusal and self.world.chance(50):
            self.down.clear()
        self.up.clear()
        self.answer(Broke(reason, is_refusal))
        self.expected = -1


def exchange(world: "World") -> None:
    """Messages travel, in an order that is drawn."""
    for _ in range(world.dice.randint(1, 12)):
        live = [call for call in world.calls if not call.is_dead and (call.up or call.down)]
        pick = world.dice.randrange(len(live) + 1)
        if pick == len(live):
            world.clock.pass_ms(world.dice.choice((0, 20, 500, 2_000, 31_000)))
            world.turn(world.dice.choice(world.agents))
            continue
        one_message(world, live[pick])
    world.calls = [call for call in world.calls if not call.is_over]


def one_message(world: "World", call: SimCall) -> None:
    if world.chance(world.faults.cut):
        world.happened("stream cut")
        world.say(f"the stream of {call.agent.name} is cut")
        call.cut("the wire was cut")
    elif call.up and (not call.down or world.dice.random() < 0.5):
        collect(world, call, call.up.popleft())
    elif call.down:
        call.deliver()
        world.turn(call.agent)


def collect(world: "World", call: SimCall, message: bytes) -> None:
    """The collector takes one message."""
    if call.expected < 0:
        return  # to a collector that has ended the call
    if call.expected == 0:
        call.expected = 1
        answer = wire.answer(welcome(world.clock.now_ms()).SerializeToString())
        call.answer(answer.event)
        return
    try:
        decoded = world.ledger.read(message, call.expected, world.clock.now_ms())
    except (Refused, BatchInvalid) as error:
        world.happened("batch refused")
        world.say(f"the collector refuses a batch of {call.agent.name}")
        call.cut(str(error), is_refusal=True)
        return
    if decoded is None:
        return
    call.expected += 1
    if world.chance(world.faults.nonsense):
        talk_nonsense(world, call, decoded.number, len(decoded.entries))
        return
    apply(world, call, decoded.number, world.ledger.prepare(decoded))


def apply(world: "World", call: SimCall, number: int, change: Change) -> None:
    """Commit, then acknowledge; die before, or between."""
    if world.chance(world.faults.database):
        world.happened("database down in a batch")
        call.cut("the database is not available")
        return
    if world.chance(world.faults.collector_crash):
        collector_dies(world, "before the commit")
        return
    world.ledger.commit(change)
    world.say(f"committed batch {number} of {call.agent.name}: "
             f"{[verdict.name for verdict in change.verdicts]}")  # fmt: skip
    if world.chance(world.faults.collector_crash):
        collector_dies(world, "before the ack")
        return
    call.answer(acknowledgement(number, change))


def acknowledgement(number: int, change: Change) -> Event:
    """The answer to a batch, through the production encoding."""
    return wire.answer(encode_ack(number, change.verdicts, ()).SerializeToString()).event


def collector_dies(world: "World", where: str) -> None:
    world.happened("collector killed " + where)
    world.say(f"collector killed {where}")
    for call in world.calls:
        call.cut("the collector cannot be reached")


def talk_nonsense(world: "World", call: SimCall, number: int, records: int) -> None:
    """An answer that no collector should give: nothing was stored for it."""
    world.happened("nonsense")
    call.answer(
        world.dice.choice(
            (
                Acked(number, (1,) * (records + 1)),
                Acked(number, (1,) * (records - 1) if records else (1,)),
                Acked(number + 100, (1,) * records),
                Acked(number, (0,) * records if records else (0,)),
            )
        )
    )
