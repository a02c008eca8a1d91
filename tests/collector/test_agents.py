"""Agents as the collector knows them."""

import pytest

from jobledger_collector.core.reporter import Greeting, Health
from jobledger_collector.store import agents
from jobledger_collector.store.engine import open_engine, reading, transaction
from jobledger_collector.store.handles import Engine
from jobledger_collector.store.status import read_status


@pytest.fixture
def engine(database_url: str) -> Engine:
    return open_engine(database_url)


def test_an_agent_is_one_row_however_often_it_connects(engine: Engine) -> None:
    for now_s, version in ((10, "1"), (20, "2")):
        with transaction(engine) as conn:
            agents.greet(conn, Greeting("slurm-1", version, ("alpha", "beta"), 40), now_s)
    with transaction(engine) as conn:
        agents.note_health(conn, "slurm-1", Health(7, 99, -3, "sacct is away", 2, 40), 30)
        agents.count_records(conn, "slurm-1", (5, 0, 2, 1), 40)
        agents.count_records(conn, "slurm-1", (5, 1, 0, 0), 50)
    with reading(engine) as conn:
        (row,) = agents.list_agents(conn)
    assert row == {
        "name": "slurm-1", "version": "2", "clusters": "alpha,beta", "first_seen": 10,
        "last_seen": 50, "clock_skew_ms": -3, "spool_records": 7, "complete_through": 99,
        "source_error": "sacct is away", "records_new": 10, "records_known": 1,
        "records_revised": 2, "records_quarantined": 1, "held_records": 2, "dbd_queue": 40,
    }  # fmt: skip


def test_status_counts_what_is_there(engine: Engine) -> None:
    with transaction(engine) as conn:
        agents.greet(conn, Greeting("slurm-1", "1", (), 0), 10)
    with reading(engine) as conn:
        status = read_status(conn)
    assert status[:4] == (0, 0, 0, 0)
    assert [agent["name"] for agent in status.agents] == ["slurm-1"]
