"""A world of one seed: agents, a collector, a network and a Slurm, and everything that goes wrong.

One scheduler draws what happens next. What must always hold is checked where it
could break (``before_forget``) and after each cycle; what must hold in the end,
once nothing fails any more, is checked by ``settle_down``.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from jobledger_agent import clock as agent_clock
from jobledger_agent.delivery.verifier import VerifyError
from jobledger_agent.protocol.stream import Event
from jobledger_proto.v1 import usage_pb2 as pb
from tests.simulation import judge, network, settling
from tests.simulation.agent import Agent, Crash
from tests.simulation.chances import drawn
from tests.simulation.ledger import Ledger, rows_of
from tests.simulation.network import SimCall
from tests.simulation.truth import EPOCH_S, Clock, Run, Slurm

TRACE_MAX = 100_000
JOBS_MAX = 22
"""All of a world's runs fit the smallest quota of a spool in one block, as blocks always do."""


@dataclass
class Tally:
    """What happened in a world: for people, and to prove that faults do happen."""

    seen: Counter[str] = field(default_factory=Counter)

    def __call__(self, what: str) -> None:
        """Count it."""
        self.seen[what] += 1


class World:
    """All of it; ``run`` lives it through."""

    def __init__(
        self, seed: int, folder: Path, *, trace: bool = False, bias: Mapping[str, int] | None = None
    ) -> None:
        """``bias`` sets some of the chances (see ``chances.Faults``)."""
        self.dice = random.Random(seed)
        self.faults = drawn(self.dice, bias or {})
        self.seed = seed
        self.folder = folder
        self.clock = Clock(EPOCH_S)
        self.slurm = Slurm(self.dice, self.clock)
        self.ledger = Ledger()
        self.calls: list[SimCall] = []
        self.happened = Tally()
        self.trace: list[str] | None = [] if trace else None
        self.is_calm = False
        self.is_revoked = False
        self.was_blind = False
        self.is_long = self.dice.randrange(100) < self.faults.long
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

    def meanwhile(self, agent: Agent) -> None:
        """Between two steps of a reading the agent's other thread may act."""
        if self.chance(self.faults.meanwhile):
            self.say(f"meanwhile the link of {agent.name}")
            self.clock.pass_ms(self.dice.choice((0, 1_000, 2_000)))
            for call in self.calls:
                if call.agent is agent and call.down and not call.is_dead:
                    call.deliver()
            agent.link.turn(0)

    # --------------------------------------------------------------------- life

    def run(self) -> None:
        """Live through it. Raises Violation."""
        with self._clocks():
            try:
                self._set_up()
                for _ in range(self.dice.randint(6, 28)):
                    self._something()
                settling.settle_down(self)
            finally:
                for agent in self.agents:
                    if agent.is_running:
                        agent.kill()
                    agent.wipe()

    def _set_up(self) -> None:
        dice = self.dice
        self.slurm.errors = self.faults.slurm_errors
        for _ in range(dice.choice((1, 1, 1, 1, 2))):
            agent = Agent(f"agent{len(self.agents)}", self.folder, self, self.slurm, dice)
            if self.chance(self.faults.small_quota):
                agent.payload_bytes_max = agent.spool._payload_bytes_max = 2_000  # noqa: SLF001
            self.agents.append(agent)
        if self.chance(self.faults.poison):
            self.ledger.poison.add(dice.randint(1, 8))
        for _ in range(dice.randint(0, 3)):
            self._submit()

    def _something(self) -> None:
        """One thing happens."""
        acts: tuple[tuple[int, Callable[[], None]], ...] = (
            (14, self._submit),
            (22, self._poll),
            (40, partial(network.exchange, self)),
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
            if self.chance(
                self.faults.late_end
            ):  # its node died: told late, with an End in the past
                end_known = max(end_known, end + dice.choice((100, 300, 3000, 15_000)))
            run = Run(self.next_job, now, start, end, self.slurm.known_at(start), end_known)
            run.was_queued = self.slurm.queue_until > end and end_known == self.slurm.queue_until
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
            if now < run.end < self.slurm.queue_until >= run.end_known:
                run.end_known = self.slurm.queue_until
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
        kinds = {
            "revoke": self._revoke, "full": self._fill_disk, "damage": self._damage,
            "blind": self._blind, "purge": self._purge,
        }  # fmt: skip
        kind = self.dice.choice(("revoke", "full", "damage", "damage", "blind", "purge"))
        kind = "damage" if self.chance(self.faults.damage) else kind
        agent = self.dice.choice(self.agents)
        if kinds[kind](agent):
            self.happened(kind)
            self.say(f"{kind} ({agent.name})")

    def _revoke(self, _: Agent) -> bool:
        self.is_revoked = not self.is_revoked
        for call in self.calls:
            if self.is_revoked and not call.is_dead:
                call.cut("this agent is revoked")
        return True

    def _fill_disk(self, agent: Agent) -> bool:
        agent.spool.disk_is_full = not agent.spool.disk_is_full
        return True

    def _damage(self, agent: Agent) -> bool:
        if not agent.damage():
            return False
        for call in self.calls:
            if call.agent is agent:
                call.cut("the wire was cut")  # so that what is damaged is soon met
        return True

    def _blind(self, _: Agent) -> bool:
        self.slurm.is_blind = not self.slurm.is_blind
        self.was_blind = True
        return True

    def _purge(self, _: Agent) -> bool:
        stored = self.ledger.ends()
        gone = [r for r in self.slurm.runs if stored.get(r.key) == r.last_end]
        if len(gone) < 4 or any(r.is_purged for r in gone):
            return False  # most of what was shown must stay, or nothing would be believed
        self.dice.choice(gone).is_purged = True
        return True

    # ------------------------------------------------------------------ the agents

    def _poll(self) -> None:
        agent = self.dice.choice(self.agents)
        self.clock.pass_ms(self.dice.choice((1_000, 30_000, 30_000, 60_000, 400_000)))
        self.cycle(agent)

    def cycle(self, agent: Agent) -> str:
        try:
            complaint = agent.cycle()
        except Crash:
            self._restart(agent)
            return "killed"
        self.say(f"{agent.name} read Slurm: {complaint or 'well'}")
        if not complaint:
            self.slurm.note_seen_open()
        judge.check_position(self, agent)
        return complaint

    def _restart(self, agent: Agent) -> None:
        self._hang_up(agent)
        agent.kill()
        agent.start()

    def _hang_up(self, agent: Agent) -> None:
        for call in self.calls:
            if call.agent is agent:
                call.drop()

    def turn(self, agent: Agent) -> None:
        """Let an agent's link act on what it heard."""
        try:
            agent.link.turn(0)
        except Crash:
            self._restart(agent)

    def open_call(self, agent: Agent, hear: Callable[[SimCall, Event], None]) -> SimCall:
        """An agent's link opens a stream."""
        call = SimCall(self, agent, hear)
        self.say(f"{agent.name} opens stream {len(self.calls)}")
        if self.is_revoked:
            call.cut("this agent is revoked")
        call.is_half_open = self.chance(self.faults.half_open)
        return call

    # ------------------------------------------------------- network and collector

    def before_forget(self, agent: Agent, block_ids: Sequence[int]) -> None:
        """What leaves a spool must be durable elsewhere."""
        judge.before_forget(self, agent, block_ids)

    def verify(self, jobs: pb.JobColumns) -> list[int]:
        """What the collector says of these runs."""
        if self.is_revoked or self.chance(self.faults.database):
            raise VerifyError("the collector cannot be reached")
        return [int(v) for v in self.ledger.would(rows_of(jobs, self.clock.now_s()))]

    # ------------------------------------------------------------------ what must hold

    @contextmanager
    def _clocks(self) -> Iterator[None]:
        """Let the agent's modules ask this world's clock, and open its calls."""
        names = ("now_s", "now_ms", "monotonic_ms")
        before = [getattr(agent_clock, name) for name in names]
        mine = (self.clock.now_s, self.clock.now_ms, self.clock.now_ms)
        for name, function in zip(names, mine, strict=True):
            setattr(agent_clock, name, function)
        try:
            yield
        finally:
            for name, function in zip(names, before, strict=True):
                setattr(agent_clock, name, function)
