"""Faults 18 to 23: the collector and its database."""

import random
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger_collector.store.engine import open_engine
from jobledger_collector.store.migrate import upgrade
from tests.faults.conftest import PRICED, load_card
from tests.faults.proxy import Weather
from tests.faults.trouble import (
    commits_held_up,
    fill,
    rival,
    small_disk,
    until_a_batch_waits,
)
from tests.faults.truth import add_up, some_runs, write_runs
from tests.faults.world import CLUSTER, COLLECTOR, World, said, until
from tests.postgres import PostgresServer
from tests.system.programs import Running

ROUNDS = 15
ROOM_TO_START_BYTES = 4 << 20
SERIALISATION_FAILURES = """
CREATE SEQUENCE tries;
CREATE FUNCTION fail_at_first() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
  IF nextval('tries') <= 3 THEN RAISE EXCEPTION 'made up' USING ERRCODE = '40001'; END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER fail_at_first AFTER INSERT ON job_runs
FOR EACH STATEMENT EXECUTE FUNCTION fail_at_first();
"""


def streaming(world: World, dump: Path) -> Running:
    """Start an agent over a narrow line and wait until its first batches are stored."""
    world.proxy.weather.bytes_per_s, world.proxy.weather.slice_bytes = 100_000, 4_096
    agent = world.start_once(dump)
    until("a batch is stored", lambda: world.count("job_runs"))
    return agent


