"""What the live source knows and asks next: watermark, overlap, outages, and their position."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.reading import window
from jobledger_agent.reading.canary import Canary
from jobledger_agent.reading.sweep import Pace, Progress
from jobledger_agent.reading.window import Again, Known
from jobledger_agent.records.runs import Runs, job_id_of, run_of
from jobledger_agent.records.tree import TreeMark

NOW = 1_795_300_000
DAY = 86_400


def first(known: Known, *, now: int = NOW, is_empty: bool = True) -> int:
    return window.first_end(known, now, overlap_s=600, lookback_s=31 * DAY, queue_is_empty=is_empty)


def well(known: Known, now: int = NOW, overlap_s: int = 600) -> Known:
    return window.went_well(known, now, overlap_s=overlap_s, mark=now - 60)


def test_the_first_cycle_looks_back_and_each_later_one_overlaps() -> None:
    assert first(Known()) == NOW - 31 * DAY
    assert first(Known(NOW - 60)) == NOW - 660
    assert first(Known(NOW - 5 * DAY)) == NOW - 5 * DAY - 600
    assert first(Known(NOW + 5000)) == NOW - 31 * DAY, "a clock that was set back: since when?"


def test_the_watermark_follows_the_mark_and_never_goes_back() -> None:
    assert well(Known()).watermark == NOW - 60
    assert well(Known(NOW - 30)).watermark == NOW - 30
    assert well(Known(NOW + 30)).watermark == NOW - 60, "but from the future of a wrong clock"
    assert window.reached(Known(NOW - DAY), NOW - 900, mark=NOW - 900).watermark == NOW - 900


def test_while_slurmctld_holds_messages_only_the_newest_ends_are_read_again() -> None:
    known = window.reached(Known(NOW - DAY), NOW - 100, mark=0)
    assert known.watermark == NOW - DAY
    assert first(known, is_empty=False) == NOW - 700
    assert first(known) == NOW - DAY - 600, "all of it once the queue is empty"


@pytest.mark.parametrize(
    ("silence_s", "is_outage"), [(0, False), (300, False), (301, True), (3 * DAY, True), (-5, True)]
)
def test_an_outage_is_read_again_ten_minutes_and_an_hour_later(
    silence_s: int, is_outage: bool
) -> None:
    known = Known(NOW - DAY, read_at=NOW - silence_s)
    begin = min(NOW, NOW - silence_s) - 600
    known = well(known)
    assert known.read_at == NOW
    assert known.again == ((Again(NOW + 600, begin), Again(NOW + 3600, begin)) if is_outage else ())
    known = known._replace(watermark=NOW + 500)
    if is_outage:
        assert first(known, now=NOW + 599) == NOW - 100
        assert first(known, now=NOW + 600) == begin
        assert well(known, NOW + 600, overlap_s=1300).again == (Again(NOW + 3600, begin),)


def test_the_first_cycle_of_all_ends_no_outage() -> None:
    assert well(Known()).again == ()


def test_many_outages_are_merged_into_one_reading() -> None:
    known = Known(read_at=NOW)
    for number in range(1, 20):
        known = well(known, NOW + 400 * number)
        assert len(known.again) <= window.AGAIN_MAX
        assert min(again.begin for again in known.again) == NOW - 600 or number > 8


FIRST_FORM = json.dumps(
    {"alpha": {"watermark": NOW, "open": Runs([run_of(7, NOW)]).packed(), "open_at": NOW - 9}}
)


def test_a_position_of_the_first_form_is_read() -> None:
    """Its open runs were packed the same way; that it was well until its watermark is known."""
    assert window.read_position(FIRST_FORM) == {
        "alpha": Known(NOW, Runs([run_of(7, NOW)]), NOW - 9, read_at=NOW)
    }


@pytest.mark.parametrize(
    "position", ["", "x", "[]", "{}", '{"alpha": 3}', '{"alpha": {"open": 1}}', "\0" * 9,
                 FIRST_FORM.replace('"open"', '"shut"'), FIRST_FORM[:-2]],
)  # fmt: skip
def test_a_position_that_is_not_ours_is_the_beginning(position: str) -> None:
    assert window.read_position(position) == {}


times = st.integers(0, 2**32 - 1)
runs = st.builds(lambda ids: Runs(run_of(*pair) for pair in ids), st.lists(st.tuples(times, times)))
knowledge = st.builds(
    Known, times, runs, times, times, times,
    st.lists(st.builds(Again, times, times), max_size=8).map(tuple),
    st.builds(Pace, st.integers(900, DAY), st.integers(0, 3)),
    st.builds(Progress, times, times, times, times),
    st.lists(st.builds(Canary, times, times, times), max_size=8).map(tuple), times, times,
    st.builds(TreeMark, times, times, st.text()),
)  # fmt: skip


@given(st.dictionaries(st.text(min_size=1), knowledge, max_size=3))
def test_a_position_comes_back(known: dict[str, Known]) -> None:
    text = window.write_position(known)
    assert window.read_position(text) == known
    assert window.write_position(window.read_position(text)) == text


@given(st.sets(st.tuples(times, times)), st.sets(st.tuples(times, times)))
def test_packed_runs_are_a_set(some: set[tuple[int, int]], others: set[tuple[int, int]]) -> None:
    one = Runs(run_of(*pair) for pair in [*some, *some])
    two = Runs(run_of(*pair) for pair in others)
    assert len(one) == len(some)
    assert list(one) == sorted(run_of(*pair) for pair in some)
    assert set(one.without(two)) == {run_of(*pair) for pair in some - others}
    assert all(run_of(*pair) in one for pair in some)
    assert Runs.unpacked(one.packed()) == one
    assert {job_id_of(run) for run in one} == {job_id for job_id, _ in some}
