"""What happens in faults 13, 14, 16 and 24: they mostly wait, and do so beside other tests."""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Final

from tests.faults.proxy import Weather
from tests.faults.trouble import commits_held_up, rival
from tests.faults.truth import add_up, some_runs, write_runs
from tests.faults.world import CLUSTER, World, said, until
from tests.system.programs import Running

PARTITION_S = int(os.environ.get("JOBLEDGER_TEST_PARTITION_S", "25"))
"""1800 is what a network may do at night; a partition of that length changes nothing but time."""
SLOW_COMMIT_S = 10
LONG_S = 120.0
PATIENT_S = 3_600

SLOW_COMMIT = f"""
CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep({SLOW_COMMIT_S}); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON job_runs
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.job_id % 1000 = 500)
EXECUTE FUNCTION slow_commit();
"""


def half_open(world: World) -> int:
    """The way is gone in both directions and nobody says so: the agent notices by the silence."""
    runs = some_runs(8_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    world.start_collector()
    dying = world.proxy.weather
    dying.bytes_per_s, dying.slice_bytes = 200_000, 4_096
    agent = world.start_once(dump, timeout_s=PATIENT_S)
    until("batches are on their way", lambda: world.proxy.bytes_up > 60_000)
    world.proxy.weather = Weather()
    dying.swallow_up = dying.swallow_down = True
    world.finishes(agent, patience_s=LONG_S)
    assert world.proxy.accepted == 2
    world.assert_exact(add_up(runs))
    return len(runs)


def latency(world: World) -> int:
    """Two seconds each way: slow, but one stream and nothing sent twice."""
    runs = some_runs(3_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    world.start_collector()
    world.proxy.weather.delay_s = 2.0
    world.finishes(world.start_once(dump, timeout_s=PATIENT_S), patience_s=LONG_S)
    assert world.proxy.accepted == 1
    world.assert_exact(add_up(runs))
    assert world.count("agents", "records_known = 0") == 1
    return len(runs)


def partition(world: World) -> int:
    """No packet passes, then all do: everything that was read meanwhile arrives."""
    runs = some_runs(8_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    world.start_collector()
    world.proxy.weather.bytes_per_s = 200_000
    agent = world.start_once(dump, timeout_s=PATIENT_S)
    until("batches are on their way", lambda: world.proxy.bytes_up > 60_000)
    gone = world.proxy.weather
    gone.is_partitioned, gone.bytes_per_s = True, 0
    time.sleep(PARTITION_S)
    gone.is_partitioned = False
    world.finishes(agent, patience_s=LONG_S)
    world.assert_exact(add_up(runs))
    return len(runs)


def has_moved(world: World, before: int, agent: Running) -> bool:
    return world.count("job_runs") > before or not agent.is_running


def slow_commits(world: World) -> int:
    """Each commit takes ten seconds: the agent waits, on one stream, and sends nothing again."""
    runs = some_runs(3_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    if world.is_postgres:
        with rival(world) as connection:
            connection.cursor().execute(SLOW_COMMIT)
    world.start_collector()
    began = time.monotonic()
    agent = world.start_once(dump, timeout_s=PATIENT_S)
    while not world.is_postgres and agent.is_running:
        with commits_held_up(world):
            time.sleep(SLOW_COMMIT_S)
            before = world.count("job_runs")
        until("one passes", partial(has_moved, world, before, agent))
    world.finishes(agent, patience_s=LONG_S)
    assert time.monotonic() - began > SLOW_COMMIT_S
    assert world.proxy.accepted == 1
    assert not said(agent, "trying again")
    world.assert_exact(add_up(runs))
    return len(runs)


SCENARIOS: Final[Mapping[int, Callable[[World], int]]] = {
    13: half_open, 14: latency, 16: partition, 24: slow_commits
}  # fmt: skip
KINDS: Final = ("sqlite", "postgres")
Waiting = dict[tuple[int, str], Future[int]]


def play(scenario: Callable[[World], int], url: str, folder: Path) -> int:
    """Play one in a world of its own; returns how many runs it was about."""
    with World(url, folder) as world:
        return scenario(world)