def test_fault_18_kill_before_commit(world: World) -> None:
    """A batch that waits for its commit is gone with the collector, and sent again."""
    runs = some_runs(6_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    world.start_collector()
    agent = streaming(world, dump)
    with commits_held_up(world):
        before = world.count("job_runs")
        until_a_batch_waits(world)
        world.kill_collector()
    assert world.count("job_runs") == before < len(runs)
    world.proxy.weather = Weather()
    world.start_collector()
    world.finishes(agent)
    world.assert_exact(add_up(runs))


def test_fault_18_kill_both_at_any_time(world: World) -> None:
    runs = some_runs(30_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    for _ in range(ROUNDS):
        world.start_collector()
        agent = world.start_once(dump)
        time.sleep(world.dice.uniform(0.05, 0.5))
        world.kill_collector()
        world.kill_agent(agent)
    assert world.kills >= 2 * ROUNDS - 4
    world.start_collector()
    world.delivers(dump)
    world.assert_exact(add_up(runs))


def test_fault_19_kill_between_commit_and_ack(world: World) -> None:
    """The batch is durable and the agent never hears of it: sent again, it is known."""
    runs = some_runs(6_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    world.start_collector()
    agent = streaming(world, dump)
    with commits_held_up(world):
        before = world.count("job_runs")
        until_a_batch_waits(world)
        world.proxy.weather.swallow_down = True
    until("the batch is committed", lambda: world.count("job_runs") > before)
    world.kill_collector()
    unheard = world.count("job_runs") - before
    assert 0 < unheard < len(runs)
    world.proxy.weather = Weather()
    world.proxy.cut()
    world.start_collector()
    world.finishes(agent)
    world.assert_exact(add_up(runs))
    assert world.count("agents", f"records_known >= {unheard}") == 1


@pytest.fixture(scope="module")
def mortal_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this module's own, which may go down."""
    with PostgresServer() as server:
        url = server.create(name=PRICED)
        engine = open_engine(url)
        upgrade(engine)
        engine.dispose()
        load_card(url)
        yield server


@pytest.fixture
def mortal(mortal_server: PostgresServer, tmp_path: Path) -> Iterator[World]:
    """A world on that server."""
    with World(mortal_server.create(template=PRICED), tmp_path) as made:
        yield made


def refused_start(world: World) -> Running:
    """A collector that may not start; it must say why and end."""
    collector = Running(
        COLLECTOR, "serve", "--db", world.url, "--listen", f"127.0.0.1:{world.port}",
        "--metrics-listen", "", log=world.folder / "refused.log",
    )  # fmt: skip
    assert collector.process.wait(30) == 4, collector.output()
    return collector


@pytest.mark.postgres
def test_fault_20_database_down_at_start_postgres(
    mortal: World, mortal_server: PostgresServer
) -> None:
    """The collector ends with a sentence, systemd starts it again; the agent waits."""
    runs = some_runs(3_000)
    dump = write_runs(mortal.folder / "dump.txt", runs, CLUSTER)
    mortal_server.stop()
    assert said(refused_start(mortal), "is not available")
    agent = mortal.start_once(dump)
    until("it has tried", lambda: said(agent, "cannot be reached"))
    mortal_server.start()
    mortal.start_collector()
    mortal.finishes(agent)
    mortal.assert_exact(add_up(runs))


def test_fault_20_database_down_at_start_sqlite(priced_sqlite: Path, tmp_path: Path) -> None:
    """The same when the disk of the database is not mounted yet."""
    runs = some_runs(3_000)
    dump = write_runs(tmp_path / "dump.txt", runs, CLUSTER)
    place = tmp_path / "not-mounted"
    with World(f"sqlite:///{place}/jobledger.db", tmp_path) as world:
        refused_start(world)
        agent = world.start_once(dump)
        until("it has tried", lambda: said(agent, "cannot be reached"))
        place.mkdir()
        shutil.copyfile(priced_sqlite, place / "jobledger.db")
        world.start_collector()
        world.finishes(agent)
        world.assert_exact(add_up(runs))


@pytest.mark.postgres
def test_fault_21_database_down_mid_batch_postgres(
    mortal: World, mortal_server: PostgresServer
) -> None:
    """The server crashes while a batch is stored; the collector outlives it."""
    runs = some_runs(6_000)
    dump = write_runs(mortal.folder / "dump.txt", runs, CLUSTER)
    collector = mortal.start_collector()
    with commits_held_up(mortal):
        agent = mortal.start_once(dump)
        until_a_batch_waits(mortal)
        mortal.engine.dispose()
        mortal_server.stop()
    until("the agent is told", lambda: said(agent, "database is not available"))
    mortal_server.start()
    mortal.finishes(agent)
    assert collector.is_running
    mortal.assert_exact(add_up(runs))


def test_fault_21_database_fails_mid_batch_sqlite(priced_sqlite: Path, tmp_path: Path) -> None:
    """The file can grow no more for a while (a limit set and lifted from outside)."""
    runs = some_runs(12_000)
    dump = write_runs(tmp_path / "dump.txt", runs, CLUSTER)
    shutil.copyfile(priced_sqlite, tmp_path / "jobledger.db")
    with World(f"sqlite:///{tmp_path}/jobledger.db", tmp_path) as world:
        collector = world.start_collector()
        resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (2 << 20, -1))
        agent = world.start_once(dump)
        until("the agent is told", lambda: said(agent, "database is not available"))
        resource.prlimit(collector.process.pid, resource.RLIMIT_FSIZE, (-1, -1))
        world.finishes(agent)
        assert collector.is_running
        world.assert_exact(add_up(runs))


def test_fault_22_writers_in_each_others_way(world: World) -> None:
    """Two agents tell the same runs in different orders at the same time, over two collectors."""
    runs = some_runs(8_000)
    shuffled = random.Random(2).sample(runs, len(runs))
    one = write_runs(world.folder / "one.txt", runs, CLUSTER)
    two = write_runs(world.folder / "two.txt", shuffled, CLUSTER)
    world.start_collector()
    with World(world.url, world.folder) as other:
        other.start_collector()
        first = world.start_once(one)
        second = other.start_once(two, name="second", spool=world.folder / "second.db")
        world.finishes(first)
        other.finishes(second)
    world.assert_exact(add_up(runs))
    known, new = (
        int(world.ask(f"SELECT sum({column}) FROM agents")[0][0])
        for column in ("records_known", "records_new")
    )
    assert (known, new) == (len(runs), len(runs))


@pytest.mark.postgres
def test_fault_22_deadlock(mortal: World) -> None:
    """Another program and the collector each hold what the other one waits for."""
    runs = some_runs(900)
    dump = write_runs(mortal.folder / "dump.txt", runs, CLUSTER)
    mortal.start_collector()
    insert = (
        "INSERT INTO job_runs (cluster, job_id, submit, revision, digest)"
        f" VALUES ('{CLUSTER}', %s, %s, 1, '')"
    )
    other = rival(mortal)
    other.cursor().execute(insert, (runs[-1].job_id, runs[-1].submit))
    agent = mortal.start_once(dump)
    until_a_batch_waits(mortal)
    ended = []

    def embrace() -> None:
        try:
            other.cursor().execute(insert, (runs[0].job_id, runs[0].submit))
        except Exception as error:  # noqa: BLE001 - either may be the victim
            ended.append(error)
        other.rollback()
        other.close()

    thread = threading.Thread(target=embrace)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    mortal.finishes(agent)
    mortal.assert_exact(add_up(runs))
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    until("the server counts it", lambda: int(mortal.ask(deadlocks)[0][0]) == 1)


@pytest.mark.postgres
def test_fault_22_serialisation_failure(mortal: World) -> None:
    """A batch that the server asks to be tried again is, and the agent does not notice."""
    runs = some_runs(2_000)
    dump = write_runs(mortal.folder / "dump.txt", runs, CLUSTER)
    with rival(mortal) as other:
        other.cursor().execute(SERIALISATION_FAILURES)
    mortal.start_collector()
    agent = mortal.start_once(dump)
    mortal.finishes(agent)
    assert not said(agent, "trying again")
    mortal.assert_exact(add_up(runs))
    assert int(mortal.ask("SELECT last_value FROM tries")[0][0]) > 3


def test_fault_23_collectors_disk_full_sqlite(priced_sqlite: Path, tmp_path: Path) -> None:
    runs = some_runs(20_000)
    dump = write_runs(tmp_path / "dump.txt", runs, CLUSTER)
    with small_disk(tmp_path, 40) as disk:
        shutil.copyfile(priced_sqlite, disk / "jobledger.db")
        ballast = fill(disk, ROOM_TO_START_BYTES)
        with World(f"sqlite:///{disk}/jobledger.db", tmp_path) as world:
            collector = world.start_collector()
            agent = world.start_once(dump)
            until("the agent is told", lambda: said(agent, "database is not available"))
            assert said(collector, "disk is not full") or said(collector, "full")
            ballast.unlink()
            world.finishes(agent)
            assert collector.is_running
            world.assert_exact(add_up(runs))


@pytest.mark.postgres
def test_fault_23_collectors_disk_full_postgres(
    mortal_server: PostgresServer, tmp_path: Path
) -> None:
    runs = some_runs(20_000)
    dump = write_runs(tmp_path / "dump.txt", runs, CLUSTER)
    for part in (tmp_path, *tmp_path.parents[:2]):
        part.chmod(0o755)
    with small_disk(tmp_path, 40) as disk:
        place = disk / "tables"
        place.mkdir()
        shutil.chown(place, "postgres")
        mortal_server.say(f"CREATE TABLESPACE small LOCATION '{place}'")
        url = mortal_server.create(template=PRICED, tablespace="small")
        ballast = fill(disk, ROOM_TO_START_BYTES)
        with World(url, tmp_path) as world:
            collector = world.start_collector()
            agent = world.start_once(dump)
            until("the agent is told", lambda: said(agent, "database is not available"))
            ballast.unlink()
            world.finishes(agent)
            assert collector.is_running
            world.assert_exact(add_up(runs))
        mortal_server.drop(url)
        mortal_server.say("DROP TABLESPACE small")
