"""jobledger-web as its operator meets it: starts, stops, and says what is wrong."""

import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from jobledger_web import __version__
from tests.ports import free_port
from tests.web.served import Served, run


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - our own server
        return answer.status, answer.read().decode()


def test_it_serves_until_it_is_told_to_stop(sqlite_url: str) -> None:
    port = free_port()
    with Served(["--db", sqlite_url, "--listen", f"127.0.0.1:{port}"]) as served:
        assert served.url == f"http://127.0.0.1:{port}"
        assert get(f"{served.url}/readyz") == (200, "ready\n")
        assert "Sign in" in get(served.url)[1]
        with pytest.raises(urllib.error.HTTPError, match="431"):
            get(f"{served.url}/{'a' * 20_000}")
        again = run("serve", "--db", sqlite_url, "--listen", f"127.0.0.1:{port}")
        assert again.returncode == 1
        assert f"Cannot listen on 127.0.0.1:{port}" in again.stderr
        assert "Traceback" not in again.stderr
        assert served.stop() == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["serve", "--db", "sqlite:////no/such/folder/x.db"], 4, "There is no database"),
        (["serve", "--db", "mysql://h/d"], 4, "neither SQLite nor PostgreSQL"),
        (["serve", "--db", "rubbish"], 4, "cannot be read"),
        (["serve", "--db", "postgresql://u:hidden@127.0.0.1:1/d"], 4, "not available"),
        (["serve", "--db", "sqlite:///x.db", "--listen", "0.0.0.0:80"], 3, "others can reach"),
        (["serve", "--config", "/no/such/web.toml"], 3, "cannot be read"),
        (["serve"], 3, "No database is named"),
        (["check-config", "--db", "sqlite:///x.db", "--listen", "nowhere"], 3, "ADDRESS:PORT"),
        (["frobnicate"], 2, "invalid choice"),
        ([], 2, "COMMAND"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: list[str], code: int, sentence: str) -> None:
    ended = run(*arguments)
    assert ended.returncode == code, ended.stderr
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "hidden" not in ended.stderr
    if code != 2:
        assert len(ended.stderr.strip().splitlines()) == 1


def test_a_database_without_tables_is_refused(tmp_path: Path) -> None:
    ended = run("serve", "--db", f"sqlite:///{tmp_path}/empty.db")
    assert ended.returncode == 4
    assert "jobledger-collector migrate" in ended.stderr


def test_it_explains_itself() -> None:
    assert run("--version").stdout == f"jobledger-web {__version__}\n"
    told = run("--help").stdout
    for part in ("examples:", "jobledger-web serve --db", "exit codes:"):
        assert part in told
    good = run("check-config", "--db", "sqlite:///x.db")
    assert (good.returncode, good.stdout) == (
        0,
        "The configuration is good: listening on 127.0.0.1:8080.\n",
    )
