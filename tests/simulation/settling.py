"""How a world ends: nothing fails any more, and everything must arrive, exactly."""

from contextlib import suppress
from typing import TYPE_CHECKING

from jobledger_agent.spooling.spool import SpoolUnwell
from tests.simulation import judge, network
from tests.simulation.agent import Agent
from tests.simulation.judge import Violation

if TYPE_CHECKING:
    from tests.simulation.world import World


def settle_down(world: "World") -> None:
    """Nothing fails any more: everything must arrive, and arrive exactly."""
    world.say("---- nothing fails any more")
    world.is_calm = True
    world.slurm.errors, world.slurm.is_blind, world.is_revoked = 0, False, False
    for agent in world.agents:
        agent.spool.disk_is_full = False
    for call in world.calls:
        call.is_half_open = False
    last = max([world.slurm.queue_until, *(run.last_known for run in world.slurm.runs)])
    world.clock.pass_ms(max(0, last - world.clock.now_s()) * 1000 + 61_000)
    read_and_deliver(world)
    judge.check_held(world)
    world.ledger.poison.clear()
    for agent in world.agents:
        release(agent)
    world.clock.pass_ms(3_601_000)
    for _ in range(2):
        read_and_deliver(world)
    judge.check_ordinary(world)
    if world.was_blind or world.is_long:
        sweep(world)
    judge.check_all(world)


def release(agent: Agent) -> None:
    """Offer what is held again."""
    while agent.spool.stats().held_blocks:
        with suppress(SpoolUnwell):
            agent.spool.release_held()
    agent.link.wake()


def sweep(world: "World") -> None:
    """Wait for the next day, when the past is read again."""
    for _ in range(2):  # an agent that was set back counts its first day anew
        world.clock.pass_ms(86_400_000)
        for _ in range(9):
            read_and_deliver(world)
            world.clock.pass_ms(700_000)
            if judge.past_is_read(world):
                world.is_swept = True
                return
    raise Violation("the past is never read again")


def read_and_deliver(world: "World") -> None:
    for agent in world.agents:
        for _ in range(4):
            complaint = world.cycle(agent)
            deliver(world, agent)
            if not complaint:
                break
            world.clock.pass_ms(30_000)


def deliver(world: "World", agent: Agent) -> None:
    """Let messages travel until nothing is left to do."""
    for _ in range(3000):
        world.turn(agent)
        live = [call for call in world.calls if call.up or call.down]
        for call in live:
            while call.up:
                network.collect(world, call, call.up.popleft())
            while call.down:
                call.deliver()
        if not live:
            if not agent.spool.stats().records and agent.link.due_in_ms() > 0:
                return
            world.clock.pass_ms(max(1, agent.link.due_in_ms()))
    raise Violation(f"{agent.name} never delivers what waits: {agent.spool.stats()}")
