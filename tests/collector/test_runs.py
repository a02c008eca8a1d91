"""Runs and charges in the store: read in streams, replaced by closing and adding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_collector.core.charge import Charge
from jobledger_collector.core.record import RunKey
from jobledger_collector.store import runs as runs_module
from jobledger_collector.store.charges import Owed, difference, find_standing, replace_charges
from jobledger_collector.store.engine import reading, transaction
from jobledger_collector.store.rows import ChargeRow, StandingCharge
from jobledger_collector.store.runs import Rating, iter_runs, set_ratings
from tests.collector.ingesting import Collector
from tests.factories import a_job

KEY = RunKey("alpha", 1, 100)


@pytest.fixture
def collector(database_url: str) -> Collector:
    return Collector(database_url)


def test_runs_are_streamed_in_the_order_of_their_keys(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "PAGE_RUNS", 3)
    jobs = [a_job(n, cluster=cluster) for cluster in ("beta", "alpha") for n in (10, 9, 2, 1)]
    collector.take(*jobs, a_job(3, end=0), a_job(4, submit=200, start=200, end=300))
    with reading(collector.engine) as conn:
        keys = [run.key for run in iter_runs(conn)]
        assert keys == sorted(keys)
        assert len(keys) == 9
        late = [run.key for run in iter_runs(conn, ended_after=106)]
        assert late == [RunKey("alpha", 4, 200)]
        rest = [run.key for run in iter_runs(conn, after=keys[4])]
        assert rest == keys[5:]


def test_runs_may_be_written_while_they_are_streamed(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "PAGE_RUNS", 2)
    collector.take(*(a_job(n) for n in range(1, 8)))
    with transaction(collector.engine) as conn:
        for run in iter_runs(conn):
            set_ratings(conn, [Rating(run.key, ("no_price",), "other", 202610)])
    assert {(run.flags, run.billing_account, run.period) for run in collector.all_runs()} == {
        (("no_price",), "other", 202610)
    }


def owed(*units: tuple[str, int]) -> Owed:
    """What run 1 shall owe: (item, base units), without a price."""
    charges = tuple(Charge(item, 0, 100, count, count, None) for item, count in units)
    return Owed(KEY, 2, "physics", 197001, charges)


def test_replacing_touches_only_what_differs_and_repeats_to_nothing(collector: Collector) -> None:
    collector.take(a_job(1, account="physics"))
    with transaction(collector.engine) as conn:
        assert replace_charges(conn, [owed(("cpu", 5), ("mem", 7))], lambda _: 0) == 1
        assert replace_charges(conn, [owed(("cpu", 5), ("mem", 7))], lambda _: 0) == 0
        (standing,) = find_standing(conn, [KEY]).values()
    assert {(old.row.item, old.row.base_units) for old in standing} == {("cpu", 5), ("mem", 7)}
    closed = [row for row, _ in collector.charges() if row.superseded_by]
    assert {(row.item, row.superseded_by) for row in closed} == {("cpu", 1), ("gpu", 1)}


def test_a_charge_can_come_back_under_the_next_number(collector: Collector) -> None:
    collector.take(a_job(1))
    for change in range(1, 4):
        with transaction(collector.engine) as conn:
            replace_charges(conn, [owed(("cpu", change))], lambda _: 0)
    numbers = [row.superseded_by for row, _ in collector.charges() if row.item == "cpu"]
    assert sorted(numbers) == [0, 1, 2, 3]


rows = st.builds(
    ChargeRow,
    cluster=st.just("alpha"), job_id=st.just(1), submit=st.just(100),
    item=st.sampled_from(["cpu", "gpu", "mem"]), segment=st.integers(0, 1),
    superseded_by=st.just(0), kind=st.just(1), revision=st.integers(1, 3),
    segment_start=st.integers(100, 101), price_id=st.integers(0, 1), base_units=st.integers(0, 2),
    quantity_micro=st.integers(0, 2), billing_account=st.sampled_from(["a", "b"]),
    period=st.just(197001),
)  # fmt: skip
sets_of_rows = st.lists(rows, max_size=6, unique_by=lambda row: (row.item, row.segment))


@given(sets_of_rows, sets_of_rows)
def test_closing_and_adding_leads_from_one_set_of_charges_to_the_other(
    old: list[ChargeRow], new: list[ChargeRow]
) -> None:
    change = difference([StandingCharge(row, None) for row in old], new)
    left = set(old) - {standing.row for standing in change.close}
    same = {row._replace(revision=0) for row in [*left, *change.add]}
    assert same == {row._replace(revision=0) for row in new}
    assert difference([StandingCharge(row, None) for row in new], new) == ((), ())
