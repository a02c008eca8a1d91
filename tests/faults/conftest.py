"""Priced databases of both kinds, a world on each, and the count of processes killed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobledger_collector.store.engine import open_engine
from tests.faults.scenarios import KINDS, SCENARIOS, Waiting, play
from tests.faults.truth import CARD
from tests.faults.world import ADMIN, World
from tests.postgres import TEMPLATE, PostgresServer

PRICED = "jobledger_priced"


def load_card(url: str, environment: Mapping[str, str] | None = None) -> None:
    """Load the rate card; in a process of its own, which leaves no connection behind."""
    env = {**os.environ, **(environment or {})}
    argv = (sys.executable, "-m", ADMIN, "--db", url, "rates", "load", str(CARD))
    subprocess.run(argv, check=True, capture_output=True, env=env)


@pytest.fixture(scope="session")
def priced_sqlite(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database with the rate card loaded, to be copied."""
    path = tmp_path_factory.mktemp("priced") / "priced.db"
    shutil.copyfile(sqlite_template, path)
    url = f"sqlite:///{path}"
    load_card(url)
    engine = open_engine(url)
    with engine.connect() as conn:  # or the copy would lack what is in the log
        conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def priced_postgres(postgres_server: PostgresServer) -> str:
    """The name of a PostgreSQL database with the rate card loaded, to be copied."""
    url = postgres_server.create(template=TEMPLATE, name=PRICED)
    load_card(url)
    return PRICED


@pytest.fixture(scope="session")
def new_ledger(
    request: pytest.FixtureRequest, postgres_server: PostgresServer
) -> Callable[[str, Path], str]:
    """Return what makes a fresh, priced database of a kind, given a folder of its own."""

    def make(kind: str, folder: Path) -> str:
        if kind == "postgres":
            return postgres_server.create(template=request.getfixturevalue("priced_postgres"))
        path = folder / "jobledger.db"
        shutil.copyfile(request.getfixturevalue("priced_sqlite"), path)
        return f"sqlite:///{path}"

    return make


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, new_ledger: Callable[[str, Path], str]
) -> str:
    """URL of a fresh, priced database: the test runs once on each kind."""
    return new_ledger(request.param, tmp_path)


@pytest.fixture
def world(
    ledger: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> Iterator[World]:
    """Return the programs and the network of one test; nothing of them is left running."""
    with World(ledger, tmp_path) as made:
        yield made
        record_property("kills", made.kills)


@pytest.fixture(scope="session", autouse=True)
def waiting(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_ledger: Callable[[str, Path], str],
) -> Iterator[Waiting]:
    """Begin every slow scenario that a selected test waits for, beside the other tests."""
    names = {item.name for item in request.session.items if item.path.name == "test_waiting.py"}
    with ThreadPoolExecutor(len(SCENARIOS) * len(KINDS)) as pool:
        begun: Waiting = {}
        for number, scenario in SCENARIOS.items():
            for kind in KINDS:
                wanted = f"test_fault_{number}_"
                if any(name.startswith(wanted) and kind in name for name in names):
                    folder = tmp_path_factory.mktemp(f"fault_{number}_{kind}")
                    url = new_ledger(kind, folder)
                    begun[number, kind] = pool.submit(play, scenario, url, folder)
        yield begun


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many processes were killed with -9 and came back with exact sums."""
    reports = [report for each in terminalreporter.stats.values() for report in each]
    kills = sum(
        int(value)
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, value in report.user_properties
        if name == "kills"
    )
    if kills and not terminalreporter.stats.get("failed"):
        terminalreporter.write_line(f"faults: {kills} processes killed with -9, every sum exact")
