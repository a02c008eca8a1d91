"""Fault 25: agents and collectors of this release and the one before, in every order.

``tests/data/released/0.1.0.tar.xz`` is the source of the release before, whole:
its real programs run here, with its own spool and its own tables.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.faults.conftest import load_card
from tests.faults.nursery import ROOT
from tests.faults.truth import add_up, some_runs, write_runs
from tests.faults.world import CLUSTER, COLLECTOR, World, said, until
from tests.postgres import PostgresServer

RELEASE = ROOT / "tests" / "data" / "released" / "0.1.0.tar.xz"
FEW = 3_000
WHERE = (
    "import jobledger_agent as a, jobledger_collector as c, jobledger_proto as p;"
    "print(a.__file__, c.__file__, *p.__path__)"
)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the programs of the release before run."""
    folder = tmp_path_factory.mktemp("released")
    with tarfile.open(RELEASE) as archive:
        if sys.version_info >= (3, 12):
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(folder)  # noqa: S202 - our own
    installed = folder / "agent" / "jobledger-0.1.0.dist-info"  # as pip would have left it
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: jobledger\nVersion: 0.1.0\n")
    parts = [str(folder / part) for part in ("agent", "collector", "proto")]
    return {"PYTHONPATH": os.pathsep.join(parts)}


def says_version(environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jobledger_agent.cli", "--version"],
        env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()[1]


def test_fault_25_the_release_before_is_what_runs(before: dict[str, str]) -> None:
    assert says_version(before) == "0.1.0"
    assert says_version({}) != "0.1.0"
    old, new = (
        subprocess.run(
            [sys.executable, "-c", WHERE],
            env={**os.environ, **environment}, capture_output=True, text=True, check=True,
        ).stdout.split()
        for environment in (before, {})
    )  # fmt: skip
    assert len({*old, *new}) == 6, "all of it is the older one's, not only its number"


def test_fault_25_old_agent_new_collector_then_new_agent(
    world: World, before: dict[str, str]
) -> None:
    """The agent is upgraded while it is delivering: its spool is taken over, nothing is lost."""
    runs = some_runs(4 * FEW)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    world.start_collector()
    world.proxy.weather.bytes_per_s, world.proxy.weather.slice_bytes = 100_000, 4_096
    old = world.start_once(dump, environment=before)
    until("it has delivered some", lambda: world.count("job_runs"))
    world.kill_agent(old)
    assert world.count("job_runs") < len(runs)
    world.proxy.weather.bytes_per_s = 0
    world.delivers(dump)
    assert not said(world.agents[-1], "damaged")
    world.assert_exact(add_up(runs))


def test_fault_25_new_agent_old_collector_then_new_collector(
    ledger: str, tmp_path: Path, before: dict[str, str], postgres_server: PostgresServer
) -> None:
    """The collector is upgraded under a delivering agent, its tables with their rows."""
    runs = some_runs(4 * FEW)
    dump = write_runs(tmp_path / "dump.txt", runs, CLUSTER)
    url = old_ledger(ledger, tmp_path, before, postgres_server)
    with World(url, tmp_path) as world:
        old = world.start_collector(environment=before)
        world.proxy.weather.bytes_per_s, world.proxy.weather.slice_bytes = 100_000, 4_096
        agent = world.start_once(dump, timeout_s=120)
        until("it has delivered some", lambda: world.count("job_runs"))
        assert old.stop() == 0
        assert agent.is_running
        collector(url, "migrate")
        world.start_collector()
        world.proxy.weather.bytes_per_s = 0
        world.finishes(agent)
        world.assert_exact(add_up(runs))


def old_ledger(ledger: str, folder: Path, before: dict[str, str], server: PostgresServer) -> str:
    """Make a priced database with the tables of the release before."""
    if ledger.startswith("sqlite"):
        shutil.move(folder / "jobledger.db", folder / "unused.db")
        url = ledger
    else:
        url = server.create()
    collector(url, "migrate", environment=before)
    load_card(url, before)
    return url


def collector(url: str, *command: str, environment: dict[str, str] | None = None) -> None:
    subprocess.run(
        [sys.executable, "-m", COLLECTOR, *command, "--db", url],
        env={**os.environ, **(environment or {})}, check=True, capture_output=True,
    )  # fmt: skip


def test_fault_25_both_agents_at_one_time(world: World, before: dict[str, str]) -> None:
    """Half of the clusters are upgraded: each agent is understood."""
    sums = {}
    world.start_collector()
    agents = []
    for number, environment in enumerate((before, {}, before, {})):
        cluster, runs = f"c{number}", some_runs(FEW, seed=number)
        dump = write_runs(world.folder / f"{cluster}.txt", runs, cluster)
        spool = world.folder / f"{cluster}.db"
        agents.append(world.start_once(dump, name=cluster, spool=spool, environment=environment))
        sums[cluster] = add_up(runs)
        time.sleep(0.1)
    for agent in agents:
        world.finishes(agent)
    for cluster, expected in sums.items():
        world.assert_exact(expected, cluster=cluster)
    versions = {str(row[0]) for row in world.ask("SELECT version FROM agents")}
    assert len(versions) == 2
