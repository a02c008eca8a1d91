"""Migrations: they end where the description of the tables is, and say what they will not do."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, text

from jobledger_collector.core.errors import DatabaseFailed, DatabaseUnavailable
from jobledger_collector.store.engine import open_engine, reading, shown_url, transaction
from jobledger_collector.store.migrate import SCRIPTS, head, require_current, upgrade
from jobledger_collector.store.schema import metadata
from tests.postgres import PostgresServer


def test_migrated_tables_are_those_that_the_code_describes(database_url: str) -> None:
    engine = open_engine(database_url)
    with reading(engine) as conn:
        found = compare_metadata(MigrationContext.configure(conn), metadata)
        extra = [(what, index.name) for what, index in found]
    # Block ranges are PostgreSQL's alone, so the description does not name the index.
    only_postgres = [("remove_index", "job_runs_end_brin")]
    assert extra == (only_postgres if engine.dialect.name == "postgresql" else [])


def test_migrated_constraints_are_those_that_the_code_describes(sqlite_url: str) -> None:
    """Alembic does not compare checks; SQLite keeps the text of its tables."""
    described = create_engine("sqlite://")
    metadata.create_all(described)
    statement = text(
        "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index')"
        " AND name NOT LIKE 'alembic%' AND name NOT LIKE 'sqlite%' ORDER BY name"
    )
    with described.connect() as conn:
        wanted = {row.name: row.sql for row in conn.execute(statement)}
    with reading(open_engine(sqlite_url)) as conn:
        found = {row.name: row.sql for row in conn.execute(statement)}
    assert found == wanted


def test_upgrading_again_changes_nothing(database_url: str) -> None:
    engine = open_engine(database_url)
    assert not upgrade(engine)
    require_current(engine)


def test_an_empty_database_must_be_migrated_first(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    engine = open_engine(f"sqlite:///{path}")
    with pytest.raises(DatabaseFailed, match="There is no database"):
        require_current(engine)
    assert not path.exists()
    path.touch()
    with pytest.raises(DatabaseFailed, match=f"version none, this program needs {head()}.*migrate"):
        require_current(engine)
    assert upgrade(engine)
    require_current(engine)


def test_a_newer_database_is_left_alone(database_url: str) -> None:
    engine = open_engine(database_url)
    with transaction(engine) as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refuse in (upgrade, require_current):
        with pytest.raises(DatabaseFailed, match="version 9999, which this program does not know"):
            refuse(engine)


def test_a_database_of_something_else_is_left_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('other')}/other.db")
    with transaction(engine) as conn:
        conn.execute(text("CREATE TABLE job_runs (x INTEGER)"))
    with pytest.raises(DatabaseFailed, match="no migration of Jobledger made"):
        upgrade(engine)
    with reading(engine) as conn:
        assert inspect(conn).get_table_names() == ["job_runs"]


def at_version(url: str, revision: str) -> Engine:
    """Return a database of an older version."""
    engine = open_engine(url)
    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    with transaction(engine) as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, revision)
    return engine


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without tables, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/old.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create()
    yield url
    server.drop(url)


def test_a_database_of_version_0002_keeps_what_it_knows_of_agents(empty_url: str) -> None:
    engine = at_version(empty_url, "0002")
    columns = (
        "name, version, clusters, first_seen, last_seen, clock_skew_ms, spool_records,"
        " complete_through, source_error, records_new, records_known, records_revised,"
        " records_quarantined"
    )
    row = ("slurm-1", "0.1.0", "alpha,beta", 10, 20, -3, 4, 5, "away", 6, 7, 8, 9)
    with transaction(engine) as conn:
        conn.execute(text(f"INSERT INTO agents ({columns}) VALUES {row}"))  # noqa: S608
    with pytest.raises(DatabaseFailed, match="of version 0002, this program needs"):
        require_current(engine)
    assert upgrade(engine)
    with reading(engine) as conn:
        (kept,) = conn.execute(text(f"SELECT {columns} FROM agents"))  # noqa: S608
        assert tuple(kept) == row
        new = conn.execute(text("SELECT held_records, dbd_queue FROM agents")).one()
        assert tuple(new) == (0, -1)
        generation = conn.execute(text("SELECT generation FROM enrolment_changes")).scalar_one()
        assert generation == 1
        found = compare_metadata(MigrationContext.configure(conn), metadata)
        assert [what for what, _ in found] in ([], ["remove_index"])
    engine.dispose()


@pytest.mark.postgres
def test_two_that_start_together_migrate_once(postgres_server: PostgresServer) -> None:
    url = postgres_server.create()
    try:
        program = [sys.executable, "-m", "jobledger_collector.cli", "migrate", "--db", url]
        programs = [subprocess.Popen(program, stdout=subprocess.PIPE) for _ in range(3)]
        said = [program.communicate()[0].decode() for program in programs]
        assert [program.returncode for program in programs] == [0, 0, 0]
        assert sum("is brought to version" in line for line in said) >= 1
        engine = open_engine(url)
        require_current(engine)
        engine.dispose()
    finally:
        postgres_server.drop(url)


BAD_URLS = [
    ("nonsense", DatabaseFailed, "cannot be read: give sqlite"),
    ("mysql://host/db", DatabaseFailed, "neither SQLite nor PostgreSQL"),
    ("sqlite:////nonexistent/dir/x.db", DatabaseUnavailable, "not available"),
    ("postgresql://u:secret@127.0.0.1:1/x", DatabaseUnavailable, "not available"),
]


@pytest.mark.parametrize(("url", "kind", "says"), BAD_URLS)
def test_a_wrong_url_is_one_sentence_without_its_password(
    url: str, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught, reading(open_engine(url)) as conn:
        conn.execute(text("SELECT 1"))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_that_are_missing_say_what_to_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('bare')}/bare.db")
    with (
        pytest.raises(DatabaseFailed, match="run `jobledger-collector migrate`"),
        reading(engine) as conn,
    ):
        conn.execute(text("SELECT * FROM job_runs"))


def test_a_transaction_is_whole_or_not_at_all(database_url: str) -> None:
    engine = open_engine(database_url)
    insert = text("INSERT INTO login_failures VALUES ('login:alice', 0, 1)")
    with contextlib.suppress(ZeroDivisionError), transaction(engine) as conn:
        conn.execute(insert)
        raise ZeroDivisionError
    with reading(engine) as conn:
        assert conn.execute(text("SELECT count(*) FROM login_failures")).scalar_one() == 0
    assert "hunter2" not in shown_url(open_engine("postgresql://u:hunter2@h/d"))


def test_sqlite_is_durable_and_checks_its_keys(sqlite_url: str) -> None:
    with reading(open_engine(sqlite_url)) as conn:
        for pragma, wanted in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
            assert conn.execute(text(f"PRAGMA {pragma}")).scalar_one() == wanted
