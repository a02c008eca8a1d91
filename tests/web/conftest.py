"""The web on real books: filled once, copied for tests that write."""

import hashlib
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from werkzeug.test import TestResponse

from jobledger_collector.store import people, sessions
from jobledger_web import clock, database
from jobledger_web.app import create_app
from jobledger_web.config import WebConfig
from tests.web.filled import NOW_S, PASSWORD, fill

SignIn = Callable[..., FlaskClient]


class Browser(FlaskClient):
    """A test client that reads every answer to its end, as browsers do."""

    def open(self, *args: Any, buffered: bool = True, **kwargs: Any) -> TestResponse:  # noqa: ANN401
        return super().open(*args, buffered=buffered, **kwargs)


CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""Real argon2id at a cost that a hundred sign-ins can afford."""


@contextmanager
def cheap_passwords() -> Iterator[None]:
    """Hash at little cost meanwhile, and not in other folders' tests of the same process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people, "_hasher", lambda: CHEAP)
        yield


@pytest.fixture(autouse=True)
def _cheap_passwords() -> Iterator[None]:
    with cheap_passwords():
        yield


@pytest.fixture(scope="session")
def filled_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with everything in it."""
    path = tmp_path_factory.mktemp("books") / "jobledger.db"
    with cheap_passwords():
        engine = fill(f"sqlite:///{path}")
    with engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path


@pytest.fixture
def books_url(filled_db: Path, tmp_path: Path) -> str:
    """A copy of the filled books of one's own."""
    path = tmp_path / "books.db"
    shutil.copyfile(filled_db, path)
    return f"sqlite:///{path}"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The web's clock, in a list of one: change it and time has passed."""
    held = [NOW_S]
    monkeypatch.setattr(clock, "now_s", lambda: held[0])
    return held


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> FileSystemBytecodeCache:
    """Templates compile once for all the apps of a run."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def app(books_url: str, now: list[int], compiled: FileSystemBytecodeCache) -> Iterator[Flask]:
    """The web on a copy of the filled books, two days after they were filled."""
    assert now == [NOW_S]
    web = create_app(WebConfig(books_url))
    web.test_client_class = Browser
    web.jinja_env.bytecode_cache = compiled
    yield web
    with web.app_context():
        database.site().engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A browser that nobody has signed in with."""
    return app.test_client()


@pytest.fixture
def sign_in(app: Flask) -> SignIn:
    """A browser of somebody's own, with a session; through the form only where that matters."""

    def enter(login: str, *, by_form: bool = False) -> FlaskClient:
        browser = app.test_client()
        if by_form:
            answer = log_in(browser, login)
            assert answer.status_code == 303, answer.text
            return browser
        session_id = secrets.token_urlsafe(32)
        digest = hashlib.sha256(session_id.encode()).hexdigest()
        with app.app_context(), database.writing() as conn:
            sessions.open_session(conn, digest, login, secrets.token_urlsafe(32), clock.now_s())
        browser.set_cookie("jobledger", session_id)
        return browser

    return enter


@pytest.fixture
def empty_app(sqlite_url: str, now: list[int]) -> Iterator[Flask]:
    """The web before anything has arrived."""
    assert now == [NOW_S]
    web = create_app(WebConfig(sqlite_url))
    yield web
    with web.app_context():
        database.site().engine.dispose()


def log_in(browser: FlaskClient, login: str, password: str = PASSWORD) -> TestResponse:
    """Fill in the sign-in form and send it."""
    data = {"csrf": token(browser, "/login"), "login": login, "password": password}
    return browser.post("/login", data=data)


def token(browser: FlaskClient, page: str = "/password") -> str:
    """The token that a page's forms carry."""
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get(page).text)
    assert found is not None
    return found[1]
