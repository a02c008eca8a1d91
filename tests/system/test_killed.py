"""kill -9 at random while 100,000 records stream: the sums stay exact."""

import random
import time
from pathlib import Path

import pytest
from sqlalchemy import Table, func, select, text

from jobledger_collector.store.engine import open_engine
from jobledger_collector.store.schema import quarantine, run_revisions
from tests.ports import free_port
from tests.system.bulk import Sums, write_dump
from tests.system.programs import start_agent_once, start_collector

RUNS = 100_000
KILLS_MIN = 8
GIVE_UP_S = 240.0


def stored_sums(url: str) -> Sums:
    engine = open_engine(url)
    with engine.connect() as connection:
        row = connection.execute(
            text(
                "SELECT count(*), sum(elapsed_s), sum(cpu_s), sum(gpu_s), sum(mem_mib_s),"
                " sum(node_s) FROM job_runs"
            )
        ).one()
    engine.dispose()
    return Sums(*(int(value or 0) for value in row))


def rows_of(url: str, table: Table) -> int:
    engine = open_engine(url)
    with engine.connect() as connection:
        found = connection.execute(select(func.count()).select_from(table)).scalar_one()
    engine.dispose()
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [20_261_120])
def test_sums_stay_exact_while_both_programs_are_killed(
    database_url: str, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    dump = tmp_path / "dump.txt"
    expected = write_dump(dump, RUNS)
    port = free_port()
    collector_log, agent_log = tmp_path / "collector.log", tmp_path / "agent.log"
    kills = 0
    deadline = time.monotonic() + GIVE_UP_S
    collector = start_collector(database_url, port, collector_log)
    agent = start_agent_once(port, tmp_path / "spool.db", str(dump), log=agent_log)
    try:
        while agent.process.poll() is None or kills < KILLS_MIN:
            assert time.monotonic() < deadline, agent.output()[-3000:]
            if kills < KILLS_MIN:
                time.sleep(dice.uniform(0.4, 1.6))
                victims = dice.choice(("agent", "collector", "both"))
                kills += 1
                if victims != "agent":
                    collector.kill()
                    collector = start_collector(database_url, port, collector_log)
                if victims != "collector":
                    agent.kill()
                    agent = start_agent_once(port, tmp_path / "spool.db", str(dump), log=agent_log)
            else:
                time.sleep(0.2)
        assert agent.process.returncode == 0, agent.output()[-3000:]
    finally:
        agent.kill()
        collector.kill()
    assert kills >= KILLS_MIN
    assert stored_sums(database_url) == expected
    assert rows_of(database_url, quarantine) == 0
    assert rows_of(database_url, run_revisions) == 0
