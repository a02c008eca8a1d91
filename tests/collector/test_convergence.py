"""The promise: any order, repetition and batching of sightings bills each run once.

The same sightings are delivered twice to the real database, once in order and
once shuffled, repeated, cut into other batches and with invoices issued in
between; what stands afterwards must be the same to the last unit.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from jobledger_collector.core.record import JobRecord, Verdict
from jobledger_collector.core.revise import join, settle
from jobledger_collector.store.engine import transaction
from jobledger_collector.store.schema import charges, job_runs, quarantine, run_revisions
from tests.collector.ingesting import Collector
from tests.collector.sightings import once, sightings

POSTGRES_EXAMPLES = 25
SQLITE_EXAMPLES = 100
_settings = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


class Delivery(NamedTuple):
    """Sightings in the order of their birth, and as they are delivered."""

    records: Sequence[JobRecord]
    batches: Sequence[Sequence[JobRecord]]


@st.composite
def deliveries(draw: st.DrawFn) -> Delivery:
    """Up to ten sightings of three runs, shuffled, some repeated, in batches."""
    records = draw(st.lists(sightings(job_ids=3), min_size=1, max_size=10))
    repeated = draw(st.lists(st.sampled_from(records), max_size=4))
    order = draw(st.permutations([*records, *repeated]))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(order) - 1)), max_size=4)))
    edges = [0, *cuts, len(order)]
    batches = [order[a:b] for a, b in pairwise(edges)]
    return Delivery(records, [batch for batch in batches if batch])


@given(deliveries())
@settings(_settings, max_examples=SQLITE_EXAMPLES)
def test_order_repetition_and_batches_do_not_matter_on_sqlite(
    sqlite_books: Collector, delivery: Delivery
) -> None:
    _check_converges(sqlite_books, delivery)


@pytest.mark.postgres
@given(deliveries())
@settings(_settings, max_examples=POSTGRES_EXAMPLES)
def test_order_repetition_and_batches_do_not_matter_on_postgresql(
    postgres_books: Collector, delivery: Delivery
) -> None:
    _check_converges(postgres_books, delivery)


@given(deliveries(), st.sets(st.integers(0, 4)))
@settings(_settings, max_examples=SQLITE_EXAMPLES // 2)
def test_invoices_in_between_bill_the_same_in_the_end(
    sqlite_books: Collector, delivery: Delivery, invoiced_after: set[int]
) -> None:
    _empty(sqlite_books)
    for number, batch in enumerate(delivery.batches):
        sqlite_books.take(*batch)
        if number in invoiced_after:
            sqlite_books.invoice(number + 1)
    sqlite_books.invoice(99)
    assert sqlite_books.owed() == _expected_cpu_s(delivery.records)
    assert sqlite_books.billed() == _expected_cpu_s(delivery.records)
    assert all(row.superseded_by == 0 or row.kind for row, _ in sqlite_books.charges())


@pytest.fixture
def sqlite_books(sqlite_url: str) -> Collector:
    return Collector(sqlite_url)


@pytest.fixture
def postgres_books(postgres_url: str) -> Collector:
    return Collector(postgres_url)


def _check_converges(collector: Collector, delivery: Delivery) -> None:
    _empty(collector)
    for record in delivery.records:
        collector.take(record)
    states, standing = collector.states(), collector.standing()
    _empty(collector)
    for batch in delivery.batches:
        collector.take(*batch)
    assert collector.states() == states
    assert collector.standing() == standing
    assert collector.owed() == _expected_cpu_s(delivery.records)
    assert sum(run.usage.cpu_s for run in states.values()) == collector.owed()
    again = [verdict for batch in delivery.batches for verdict in collector.take(*batch)]
    assert set(again) <= {Verdict.KNOWN, Verdict.QUARANTINED}
    assert (collector.states(), collector.standing()) == (states, standing)


def _expected_cpu_s(records: Sequence[JobRecord]) -> int:
    by_run: dict[int, list[JobRecord]] = {}
    for record in records:
        by_run.setdefault(record.job_id, []).append(record)
    histories = [reduce(join, map(once, seen)) for seen in by_run.values()]
    return sum(settle(history).usage.cpu_s for history in histories)


def _empty(collector: Collector) -> None:
    """Start anew: faster than another database, and charges may go where none is invoiced."""
    with transaction(collector.engine) as conn:
        if conn.dialect.name == "sqlite":
            conn.exec_driver_sql("DROP TRIGGER IF EXISTS charges_kept")
        for table in (charges, run_revisions, job_runs, quarantine):
            conn.execute(delete(table))
