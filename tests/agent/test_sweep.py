"""How the past is read again: every second of it once a sweep, in slices that Slurm bears."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.reading import sweep
from jobledger_agent.reading.sweep import DAY_S, SLICE_MIN_S, Pace, Progress

NOW = 1_795_300_000


def begun(days: int = 35, purge_after_s: int = 0, now: int = NOW) -> Progress:
    return sweep.begin(Progress(), now, watermark=now - 60, days=days, purge_after_s=purge_after_s)


@given(st.integers(1, 60), st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 20_000))))
def test_a_sweep_covers_each_second_once_whatever_the_pace(
    days: int, answers: list[tuple[int, int]]
) -> None:
    """``answers``: rows and milliseconds of each slice's answer; then all are easy."""
    progress, pace, covered = begun(days), Pace(), NOW - days * DAY_S
    given_answers = iter(answers)
    while progress.is_under_way:
        begin, end = sweep.next_slice(progress, pace)
        assert begin == covered
        assert begin <= end <= NOW - 60
        assert end - begin < sweep.SLICE_MAX_S
        rows, took_ms = next(given_answers, (10, 10))
        pace = pace.after(end - begin, rows, took_ms)
        progress = sweep.after_slice(progress, end)
        covered = end + 1
    assert covered == NOW - 60 + 1
    assert progress.through == NOW - 60


def test_a_slice_is_halved_when_it_was_hard_and_grows_slowly_when_easy() -> None:
    pace = Pace()
    assert pace.slice_s == DAY_S
    for rows, took_ms in ((50_001, 10), (10, 15_001)):
        assert Pace(40_000).after(40_000, rows, took_ms) == Pace(20_000)
    assert Pace(DAY_S).halved(2_000) == Pace(1_000), "half of what was asked, not of what might be"
    assert Pace(1_000).halved(1_000) == Pace(SLICE_MIN_S)
    pace = Pace(40_000)
    for expected in (40_000, 40_000, 50_000, 50_000, 50_000, 62_500):
        pace = pace.after(pace.slice_s, 10, 10)
        assert pace.slice_s == expected
    for _ in range(100):
        pace = pace.after(pace.slice_s, 10, 10)
    assert pace.slice_s == DAY_S
    assert Pace(40_000, 2).after(660, 10, 10) == Pace(40_000, 2), "a short span proves nothing"


@pytest.mark.parametrize(
    ("days", "purge_after_s", "first"),
    [
        (35, 0, NOW - 35 * DAY_S),
        (35, -1, NOW - 35 * DAY_S),
        (35, 365 * DAY_S, NOW - 35 * DAY_S),
        (35, 28 * DAY_S, NOW - 26 * DAY_S),
        (0, 0, 0),
        (35, 2 * DAY_S, 0),
        (35, 3_600, 0),
    ],
)
def test_nothing_is_swept_that_slurm_may_have_purged(
    days: int, purge_after_s: int, first: int
) -> None:
    """``first`` 0: no sweep at all. What is purged has not been deleted by anybody (case 41)."""
    progress = begun(days, purge_after_s)
    assert progress.next == first
    assert progress.is_under_way == bool(first)
    assert progress.begun == NOW


def test_a_sweep_begins_once_a_day_and_not_while_one_is_under_way() -> None:
    assert Progress().due(NOW)
    assert not begun().due(NOW + 3 * DAY_S), "the last one has not ended yet"
    ended = Progress(begun=NOW, through=NOW - 60)
    assert not ended.due(NOW + DAY_S - 1)
    assert ended.due(NOW + DAY_S)
    assert ended.due(NOW - 1), "a clock that was set back"
