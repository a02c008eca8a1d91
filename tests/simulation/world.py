"""A world of one seed: agents, a collector, a network and a Slurm, and everything that goes wrong.

One scheduler draws what happens next. What must always hold is checked where it
could break (``before_forget``) and after each cycle; what must hold in the end,
once nothing fails any more, is checked by ``settle_down``.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError

from jobledger_agent import clock as agent_clock
from jobledger_agent import link, window, wire
from jobledger_agent.sections import CollectorSection
from jobledger_agent.spool import SpoolUnwell
from jobledger_agent.stream import Acked, Broke, Event
from jobledger_agent.verifier import VerifyError
from jobledger_collector.core.errors import BatchInvalid
from jobledger_collector.wire import encode_ack, welcome
from jobledger_proto.v1 import usage_pb2 as pb
from tests.simulation.agent import Agent, Crash
from tests.simulation.ledger import Change, Ledger, Refused, rows_of
from tests.simulation.truth import CPUS, Clock, Key, Run, Slurm

EPOCH_S = 1_790_000_000
TRACE_MAX = 100_000
JOBS_MAX = 22
"""All of a world's runs fit the smallest quota of a spool in one block, as blocks always do."""


class Violation(AssertionError):
    """Something that must never be was seen."""


@dataclass
class Faults:
    """Which faults this world has, and how often in a hundred chances."""

    crash: int = 0
    cut: int = 0
    nonsense: int = 0
    late_old_stream: bool = False
    collector_crash: int = 0
    database: int = 0
    half_open: int = 0


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


@dataclass
class Tally:
    """What happened in a world: for people, and to prove that faults do happen."""

    seen: Counter[str] = field(default_factory=Counter)

    def __call__(self, what: str) -> None:
        """Count it."""
        self.seen[what] += 1


