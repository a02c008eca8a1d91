"""Databases for tests: each test gets fresh ones, migrated and empty."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobledger_collector.store.engine import open_engine
from jobledger_collector.store.migrate import upgrade
from tests.postgres import TEMPLATE, PostgresServer

# A database is migrated once and copied for each test; migrations are slow, copies are not.


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    engine = open_engine(f"sqlite:///{path}")
    upgrade(engine)
    with engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """URL of a fresh SQLite database with this version's tables."""
    path = tmp_path / "jobledger.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A private PostgreSQL server; a missing one fails the tests that need it."""
    if os.environ.get("JOBLEDGER_SKIP_POSTGRES") == "1":
        pytest.skip("JOBLEDGER_SKIP_POSTGRES=1")
    with PostgresServer() as server:
        engine = open_engine(server.create(name=TEMPLATE))
        upgrade(engine)
        engine.dispose()
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a fresh PostgreSQL database with this version's tables."""
    url = postgres_server.create(template=TEMPLATE)
    yield url
    postgres_server.drop(url)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of a fresh database: the test runs once on each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
