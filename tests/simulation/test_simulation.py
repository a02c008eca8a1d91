"""Ten thousand worlds in which nothing is lost or doubled, and every planted bug caught."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.bugs import BUGS, Plant
from tests.simulation.many import Result, live, live_all

SEEDS = int(os.environ.get("JOBLEDGER_SIMULATION_SEEDS", "10000"))
SEEDS_TO_CATCH_MAX = 1_000
SHARE = 250
"""Worlds that a process lives through at a time."""
HAPPENS = (
    "agent killed before send",
    "agent killed before append",
    "agent killed after append",
    "agent killed before forget",
    "agent killed after forget",
    "batch refused",
    "blind",
    "collector killed before the ack",
    "collector killed before the commit",
    "damage",
    "database down in a batch",
    "full",
    "nonsense",
    "purge",
    "revoke",
    "rolled back",
    "slurmdbd away",
    "stream cut",
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The programs complain of every fault, rightly; nobody reads it here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def share(first: int) -> tuple[list[Result], Counter[str]]:
    """Live through some worlds in this process; returns the broken ones."""
    logging.disable(logging.CRITICAL)
    seen: Counter[str] = Counter()
    broken = []
    for result in live_all(range(first, min(first + SHARE, SEEDS))):
        seen.update(result.happened)
        if result.violation:
            broken.append(result)
    return broken, seen


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_in_no_world_is_anything_lost_or_doubled() -> None:
    broken: list[Result] = []
    seen: Counter[str] = Counter()
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for some, happened in pool.map(share, range(0, SEEDS, SHARE)):
            broken += some
            seen.update(happened)
    told = [f"python -m tests.simulation --seed {each.seed}: {each.violation}" for each in broken]
    assert told == []
    assert {what for what in HAPPENS if seen[what] < SEEDS // 500} == set()


def test_a_seed_tells_the_same_story_each_time() -> None:
    for seed in range(5):
        assert live(seed, trace=True) == live(seed, trace=True)
        assert live(seed, trace=True).trace


@pytest.mark.parametrize(("plant", "bias"), BUGS, ids=[plant.__name__ for plant, _ in BUGS])
def test_each_planted_bug_is_caught(
    plant: Plant, bias: Mapping[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    for result in live_all(range(SEEDS_TO_CATCH_MAX), bias=bias):
        if result.violation:
            return
    pytest.fail(f"{plant.__doc__} Nobody noticed in {SEEDS_TO_CATCH_MAX} worlds.")