class World:
    """All of it; ``run`` lives it through."""

    def __init__(self, seed: int, folder: Path, *, trace: bool = False) -> None:
        self.dice = random.Random(seed)
        self.seed = seed
        self.folder = folder
        self.clock = Clock(EPOCH_S)
        self.slurm = Slurm(self.dice, self.clock)
        self.ledger = Ledger()
        self.calls: list[SimCall] = []
        self.happened = Tally()
        self.trace: list[str] | None = [] if trace else None
        self.faults = Faults()
        self.is_calm = False
        self.is_revoked = False
        self.database_is_down = False
        self.was_blind = False
        self.is_long = self.dice.random() < 0.25
        """Whether it goes on to the next day's sweep."""
        self.is_swept = False
        self.next_job = 1
        self.agents: list[Agent] = []

    # ------------------------------------------------------------------- chance

    def chance(self, percent: int) -> bool:
        """Whether something of this likelihood happens; nothing does once it is calm."""
        return not self.is_calm and self.dice.randrange(100) < percent

    def say(self, text: str) -> None:
        """Write a line of the trace."""
        if self.trace is not None and len(self.trace) < TRACE_MAX:
            self.trace.append(f"{self.clock.now_s() - EPOCH_S:>7} s  {text}")

    def agent_may_crash(self, where: str) -> None:
        """Kill the agent here, perhaps."""
        if self.chance(self.faults.crash):
            self.happened("agent killed " + where)
            self.say(f"agent killed {where}")
            raise Crash(where)

    # --------------------------------------------------------------------- life

    def run(self) -> None:
        """Live through it. Raises Violation."""
        with self._clocks():
            try:
                self._set_up()
                for _ in range(self.dice.randint(8, 34)):
                    self._something()
                self.settle_down()
            finally:
                for agent in self.agents:
                    if agent.is_running:
                        agent.kill()
                    agent.wipe()

    def _set_up(self) -> None:
        dice = self.dice
        self.faults = Faults(
            crash=dice.choice((0, 0, 1, 4)),
            cut=dice.choice((0, 3, 10)),
            nonsense=dice.choice((0, 0, 0, 5)),
            late_old_stream=dice.random() < 0.5,
            collector_crash=dice.choice((0, 0, 3, 10)),
            database=dice.choice((0, 0, 5)),
            half_open=dice.choice((0, 0, 3)),
        )
        self.slurm.errors = dice.choice((0, 0, 5, 20))
        for _ in range(dice.choice((1, 1, 1, 1, 2))):
            agent = Agent(f"agent{len(self.agents)}", self.folder, self, self.slurm, dice)
            if dice.random() < 0.15:
                agent.payload_bytes_max = agent.spool._payload_bytes_max = 2_000  # noqa: SLF001
            self.agents.append(agent)
        if dice.random() < 0.15:
            self.ledger.poison.add(dice.randint(1, 8))
        for _ in range(dice.randint(0, 3)):
            self._submit()

    def _something(self) -> None:
        """One thing happens."""
        acts: tuple[tuple[int, Callable[[], None]], ...] = (
            (14, self._submit),
            (22, self._poll),
            (40, self._exchange),
            (4, self._pass_long),
            (3, self._dbd_queue),
            (2, self._requeue_or_revise),
            (2, self._snapshot),
            (2, self._trouble),
        )
        total = sum(weight for weight, _ in acts)
        pick = self.dice.randrange(total)
        for weight, act in acts:
            pick -= weight
            if pick < 0:
                act()
                return

    def _submit(self) -> None:
        dice, now = self.dice, self.clock.now_s()
        for _ in range(min(dice.randint(1, 3), JOBS_MAX + 1 - self.next_job)):
            start = now + dice.choice((0, 0, 5, 60))
            end = start + dice.choice((1, 10, 200, 900, 4000, 20_000))
            end_known = self.slurm.known_at(end)
            if dice.random() < 0.06:  # its node died: told late, with an End in the past
                end_known = max(end_known, end + dice.choice((100, 300, 3000, 15_000)))
            run = Run(self.next_job, now, start, end, self.slurm.known_at(start), end_known)
            run.was_queued = self.slurm.queue_until > end
            run.start_known = min(run.start_known, run.end_known)
            run.is_garbled = dice.random() < 0.03
            self.next_job += 1
            self.slurm.runs.append(run)
            self.say(f"job {run.key} runs {start - EPOCH_S}..{end - EPOCH_S}, slurmdbd knows "
                     f"{run.start_known - EPOCH_S}, {end_known - EPOCH_S}")  # fmt: skip

    def _requeue_or_revise(self) -> None:
        now = self.clock.now_s()
        ended = [
            r
            for r in self.slurm.runs
            if r.end_known <= now and not r.is_garbled and not r.is_purged
        ]
        if not ended:
            return
        run = self.dice.choice(ended)
        if self.dice.random() < 0.5 and all(
            (r.job_id, r.submit) != (run.job_id, now) for r in self.slurm.runs
        ):
            end = now + self.dice.choice((30, 700))
            again = Run(run.job_id, now, now, end, now, self.slurm.known_at(end))
            again.was_queued = self.slurm.queue_until > end
            again.start_known = min(self.slurm.known_at(now), again.end_known)
            self.slurm.runs.append(again)
            self.say(f"job {run.key} is requeued as {again.key}")
        elif run.last_end < now - 5:
            run.revisions.append((now, run.last_end + self.dice.choice((1, 3))))
            self.say(f"job {run.key} ended at {run.last_end - EPOCH_S} after all")

    def _dbd_queue(self) -> None:
        now = self.clock.now_s()
        until = now + self.dice.choice((60, 900, 5000))
        self.slurm.queue_until = max(self.slurm.queue_until, until)
        for run in self.slurm.runs:
            # What has not happened yet will be told when the queue is empty again.
            if run.start > now:
                run.start_known = max(run.start_known, self.slurm.queue_until)
            if run.end > now and run.end < self.slurm.queue_until:
                run.end_known = max(run.end_known, self.slurm.queue_until)
                run.was_queued = True
        self.say(f"slurmdbd is away until {self.slurm.queue_until - EPOCH_S}")
        self.happened("slurmdbd away")

    def _pass_long(self) -> None:
        self.clock.pass_ms(self.dice.choice((120_000, 900_000, 5_000_000)))
        self.say("time passes")

    def _snapshot(self) -> None:
        agent = self.dice.choice(self.agents)
        if agent.snapshot is None or self.dice.random() < 0.3:
            agent.take_snapshot()
            self.say(f"snapshot of {agent.name}")
            return
        self._hang_up(agent)
        agent.roll_back()
        self.happened("rolled back")
        self.say(f"{agent.name} goes back to its snapshot")

    def _trouble(self) -> None:
        kind = self.dice.choice(("revoke", "full", "damage", "damage", "blind", "purge"))
        agent = self.dice.choice(self.agents)
        if kind == "revoke":
            self.is_revoked = not self.is_revoked
            for call in self.calls:
                if self.is_revoked and not call.is_dead:
                    call.cut("this agent is revoked")
        elif kind == "full":
            agent.spool.disk_is_full = not agent.spool.disk_is_full
        elif kind == "damage":
            if not agent.damage():
                return
        elif kind == "blind":
            self.slurm.is_blind = not self.slurm.is_blind
            self.was_blind = True
        elif kind == "purge":
            stored = self.ledger.ends()
            gone = [r for r in self.slurm.runs if stored.get(r.key) == r.last_end]
            if len(gone) < 4 or any(r.is_purged for r in gone):
                return  # most of what was shown must stay, or nothing would be believed
            self.dice.choice(gone).is_purged = True
        self.happened(kind)
        self.say(f"{kind} ({agent.name})")

    # ------------------------------------------------------------------ the agents

    def _poll(self) -> None:
        agent = self.dice.choice(self.agents)
        self.clock.pass_ms(self.dice.choice((1_000, 30_000, 30_000, 60_000, 400_000)))
        self._cycle(agent)

    def _cycle(self, agent: Agent) -> str:
        try:
            complaint = agent.cycle()
        except Crash:
            self._restart(agent)
            return "killed"
        self.say(f"{agent.name} read Slurm: {complaint or 'well'}")
        self._check_position(agent)
        return complaint

    def _restart(self, agent: Agent) -> None:
        self._hang_up(agent)
        agent.kill()
        agent.start()

    def _hang_up(self, agent: Agent) -> None:
        for call in self.calls:
            if call.agent is agent:
                call.drop()

    def _turn(self, agent: Agent) -> None:
        """Let an agent's link act on what it heard."""
        try:
            agent.link.turn(0)
        except Crash:
            self._restart(agent)

    def _open_call(self, _: CollectorSection, hear: Callable[[SimCall, Event], None]) -> SimCall:
        """A link opens a stream."""
        (agent,) = (each for each in self.agents if each.link is hear.__self__)  # type: ignore[attr-defined]
        call = SimCall(self, agent, hear)
        self.say(f"{agent.name} opens stream {len(self.calls)}")
        if self.is_revoked:
            call.cut("this agent is revoked")
        call.is_half_open = self.chance(self.faults.half_open)
        return call

    # ------------------------------------------------------- network and collector

    def _exchange(self) -> None:
        """Messages travel, in an order that is drawn."""
        for _ in range(self.dice.randint(1, 12)):
            live = [call for call in self.calls if not call.is_dead and (call.up or call.down)]
            pick = self.dice.randrange(len(live) + 1)
            if pick == len(live):
                self.clock.pass_ms(self.dice.choice((0, 20, 500, 2_000, 31_000)))
                self._turn(self.dice.choice(self.agents))
                continue
            self._one_message(live[pick])
        self.calls = [call for call in self.calls if not call.is_over]

    def _one_message(self, call: SimCall) -> None:
        if self.chance(self.faults.cut):
            self.happened("stream cut")
            self.say(f"the stream of {call.agent.name} is cut")
            call.cut("the wire was cut")
        elif call.up and (not call.down or self.dice.random() < 0.5):
            self._collect(call, call.up.popleft())
        elif call.down:
            call.deliver()
            self._turn(call.agent)

    def _collect(self, call: SimCall, message: bytes) -> None:
        """The collector takes one message."""
        if call.expected < 0:
            return  # to a collector that has ended the call
        if call.expected == 0:
            call.expected = 1
            answer = wire.answer(welcome(self.clock.now_ms()).SerializeToString())
            call.answer(answer.event)
            return
        try:
            decoded = self.ledger.read(message, call.expected, self.clock.now_ms())
        except (Refused, BatchInvalid) as error:
            self.happened("batch refused")
            self.say(f"the collector refuses a batch of {call.agent.name}")
            call.cut(str(error), is_refusal=True)
            return
        if decoded is None:
            return
        call.expected += 1
        if self.chance(self.faults.nonsense):
            self._talk_nonsense(call, decoded.number, len(decoded.entries))
            return
        self.apply(call, decoded.number, self.ledger.prepare(decoded))

    def apply(self, call: SimCall, number: int, change: Change) -> None:
        """Commit, then acknowledge; die before, or between."""
        if self.chance(self.faults.database):
            self.happened("database down in a batch")
            call.cut("the database is not available")
            return
        if self.chance(self.faults.collector_crash):
            self._collector_dies("before the commit")
            return
        self.ledger.commit(change)
        self.say(f"committed batch {number} of {call.agent.name}: "
                 f"{[verdict.name for verdict in change.verdicts]}")  # fmt: skip
        if self.chance(self.faults.collector_crash):
            self._collector_dies("before the ack")
            return
        call.answer(self.acknowledgement(number, change))

    def acknowledgement(self, number: int, change: Change) -> Event:
        """The answer to a batch, through the production encoding."""
        return wire.answer(encode_ack(number, change.verdicts, ()).SerializeToString()).event

    def _collector_dies(self, where: str) -> None:
        self.happened("collector killed " + where)
        self.say(f"collector killed {where}")
        for call in self.calls:
            call.cut("the collector cannot be reached")

    def _talk_nonsense(self, call: SimCall, number: int, records: int) -> None:
        """An answer that no collector should give: nothing was stored for it."""
        self.happened("nonsense")
        call.answer(
            self.dice.choice(
                (
                    Acked(number, (1,) * (records + 1)),
                    Acked(number, (1,) * (records - 1) if records else (1,)),
                    Acked(number + 100, (1,) * records),
                    Acked(number, (0,) * records if records else (0,)),
                )
            )
        )

    def verify(self, jobs: pb.JobColumns) -> list[int]:
        """What the collector says of these runs."""
        if self.is_revoked or self.chance(self.faults.database):
            raise VerifyError("the collector cannot be reached")
        return [int(v) for v in self.ledger.would(rows_of(jobs, self.clock.now_s()))]

    # ------------------------------------------------------------------ what must hold

    def before_forget(self, agent: Agent, block_ids: Sequence[int]) -> None:
        """What leaves a spool is durable elsewhere."""
        wanted = set(block_ids)
        for block in agent.spool.head(min(wanted) - 1, 1000):
            if block.block_id in wanted:
                self._check_durable(f"{agent.name} forgets block {block.block_id}", block.payload)

    def _check_durable(self, what: str, payload: bytes) -> None:
        batch = pb.ReportRequest.FromString(payload).batch
        for key, end in zip(
            zip(batch.jobs.job_id, batch.jobs.submit, strict=True), batch.jobs.end, strict=True
        ):
            history = self.ledger.histories.get(key)
            known = {version.record.end for version in history.versions} if history else set()
            if history is None or (end and end not in known):
                raise Violation(f"{what} with job {key}, which is not stored")
        for unreadable in batch.unreadable:
            if unreadable.raw not in self.ledger.quarantined:
                raise Violation(f"{what} with an unreadable record that is not in quarantine")

    def _check_position(self, agent: Agent) -> None:
        """A position is never ahead of its records; the spool never above its bound."""
        try:
            marks, stats = agent.spool.marks(), agent.spool.stats()
            held = {each.block_id for each in agent.spool.held()}
            waiting = self._waiting(agent, held)
        except SpoolUnwell:
            return  # damage was met: it begins anew
        if stats.payload_bytes > max(agent.payload_bytes_max, 0):
            raise Violation(f"{agent.name} holds {stats.payload_bytes} bytes")
        through = min((mark.complete_through for mark in marks), default=0)
        if self.was_blind or len(self.agents) > 1:
            return
        stored = self.ledger.ends()
        now = self.clock.now_s()
        for run in self._promised(through, now):
            if run.key not in stored and run.key not in waiting:
                raise Violation(
                    f"{agent.name} says that all before {through - EPOCH_S} was read, but job "
                    f"{run.key}, ended {run.end - EPOCH_S}, is neither stored nor waiting"
                )

    def _promised(self, through: int, now: int) -> Iterator[Run]:
        """Runs that a complete reading up to then must have shown."""
        for run in self.slurm.runs:
            # One that was told later than the watermark waits is found behind it, but afterwards.
            is_prompt = run.was_queued or run.end_known - run.end <= window.SLACK_S
            is_shown = not (run.is_garbled or run.is_purged) and run.end_known < now - 120
            if run.end < through and is_prompt and is_shown:
                yield run

    def _waiting(self, agent: Agent, held: set[int]) -> set[Key]:
        keys: set[Key] = set()
        payloads = [block.payload for block in agent.spool.head(0, 1000)]
        if held:
            connection = agent.spool._reaper  # noqa: SLF001
            payloads += [row[0] for row in connection.execute(
                "SELECT payload FROM blocks JOIN held ON id = block_id")]  # fmt: skip
        for payload in payloads:
            with suppress(DecodeError):  # damaged, and not met yet
                keys |= _ended_in(payload)
        return keys

    def settle_down(self) -> None:
        """Nothing fails any more: everything must arrive, and arrive exactly."""
        self.say("---- nothing fails any more")
        self.is_calm = True
        self.slurm.errors, self.slurm.is_blind, self.is_revoked = 0, False, False
        for agent in self.agents:
            agent.spool.disk_is_full = False
        for call in self.calls:
            call.is_half_open = False
        last = max((run.last_known for run in self.slurm.runs), default=0)
        self.clock.pass_ms(max(0, last - self.clock.now_s()) * 1000 + 61_000)
        self._read_and_deliver()
        self._check_held()
        self.ledger.poison.clear()
        for agent in self.agents:
            self._release(agent)
        self.clock.pass_ms(3_601_000)
        for _ in range(2):
            self._read_and_deliver()
        self._check_ordinary()
        if self.was_blind or self.is_long:
            self._sweep()
        self._check_all()

    def _release(self, agent: Agent) -> None:
        """Offer what is held again."""
        while agent.spool.stats().held_blocks:
            with suppress(SpoolUnwell):
                agent.spool.release_held()
        agent.link.wake()

    def _sweep(self) -> None:
        """Wait for the next day, when the past is read again."""
        for _ in range(2):  # an agent that was set back counts its first day anew
            self.clock.pass_ms(86_400_000)
            for _ in range(9):
                self._read_and_deliver()
                self.clock.pass_ms(700_000)
                if self._past_is_read():
                    self.is_swept = True
                    return
        raise Violation("the past is never read again")

    def _may_be(self, key: Key) -> set[int]:
        """Ends that a run may be stored with: the last, or before the sweep any that was told."""
        (run,) = (each for each in self.slurm.runs if each.key == key)
        if self.is_swept:
            return {run.last_end}
        return {run.end, *(end for _, end in run.revisions)}

    def _past_is_read(self) -> bool:
        """Whether every agent has read the past again since all was told."""
        began_s = self.clock.now_s() - 86_400
        facts = [agent.feed.source.facts() for agent in self.agents]  # type: ignore[attr-defined]
        return all(each.sweep_through > began_s for fact in facts for each in fact.values())

    def _read_and_deliver(self) -> None:
        for agent in self.agents:
            for _ in range(4):
                complaint = self._cycle(agent)
                self._deliver(agent)
                if not complaint:
                    break
                self.clock.pass_ms(30_000)

    def _deliver(self, agent: Agent) -> None:
        """Let messages travel until nothing is left to do."""
        for _ in range(3000):
            self._turn(agent)
            live = [call for call in self.calls if call.up or call.down]
            for call in live:
                while call.up:
                    self._collect(call, call.up.popleft())
                while call.down:
                    call.deliver()
            if not live:
                if not agent.spool.stats().records and agent.link.due_in_ms() > 0:
                    return
                self.clock.pass_ms(max(1, agent.link.due_in_ms()))
        raise Violation(f"{agent.name} never delivers what waits: {agent.spool.stats()}")

    def _check_held(self) -> None:
        """Only what the collector refuses is held, and it waits there."""
        if self.happened.seen["damage"]:
            return  # one that is held is met when it is released
        for agent in self.agents:
            for held in agent.spool.held():
                query = "SELECT payload FROM blocks WHERE id = ?"
                connection = agent.spool._reaper  # noqa: SLF001
                (payload,) = connection.execute(query, (held.block_id,)).fetchone()
                jobs = set(pb.ReportRequest.FromString(payload).batch.jobs.job_id)
                if not jobs & self.ledger.poison:
                    raise Violation(f"{agent.name} holds {sorted(jobs)}, which nobody refused")

    def _check_ordinary(self) -> None:
        """What the cycle alone, without the daily sweep, must have delivered."""
        if self.was_blind:
            return
        stored = self.ledger.ends()
        for run in self.slurm.runs:
            if run.is_late or run.is_garbled or run.is_purged:
                continue
            if run.key not in stored:
                raise Violation(f"job {run.key} was never delivered")

    def _check_all(self) -> None:
        """Σ stored + Σ quarantined = Σ in Slurm, nothing twice, to the second."""
        stored = self.ledger.ends()
        may_lack = set() if self.is_swept else {run.key for run in self.slurm.runs if run.is_late}
        expected = {run.key: run.last_end for run in self.slurm.runs if not run.is_garbled}
        lacking = sorted(expected.keys() - stored.keys() - may_lack)
        wrong = sorted(key for key in stored if stored[key] not in self._may_be(key))
        if lacking or wrong:
            raise Violation(f"in the end lacking {lacking}, otherwise {wrong}")
        starts = {run.key: run.start for run in self.slurm.runs}
        cpu_s = sum((end - starts[key]) * CPUS for key, end in stored.items())
        if self.ledger.cpu_s() != cpu_s:
            raise Violation(f"charged {self.ledger.cpu_s()} cpu-seconds for {cpu_s}")
        garbled = {run.raw for run in self.slurm.runs if run.is_garbled}
        if self.ledger.quarantined != garbled:
            raise Violation(f"in quarantine {self.ledger.quarantined}, unreadable {garbled}")

    @contextmanager
    def _clocks(self) -> Iterator[None]:
        """Let the agent's modules ask this world's clock, and open its calls."""
        names = ("now_s", "now_ms", "monotonic_ms")
        before = [getattr(agent_clock, name) for name in names]
        mine = (self.clock.now_s, self.clock.now_ms, self.clock.now_ms)
        for name, function in zip(names, mine, strict=True):
            setattr(agent_clock, name, function)
        calls, link.Call = link.Call, self._open_call  # type: ignore[assignment,misc]
        try:
            yield
        finally:
            link.Call = calls  # type: ignore[misc]
            for name, function in zip(names, before, strict=True):
                setattr(agent_clock, name, function)


def _ended_in(payload: bytes) -> set[Key]:
    """Runs that a block tells the end of."""
    jobs = pb.ReportRequest.FromString(payload).batch.jobs
    rows = zip(jobs.job_id, jobs.submit, jobs.end, strict=True)
    return {(job_id, submit) for job_id, submit, end in rows if end}
