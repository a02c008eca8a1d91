"""The quarantine: each record once, with its reason, as it came."""

import pytest

from jobledger_collector.core.record import Quarantined
from jobledger_collector.store import quarantine
from jobledger_collector.store.engine import open_engine, reading, transaction
from jobledger_collector.store.handles import Engine
from jobledger_collector.store.quarantined import iter_quarantine


@pytest.fixture
def engine(database_url: str) -> Engine:
    return open_engine(database_url)


def a_record(**over: object) -> Quarantined:
    """An unreadable line, unless said otherwise."""
    usual = {"cluster": "alpha", "origin": "f:1", "reason": "3 fields", "raw": b"1|2\xff\0",
             "raw_size": 5}  # fmt: skip
    return Quarantined(**{**usual, **over})  # type: ignore[arg-type]


def test_a_record_that_comes_again_is_counted_not_repeated(engine: Engine) -> None:
    for now_s in (10, 20, 30):
        with transaction(engine) as conn:
            quarantine.keep(conn, f"agent-{now_s}", [a_record(origin=f"f:{now_s}")], now_s)
    with reading(engine) as conn:
        (row,) = iter_quarantine(conn)
        assert quarantine.count(conn) == 1
    assert (row.times, row.first_seen, row.last_seen) == (3, 10, 30)
    assert (row.agent, row.origin, row.raw) == ("agent-30", "f:30", b"1|2\xff\0")


def test_cluster_raw_and_reason_tell_records_apart(engine: Engine) -> None:
    different = [a_record(), a_record(cluster="beta"), a_record(raw=b"x"), a_record(reason="r")]
    with transaction(engine) as conn:
        quarantine.keep(conn, "agent", [*different, *different], 10)
    with reading(engine) as conn:
        assert [row.times for row in iter_quarantine(conn)] == [2, 2, 2, 2]
