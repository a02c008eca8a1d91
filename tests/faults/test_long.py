"""The long version: thousands of kills while a million records pass (`make test-faults`)."""

import os
import time

import pytest

from tests.faults.truth import add_up, some_runs, write_runs
from tests.faults.world import World

KILLS = int(os.environ.get("JOBLEDGER_TEST_KILLS", "10000"))
"""On each kind of database, half of them of collectors."""
RECORDS = int(os.environ.get("JOBLEDGER_TEST_RECORDS", "1000000"))
ROUND_RECORDS = 100_000


@pytest.mark.long
@pytest.mark.timeout(0)
def test_long_kills_of_both_programs(world: World) -> None:
    """Each round is a cluster of its own; both programs die all the time until it is over."""
    rounds = max(1, RECORDS // ROUND_RECORDS)
    for number in range(rounds):
        cluster = f"c{number}"
        runs = some_runs(ROUND_RECORDS, seed=number)
        dump = write_runs(world.folder / f"{cluster}.txt", runs, cluster)
        due = KILLS * (number + 1) // rounds
        while world.kills < due:
            world.start_collector()
            agent = world.start_once(dump)
            time.sleep(world.dice.uniform(0.0, 1.5))
            world.kill_collector()
            world.kill_agent(agent)
        world.start_collector()
        world.finishes(world.start_once(dump, timeout_s=600), patience_s=600)
        world.assert_exact(add_up(runs), cluster=cluster)
        assert world.collector
        world.collector.stop()
        dump.unlink()
    assert world.kills >= KILLS
    assert world.count("job_runs") == rounds * ROUND_RECORDS
