"""Runs that must be found again: which ones, and when their absence is an alarm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.reading import canary
from jobledger_agent.reading.canary import MAX_CANARIES, Canary
from jobledger_agent.records.runs import Runs, run_of
from tests.agent.simslurm import a_run

NOW = 1_795_300_000
DAY = 86_400

seen = st.lists(
    st.builds(Canary, st.integers(1, 100), st.integers(0, 1 << 60), st.integers(0, 20)),
    max_size=60,
)


@given(seen, seen)
def test_the_newest_run_of_each_of_the_newest_users_is_kept(
    first: list[Canary], second: list[Canary]
) -> None:
    """The same, whether they come one after the other or all at once."""
    kept = canary.chosen(canary.chosen((), first), second)
    newest = {uid: max(c.end for c in (*first, *second) if c.uid == uid)
              for uid in {c.uid for c in (*first, *second)}}  # fmt: skip
    assert len(kept) == min(len(newest), MAX_CANARIES)
    assert len({each.uid for each in kept}) == len(kept)
    assert all(each.end == newest[each.uid] for each in kept)
    assert sorted(newest.values(), reverse=True)[: len(kept)] == [each.end for each in kept]


def test_only_a_run_that_held_resources_is_one() -> None:
    run = a_run(7, NOW - 100, end=NOW)
    assert canary.canary_of(run) == Canary(NOW, run_of(7, NOW - 105), 1000)
    assert canary.canary_of(run._replace(start=0)) is None, "cancelled before it started"
    assert canary.canary_of(run._replace(end=NOW - 100)) is None
    assert canary.canary_of(run._replace(alloc_tres=())) is None, "a sibling elsewhere ran"


@pytest.mark.parametrize(
    ("purge_after_s", "oldest_s"),
    [(0, 28 * DAY), (-1, 28 * DAY), (365 * DAY, 28 * DAY), (20 * DAY, 18 * DAY), (DAY, -DAY)],
)
def test_what_slurm_may_have_purged_is_not_asked_for(purge_after_s: int, oldest_s: int) -> None:
    ages = (0, 17 * DAY, 19 * DAY, 27 * DAY, 29 * DAY)
    known = tuple(Canary(NOW - age_s, age_s, age_s) for age_s in ages)
    usable = canary.usable(known, NOW, purge_after_s)
    assert [each.run for each in usable] == [age_s for age_s in ages if age_s < oldest_s]


@pytest.mark.parametrize(
    ("asked", "found", "alarm"),
    [(1, 0, True), (1, 1, False), (2, 1, True), (3, 2, False), (3, 1, True), (8, 5, False),
     (8, 4, True), (8, 1, True), (0, 0, False)],
)  # fmt: skip
def test_half_of_them_missing_is_an_alarm(asked: int, found: int, alarm: bool) -> None:
    """One that was deleted by hand is none; who sees only his own jobs misses most."""
    canaries = tuple(Canary(NOW, number, number) for number in range(asked))
    missing = canary.lost(canaries, Runs(range(found)))
    assert len(missing) == asked - found
    assert canary.is_alarming(canaries, missing) == alarm
