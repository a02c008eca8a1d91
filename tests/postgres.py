"""A private PostgreSQL server for tests: started once, a fresh database for each."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import psycopg2

from tests.ports import free_port

SERVERS: Final = Path("/usr/lib/postgresql")
SYSTEM_USER: Final = "postgres"
START_TIMEOUT_S: Final = 60
TEMPLATE: Final = "jobledger_template"
SETTINGS: Final = {
    # The machine does not lose power in a test; what commits wait for is the same.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "log_min_messages": "error",
}
DURABLE: Final = SETTINGS | {"fsync": "on", "full_page_writes": "on"}
"""As in service: for measuring."""


class NoServer(Exception):
    """No PostgreSQL server is installed; says what to do."""


def binaries() -> Path:
    """Return the folder of the newest installed server's programs."""
    found = sorted(SERVERS.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        message = (
            f"No PostgreSQL server under {SERVERS}: apt install postgresql,"
            " or set JOBLEDGER_SKIP_POSTGRES=1 to leave these tests out."
        )
        raise NoServer(message)
    return found[-1].parent


class PostgresServer:
    """A running server; use it as a context manager."""

    def __init__(self, settings: Mapping[str, str] = SETTINGS) -> None:
        self._settings = settings
        self._bin = binaries()
        self._home = Path(tempfile.mkdtemp(prefix="jobledger-pg-"))
        self._as: Sequence[str] = ()
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self._as = ("runuser", "-u", SYSTEM_USER, "--")
            shutil.chown(self._home, SYSTEM_USER)
        self.port = free_port()
        self._databases = 0

    def __enter__(self) -> Self:
        data = str(self._home / "data")
        self._run("initdb", "-D", data, "-A", "trust", "-U", "jobledger", "-E", "UTF8", "-N")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_running:
            self.stop()
        shutil.rmtree(self._home)

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not stopped."""
        return (self._home / "data" / "postmaster.pid").exists()

    def start(self) -> None:
        """Start it, for the first time or again; returns once it takes connections."""
        options = " ".join(f"-c {name}={value}" for name, value in self._settings.items())
        self._run(
            "pg_ctl", "-D", f"{self._home}/data", "-w", "-t", str(START_TIMEOUT_S),
            "-l", f"{self._home}/log", "-o",
            f"-p {self.port} -k {self._home} -c listen_addresses=127.0.0.1 {options}", "start",
        )  # fmt: skip

    def stop(self) -> None:
        """Stop it at once, as a crash would: its processes end, what was not committed is gone."""
        self._run("pg_ctl", "-D", f"{self._home}/data", "-m", "immediate", "stop")

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return int((self._home / "data" / "postmaster.pid").read_text().split()[0])

    def url(self, database: str) -> str:
        """Return the address of a database on this server."""
        return f"postgresql+psycopg2://jobledger@127.0.0.1:{self.port}/{database}"

    def create(
        self, template: str = "template1", name: str = "", tablespace: str = "pg_default"
    ) -> str:
        """Create a database like another one and return its URL."""
        self._databases += 1
        name = name or f"test_{self._databases}"
        self.say(f'CREATE DATABASE "{name}" TEMPLATE "{template}" TABLESPACE "{tablespace}"')
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.say(f'DROP DATABASE "{url.rpartition("/")[2]}" WITH (FORCE)')

    def say(self, statement: str) -> None:
        """Run one statement outside of any transaction."""
        connection = psycopg2.connect(
            host=str(self._home), port=self.port, user="jobledger", dbname="postgres"
        )
        connection.autocommit = True
        connection.cursor().execute(statement)
        connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as, str(self._bin / program), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )
