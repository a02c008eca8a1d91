"""Revisions: the same sightings come to the same run, in any order."""

from functools import reduce
from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_collector.core.carried import pack, unpack
from jobledger_collector.core.record import Flag, JobRecord
from jobledger_collector.core.revise import SKEW_S, History, held_reason, join, settle
from tests.collector.sightings import once, seen, sightings
from tests.factories import a_tres

histories = st.lists(sightings(), min_size=1, max_size=5).map(
    lambda records: reduce(join, map(once, records))
)


@given(histories, histories)
def test_join_is_commutative(one: History, other: History) -> None:
    assert join(one, other) == join(other, one)


@given(histories, histories, histories)
def test_join_is_associative(one: History, two: History, three: History) -> None:
    assert join(join(one, two), three) == join(one, join(two, three))


@given(histories, histories)
def test_join_is_idempotent(one: History, other: History) -> None:
    assert join(one, one) == one
    assert join(join(one, other), other) == join(one, other)


@given(st.lists(sightings(), min_size=1, max_size=8).flatmap(
    lambda records: st.tuples(st.just(records), st.permutations(records))
))  # fmt: skip
def test_any_order_and_repetition_settles_the_same(
    orders: tuple[list[JobRecord], list[JobRecord]],
) -> None:
    records, shuffled = orders
    straight = reduce(join, map(once, records))
    again = reduce(join, map(once, [*shuffled, *records]))
    assert settle(straight) == settle(again)


@given(histories)
def test_the_row_and_what_it_carries_hold_the_whole_history(history: History) -> None:
    settled = settle(history)
    assert unpack(settled.record, settled.digest, pack(history, settled)) == history


@given(histories)
def test_settled_usage_never_counts_a_second_twice(history: History) -> None:
    spans = sorted(settle(history).usage.spans)
    for earlier, later in pairwise(spans):
        assert earlier.end <= later.start


def test_a_run_seen_once_carries_nothing() -> None:
    history = seen()
    assert pack(history, settle(history)) == ""


FEW = a_tres("cpu=2,mem=100")
MORE = a_tres("cpu=4,gres/gpu=1,mem=100")

# (what it is, the sightings, CPU seconds, start and end shown, flags)
SETTLED: list[tuple[str, list[dict[str, Any]], int, tuple[int, int], tuple[Flag, ...]]] = [
    ("running, then ended",
     [{"end": 0, "observed": 101}, {"end": 106, "observed": 200}], 12, (100, 106), ()),
    ("ended is not reopened by an older view of it, however late it arrives",
     [{"end": 106, "observed": 200}, {"end": 0, "observed": 201}], 12, (100, 106), ()),
    ("cancelled by a flush, then the truth (case 35)",
     [{"end": 150, "state": "CANCELLED", "observed": 200}, {"end": 600, "observed": 700}],
     1000, (100, 600), ()),
    ("the newest sighting wins even when it is the shorter one",
     [{"end": 600, "observed": 700}, {"end": 150, "observed": 800}], 100, (100, 150), ()),
    ("start moves while it boots (case 36)",
     [{"end": 0, "observed": 150}, {"start": 220, "end": 0, "observed": 230},
      {"start": 220, "end": 300, "observed": 310}], 160, (220, 300), ()),
    ("two runs merged into one row (case 19)",
     [{"end": 200, "observed": 210}, {"start": 300, "end": 400, "observed": 410}],
     400, (300, 400), (Flag.MERGED_RUN,)),
    ("one run after another is not an overlap",
     [{"end": 200, "observed": 210}, {"start": 200, "end": 300, "observed": 310}],
     400, (200, 300), (Flag.MERGED_RUN,)),
    ("merged, and the second never started",
     [{"end": 200, "observed": 210}, {"start": 0, "end": 400, "observed": 410}],
     200, (0, 400), (Flag.MERGED_RUN,)),
    ("a third sighting shows that two were one",
     [{"end": 200, "observed": 210}, {"start": 300, "end": 400, "observed": 410},
      {"end": 400, "observed": 420}], 600, (100, 400), ()),
    ("allocation shrank after the end (case 38)",
     [{"observed": 200, "alloc_tres": MORE}, {"observed": 300, "alloc_tres": FEW}],
     24, (100, 106), (Flag.HELD_CHANGE,)),
    ("allocation grew after the end",
     [{"observed": 200, "alloc_tres": FEW}, {"observed": 300, "alloc_tres": MORE}],
     24, (100, 106), ()),
    ("open for days, then found to have ended as it began (case 34)",
     [{"end": 0, "observed": 3_000_000}, {"end": 100, "observed": 3_000_100}],
     0, (100, 100), (Flag.OPEN_AFTER_END,)),
    ("seen open a moment after its end: clocks differ",
     [{"end": 0, "observed": 106 + SKEW_S}, {"end": 106, "observed": 500}], 12, (100, 106), ()),
    ("revoked first, then it ran here after all",
     [{"state": "REVOKED", "observed": 200}, {"observed": 300}], 12, (100, 106), ()),
]  # fmt: skip


