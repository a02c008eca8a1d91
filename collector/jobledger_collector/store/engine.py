"""Connections and transactions: opened at the edge, rolled back by default.

Both databases hold the same tables. SQLite is opened with WAL and full sync,
and a writer takes its lock at BEGIN, so that no transaction fails half-way
because another one wrote first.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from jobledger_collector.core.errors import DatabaseFailed, DatabaseUnavailable

SQLITE_BUSY_MS: Final = 30_000
"""How long a SQLite writer waits for another one."""
SQLITE_CACHE_KIB: Final = 64 * 1024
POSTGRES_CONNECT_S: Final = 10
POSTGRES_LOCK_MS: Final = 30_000
"""How long a statement may wait for a lock before the batch is tried again."""
POSTGRES_STATEMENT_MS: Final = 300_000
POOL_CONNECTIONS: Final = 5
POOL_OVERFLOW: Final = 300
"""Connections beyond the pool: one a stream, and a few for the web."""
POOL_WAIT_S: Final = 30

_WRITING: Final = "jobledger_writing"
_URL_HINT = "give sqlite:////path/to/jobledger.db or postgresql+psycopg2://user@host/database"


def open_engine(url: str) -> Engine:
    """Return an engine for a database URL; connects to nothing yet.

    Raises DatabaseFailed when the URL cannot be read or is of another database.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        return _postgres(parsed)
    raise DatabaseFailed(
        f"The database {shown_url(parsed)} is neither SQLite nor PostgreSQL: {_URL_HINT}."
    )


def shown_url(url: URL | Engine) -> str:
    """Return a URL as it may be shown to people and logs: without its password."""
    parsed = url.url if isinstance(url, Engine) else url
    return parsed.render_as_string(hide_password=True)


def missing_file(engine: Engine) -> str:
    """Return the file of a SQLite database that does not exist, else "": opening makes it."""
    file = engine.url.database if engine.url.get_backend_name() == "sqlite" else None
    if not file or file.startswith((":memory:", "file:")):
        return ""
    return "" if Path(file).exists() else file


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a writing transaction: committed at the end, else rolled back.

    Raises DatabaseUnavailable when the database is away, busy or full, and
    DatabaseFailed when it refuses for another reason.
    """
    with explained(engine), engine.connect() as connection:
        writer = connection.execution_options(**{_WRITING: True})
        with writer.begin():
            yield writer


@contextmanager
def writer(engine: Engine) -> Iterator[Connection]:
    """Yield a connection whose transactions write; the caller begins and ends each of them.

    For work of many transactions that shares a temporary table. Raises as
    ``transaction``.
    """
    with explained(engine), engine.connect() as connection:
        yield connection.execution_options(**{_WRITING: True})


class Writer:
    """One connection kept for many writing transactions, by one thread at a time.

    Asking a pool for a connection asks the server whether it lives, each time:
    a round trip a batch. After any failure it is given back, and the next
    transaction begins on one that was found alive.
    """

    def __init__(self, engine: Engine) -> None:
        """Connect to nothing yet."""
        self._engine = engine
        self._connection: Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Yield a connection as the function ``transaction`` does; raises as it does."""
        with explained(self._engine):
            if self._connection is None:
                connection = self._engine.connect()
                self._connection = connection.execution_options(**{_WRITING: True})
            try:
                with self._connection.begin():
                    yield self._connection
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that only reads; raises as ``transaction``."""
    with explained(engine), engine.connect() as connection:
        yield connection


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """Turn what the database's driver raises into one sentence for a person."""
    driver = engine.dialect.loaded_dbapi
    try:
        yield
    except DBAPIError as error:
        raise _in_words(engine, error.orig or error) from error
    except driver.Error as error:  # what raw_cursor raises comes unwrapped
        raise _in_words(engine, error) from error
    except PoolTimeout as error:
        raise DatabaseUnavailable(
            f"All {POOL_CONNECTIONS + POOL_OVERFLOW} connections to {shown_url(engine)} are in use:"
            " connect fewer agents to this collector or start another one."
        ) from error


def is_sqlite(connection: Connection) -> bool:
    """Return whether this is SQLite; else it is PostgreSQL."""
    return connection.dialect.name == "sqlite"


def raw_cursor(connection: Connection) -> Any:  # noqa: ANN401 - two drivers, one shape
    """Return a cursor of the driver itself, inside the connection's transaction.

    SQLAlchemy sends many-row statements row by row on psycopg2 and adds several
    times SQLite's own cost; ingest talks to the driver.
    """
    return connection.connection.cursor()


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise DatabaseFailed(
            f'The database URL "{url[:40]}" cannot be read: {_URL_HINT}.'
        ) from error


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": SQLITE_BUSY_MS / 1000, "check_same_thread": False},
        pool_timeout=POOL_WAIT_S,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # BEGIN is ours, see below
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            f"busy_timeout = {SQLITE_BUSY_MS}",
            f"cache_size = -{SQLITE_CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get(_WRITING, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _postgres(url: URL) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg2")
    options = f"-c lock_timeout={POSTGRES_LOCK_MS} -c statement_timeout={POSTGRES_STATEMENT_MS}"
    try:
        return create_engine(
            url,
            connect_args={
                "connect_timeout": POSTGRES_CONNECT_S,
                "application_name": "jobledger",
                "options": options,
            },
            pool_size=POOL_CONNECTIONS,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=POOL_WAIT_S,
            pool_pre_ping=True,
        )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise DatabaseFailed(
            f"The driver for {shown_url(url)} is not installed: pip install 'jobledger[postgres]'."
        ) from error


def _in_words(engine: Engine, error: BaseException) -> DatabaseFailed:
    said = " ".join(str(error).split()) or type(error).__name__
    where = shown_url(engine)
    if "no such table" in said or ('relation "' in said and "does not exist" in said):
        return DatabaseFailed(
            f"The database {where} has no Jobledger tables ({said}):"
            " run `jobledger-collector migrate` on it."
        )
    if is_passing(error):
        return DatabaseUnavailable(
            f"The database {where} is not available ({said}): check that it runs, that this user"
            " may connect, and that its disk is not full; nothing was stored."
        )
    return DatabaseFailed(
        f"The database {where} refused ({said}): check that it is Jobledger's own, and that"
        " `jobledger-collector migrate` was run; nothing was stored."
    )


def is_passing(error: BaseException) -> bool:
    """Return whether a driver's error is the database's state and not the data's.

    By name, since each driver has its own classes and one may not be installed.
    """
    if "integer overflow" in str(error):  # SQLite's: a sum of absurd figures, now and later
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"OperationalError", "InterfaceError"})


def is_clash(error: BaseException) -> bool:
    """Return whether another transaction was in the way: the same batch may pass at once."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"TransactionRollbackError", "UniqueViolation"})
