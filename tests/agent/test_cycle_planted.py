"""Would the tests of the cycle notice? Each defect is planted, and a life of a Slurm shows it."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from jobledger_agent.reading import canary, window
from jobledger_agent.reading.cycle import CycleSettings
from jobledger_agent.reading.onecluster import OneCluster
from jobledger_agent.records.runs import Runs
from tests.agent.simslurm import AGENTS_UID, SimSlurm, Span
from tests.agent.test_cycle import HOUR, NOW, Agent, Life, happen, history

LIVES = 40
SEEDS = 30


def a_life_of_a_slurm(seed: int) -> list[tuple[int, int]]:
    """Twelve hours in which everything happens; what the agent lacks at the end."""
    chance = random.Random(seed)
    slurm = SimSlurm(NOW)
    slurm.has_sdiag = seed % 3 > 0
    slurm.per_second, slurm.takes_every_s = chance.choice(((50, 1), (1, 20), (1, 100)))
    slurm.dbd_down = [outage(chance), outage(chance)]
    slurm.sdiag_down = [outage(chance)]
    slurm.hidden = [outage(chance)]
    away = [outage(chance)]
    born = [
        Life(
            chance.randrange(4 * HOUR),
            chance.randrange(1, 2 * HOUR),
            chance.choice((0, 0, 400, 3 * HOUR)),
            chance.choice((AGENTS_UID, 1000, 1001)),
        )
        for _ in range(LIVES)
    ]
    happen(slurm, born)
    slurm.table |= history()
    agent = Agent(slurm, CycleSettings(lookback_s=HOUR, sweep_days=0))
    agent.poll()
    while slurm.now < NOW + 13 * HOUR:
        began = slurm.now
        if any(span.holds(slurm.now) for span in away):
            agent.restart()
        else:
            agent.poll()
        slurm.now = max(slurm.now, began + 120)
    return agent.lacks()


def outage(chance: random.Random) -> Span:
    begin = NOW + chance.randrange(600, 5 * HOUR)
    return Span(begin, begin + chance.choice((200, 1_000, HOUR, 3 * HOUR)))


def replaced(owner: object, name: str, make: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A defect: this attribute, as ``make`` changes it."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(owner, name, make(getattr(owner, name)))

    return plant


def ignores_the_queue(ask: Callable[..., int]) -> Callable[..., int]:
    return lambda self: max(0, ask(self) and 0)


def never_asks_by_id(_by_id: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _self, _ids, _noted: iter(())


DEFECTS = {
    "the queue is taken for empty": replaced(OneCluster, "_ask_controller", ignores_the_queue),
    "what vanished is not asked for": replaced(OneCluster, "_by_id", never_asks_by_id),
    "missing canaries are no alarm": replaced(
        canary, "is_alarming", lambda _old: lambda _asked, _missing: False
    ),
    "an outage is not read again": replaced(
        window, "is_after_outage", lambda _old: lambda *_: False
    ),
    "what is open is forgotten": replaced(Runs, "without", lambda _old: lambda *_: Runs()),
}  # fmt: skip


def test_without_a_defect_nothing_is_lacking() -> None:
    assert [a_life_of_a_slurm(seed) for seed in range(SEEDS)] == [[]] * SEEDS


@pytest.mark.parametrize("plant", DEFECTS.values(), ids=DEFECTS)
def test_a_planted_defect_is_noticed(
    plant: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert any(a_life_of_a_slurm(seed) for seed in range(SEEDS))