@pytest.mark.parametrize(("what", "views", "cpu_s", "shown", "flags"), SETTLED)
def test_sightings_come_to(
    what: str,
    views: list[dict[str, Any]],
    cpu_s: int,
    shown: tuple[int, int],
    flags: tuple[Flag, ...],
) -> None:
    for order in permutations(views):
        settled = settle(reduce(join, [seen(**view) for view in order]))
        assert settled.usage.cpu_s == cpu_s, what
        assert (settled.record.start, settled.record.end) == shown, what
        assert tuple(flag for flag in settled.flags if flag is not Flag.NO_MEMORY) == flags, what


# (what it is, the sightings, energy, CPU time, largest resident set and steps shown)
MEASURED: list[tuple[str, list[dict[str, Any]], tuple[int, int, int, int]]] = [
    ("nothing was measured", [{}, {"observed": 2_000}], (-1, -1, -1, 0)),
    ("steps that were not read again take nothing back",
     [{"energy_j": 50, "total_cpu_ms": 7, "max_rss_bytes": 9, "steps": 2}, {"observed": 2_000}],
     (50, 7, 9, 2)),
    ("energy comes late (case 33)",
     [{}, {"observed": 2_000, "energy_j": 50}, {"observed": 3_000}], (50, -1, -1, 0)),
    ("an energy that was corrected is the newest one that is known",
     [{"energy_j": 9_000}, {"observed": 2_000, "energy_j": 50}, {"observed": 3_000}],
     (50, -1, -1, 0)),
    ("no energy is not known to be none",
     [{"energy_j": 50}, {"observed": 2_000, "energy_j": 0}], (50, -1, -1, 0)),
    ("some steps are fewer than all",
     [{"total_cpu_ms": 7, "max_rss_bytes": 9, "steps": 2},
      {"observed": 2_000, "total_cpu_ms": 5, "max_rss_bytes": 10, "steps": 1}], (-1, 7, 10, 2)),
    ("an end that moved keeps what was measured before",
     [{"end": 150, "energy_j": 50, "steps": 1}, {"end": 600, "observed": 2_000}],
     (50, -1, -1, 1)),
    ("an end that moved, measured anew",
     [{"end": 150, "energy_j": 50}, {"end": 600, "observed": 2_000, "energy_j": 70},
      {"end": 600, "observed": 3_000}], (70, -1, -1, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("what", "views", "shown"), MEASURED)
def test_what_was_measured_is_never_forgotten(
    what: str, views: list[dict[str, Any]], shown: tuple[int, int, int, int]
) -> None:
    for order in permutations(views):
        history = reduce(join, [seen(**view) for view in order])
        settled = settle(history)
        record = settled.record
        told = (record.energy_j, record.total_cpu_ms, record.max_rss_bytes, record.steps)
        assert tuple(max(figure, -1) for figure in told) == shown, what
        assert settled.usage.energy_j == shown[0], what
        assert unpack(record, settled.digest, pack(history, settled)) == history, what


def test_merged_runs_have_the_energy_of_each() -> None:
    first = seen(end=200, energy_j=50, observed=210)
    second = seen(start=300, end=400, energy_j=70, observed=410)
    forgotten = seen(start=300, end=400, observed=500)
    for order in permutations([first, second, forgotten]):
        assert settle(reduce(join, order)).usage.energy_j == 120


@given(histories, histories)
def test_energy_that_is_known_stays_known(one: History, other: History) -> None:
    before, after = settle(one), settle(join(one, other))
    if before.usage.energy_j > 0 and not after.held:
        assert after.usage.energy_j > 0


def test_attribution_is_that_of_the_earliest_ended_sighting() -> None:
    before = seen(end=0, observed=150, user="root", account="pending")
    first = seen(observed=200, user="alice", account="physics", wckey="w")
    later = seen(observed=300, user="alicia", account="chem", wckey="x", energy_j=9)
    for order in permutations([before, first, later]):
        settled = settle(reduce(join, order))
        record = settled.record
        assert (record.user, record.account, record.wckey) == ("alice", "physics", "w")
        assert record.energy_j == 9
        assert settled.flags == (Flag.ATTRIBUTION_KEPT,)


def test_while_it_is_open_the_newest_attribution_counts() -> None:
    moved = join(seen(end=0, observed=1, account="a"), seen(end=0, observed=2, account="b"))
    assert settle(moved).record.account == "b"


SHRUNK = [
    ("cpu=4,mem=100", "cpu=2,mem=100", "cpu"),
    ("cpu=4,mem=100", "cpu=4,mem=50", "mem"),
    ("cpu=4,gres/gpu=2", "cpu=8,gres/gpu=1", "gres/gpu"),
    ("cpu=4,gres/gpu:a100=1", "cpu=4,gres/gpu=1", "gres/gpu:a100"),
    ("cpu=4,mem=100", "mem=100", "cpu"),
    ("cpu=4,node=2,billing=9", "cpu=4,node=1,billing=1", ""),
    ("cpu=4,mem=100", "cpu=4,mem=200", ""),
]


@pytest.mark.parametrize(("before", "after", "less"), SHRUNK)
def test_only_cpu_memory_and_gres_may_not_shrink(before: str, after: str, less: str) -> None:
    history = join(seen(observed=200, tres=before), seen(observed=300, tres=after))
    held = settle(history).held
    assert len(held) == bool(less)
    if less:
        assert f"less {less} than" in held_reason(held[0], history)
