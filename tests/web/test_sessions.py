"""Signing in and out: what a session is worth, and for how long."""

import hashlib
import sqlite3
import threading
import time

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jobledger_collector.store import people
from jobledger_collector.store.engine import open_engine, transaction
from jobledger_web import throttle
from jobledger_web.app import create_app
from jobledger_web.config import WebConfig
from jobledger_web.sessions import TOUCH_S, local_target
from tests.web.conftest import SignIn, log_in, token
from tests.web.filled import PASSWORD

IDLE_S = WebConfig("").idle_s
ABSOLUTE_S = WebConfig("").absolute_s
NEW = "seven loud orange bicycles"


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def session_id(browser: FlaskClient) -> str:
    cookie = browser.get_cookie("jobledger")
    assert cookie is not None
    return cookie.value


def is_in(browser: FlaskClient) -> bool:
    return browser.get("/invoices").status_code == 200


# -------------------------------------------------------------------- sign in


def test_signing_in_leads_where_one_wanted_to_go(client: FlaskClient) -> None:
    sent = client.get("/invoices?month=2026-11").headers["Location"]
    assert sent == "/login?next=/invoices?month%3D2026-11"
    form = client.get(sent).text
    assert 'name="next" value="/invoices?month=2026-11"' in form
    data = {"csrf": token(client, "/login"), "login": "ada", "password": PASSWORD}
    answer = client.post("/login", data=data | {"next": "/invoices?month=2026-11"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/invoices?month=2026-11")
    assert is_in(client)


@pytest.mark.parametrize(
    ("target", "leads"),
    [
        ("/usage?month=all", "/usage?month=all"),
        ("", "/"),
        ("usage", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("///evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("http:/evil.example", "/"),
        ("/%09/evil.example", "/%09/evil.example"),
    ],
)
def test_one_is_only_sent_to_pages_of_this_site(app: Flask, target: str, leads: str) -> None:
    with app.test_request_context():
        assert local_target(target) == leads


@pytest.mark.parametrize(
    ("login", "password"),
    [("ada", "wrong"), ("ada", ""), ("nobody-here", PASSWORD), ("", ""), ("a" * 500, "x")],
)
def test_a_wrong_login_or_password_says_the_same(
    client: FlaskClient, login: str, password: str
) -> None:
    answer = log_in(client, login, password)
    assert answer.status_code == 401
    assert "The login or the password is not right." in answer.text
    assert not is_in(client)


def test_an_unknown_login_takes_as_long_as_a_wrong_password(
    client: FlaskClient, books_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    costly = PasswordHasher(time_cost=4, parallelism=1)
    nobodys = costly.hash("nobody's")
    monkeypatch.setattr(people, "_hasher", lambda: costly)
    monkeypatch.setattr(people, "_nobodys_hash", lambda: nobodys)
    with transaction(open_engine(books_url)) as conn:
        people.set_password(conn, "finn", PASSWORD, must_change=False)

    def best_s(login: str) -> float:
        def once() -> float:
            began = time.thread_time()  # the work, whatever else the machine does
            log_in(client, login, "wrong")
            return time.thread_time() - began

        return min(once() for _ in range(2))

    assert best_s("nobody-here") > 0.5 * best_s("finn") > 2 * best_s("ada")


def test_the_session_id_is_new_at_every_sign_in(app: Flask) -> None:
    browser = app.test_client()
    browser.set_cookie("jobledger", "A" * 43)
    log_in(browser, "ada")
    first = session_id(browser)
    assert first != "A" * 43
    data = {"csrf": token(browser), "login": "finn", "password": PASSWORD}
    browser.post("/login", data=data)
    assert session_id(browser) != first
    other = app.test_client()
    other.set_cookie("jobledger", first)
    assert not is_in(other)


def test_the_database_holds_only_a_digest(app: Flask, books_url: str, sign_in: SignIn) -> None:
    browser = sign_in("ada", by_form=True)
    known = session_id(browser)
    kept = rows(books_url, "SELECT * FROM sessions")
    assert [row[0] for row in kept] == [hashlib.sha256(known.encode()).hexdigest()]
    assert known not in str(kept)
    thief = app.test_client()
    thief.set_cookie("jobledger", str(kept[0][0])[:43])
    assert not is_in(thief)


def test_the_cookie_is_out_of_reach_of_scripts(client: FlaskClient) -> None:
    cookie = log_in(client, "ada").headers.getlist("Set-Cookie")
    session = next(one for one in cookie if one.startswith("jobledger="))
    assert "HttpOnly" in session
    assert "SameSite=Lax" in session


# ------------------------------------------------------------------- lifetime


def test_a_session_ends_when_idle(sign_in: SignIn, now: list[int]) -> None:
    browser = sign_in("ada")
    for _ in range(4):
        now[0] += IDLE_S - TOUCH_S
        assert is_in(browser)
    now[0] += IDLE_S
    assert not is_in(browser)


def test_a_session_ends_when_old_however_busy(sign_in: SignIn, now: list[int]) -> None:
    browser, end = sign_in("ada"), now[0] + ABSOLUTE_S
    while now[0] + IDLE_S // 2 < end:
        now[0] += IDLE_S // 2
        assert is_in(browser)
    now[0] = end
    assert not is_in(browser)


def test_signing_out_ends_the_session_for_whoever_has_the_cookie(
    app: Flask, sign_in: SignIn
) -> None:
    browser, copy = sign_in("ada"), app.test_client()
    copy.set_cookie("jobledger", session_id(browser))
    assert is_in(copy)
    assert browser.post("/logout", data={"csrf": token(browser)}).status_code == 303
    assert not is_in(browser)
    assert not is_in(copy)


def test_a_barred_person_is_out_at_once(books_url: str, sign_in: SignIn) -> None:
    browser = sign_in("finn")
    with transaction(open_engine(books_url)) as conn:
        people.set_disabled(conn, "finn", disabled=True)
    assert not is_in(browser)
    assert log_in(browser, "finn").status_code == 401


def test_sessions_outlive_the_program(books_url: str, sign_in: SignIn) -> None:
    browser = sign_in("ada")
    again = create_app(WebConfig(books_url)).test_client()
    again.set_cookie("jobledger", session_id(browser))
    assert is_in(again)


def test_old_sessions_are_swept_at_the_next_sign_in(
    books_url: str, sign_in: SignIn, now: list[int]
) -> None:
    sign_in("finn")
    now[0] += ABSOLUTE_S
    sign_in("ada", by_form=True)
    assert rows(books_url, "SELECT login FROM sessions") == [("ada",)]


# ------------------------------------------------------------------ passwords


def change(browser: FlaskClient, current: str, new: str, again: str) -> TestResponse:
    data = {"csrf": token(browser), "current": current, "new": new, "again": again}
    return browser.post("/password", data=data)


def test_a_new_password_ends_every_other_session(app: Flask, sign_in: SignIn) -> None:
    browser, elsewhere = sign_in("ada"), sign_in("ada")
    before = session_id(browser)
    assert change(browser, PASSWORD, NEW, NEW).status_code == 303
    assert is_in(browser)
    assert session_id(browser) != before
    assert not is_in(elsewhere)
    assert log_in(app.test_client(), "ada").status_code == 401
    assert log_in(app.test_client(), "ada", NEW).status_code == 303


@pytest.mark.parametrize(
    ("current", "new", "again", "sentence"),
    [
        ("wrong", NEW, NEW, "The current password is not right."),
        (PASSWORD, NEW, NEW + "x", "The two new passwords are not the same."),
        (PASSWORD, PASSWORD, PASSWORD, "The new password is the old one."),
        (PASSWORD, "short", "short", "The new password is too short."),
        (PASSWORD, "a" * 20, "a" * 20, "The new password is too easy to guess."),
        (PASSWORD, "my name is FINN ok", "my name is FINN ok", "too easy to guess"),
    ],
)
def test_a_bad_new_password_is_refused(
    sign_in: SignIn, current: str, new: str, again: str, sentence: str
) -> None:
    browser = sign_in("finn")
    answer = change(browser, current, new, again)
    assert answer.status_code == 400
    assert sentence in answer.text


def test_a_password_given_by_others_must_be_changed_first(sign_in: SignIn) -> None:
    browser = sign_in("newcomer")
    for page in ("/", "/usage.csv", "/invoices", "/rates"):
        assert browser.get(page).headers["Location"] == "/password"
    assert change(browser, PASSWORD, NEW, NEW).status_code == 303
    assert is_in(browser)


def test_the_current_password_cannot_be_guessed_in_the_form(sign_in: SignIn) -> None:
    browser = sign_in("finn")
    statuses = [change(browser, f"guess {n}", NEW, NEW).status_code for n in range(6)]
    assert statuses == [400] * 5 + [429]


# ------------------------------------------------------------------- throttle


def attempt(app: Flask, login: str, password: str, address: str = "127.0.0.1") -> int:
    browser = app.test_client()
    browser.environ_base["REMOTE_ADDR"] = address
    return log_in(browser, login, password).status_code


def test_five_failures_lock_the_login_even_for_the_right_password(
    app: Flask, books_url: str, now: list[int]
) -> None:
    assert [attempt(app, "ada", "wrong") for _ in range(5)] == [401] * 5
    assert attempt(app, "ada", PASSWORD) == 429
    assert attempt(app, "finn", PASSWORD) == 303, "others are not locked out"
    restarted = create_app(WebConfig(books_url))
    assert attempt(restarted, "ada", PASSWORD) == 429, "the lock is in the database"
    now[0] += throttle.SPAN_S + throttle.WINDOW_S
    assert attempt(app, "ada", PASSWORD) == 303


def test_a_locked_attempt_does_not_lengthen_the_lock(app: Flask, now: list[int]) -> None:
    for _ in range(5):
        attempt(app, "ada", "wrong")
    for _ in range(4):
        now[0] += throttle.WINDOW_S
        if attempt(app, "ada", PASSWORD) == 303:
            return
    pytest.fail("still locked although nothing was counted")


def test_a_locked_answer_says_when_to_come_back(app: Flask) -> None:
    for _ in range(5):
        attempt(app, "ada", "wrong")
    answer = log_in(app.test_client(), "ada")
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == str(throttle.SPAN_S)


def test_signing_in_forgives_earlier_mistakes(app: Flask) -> None:
    for _ in range(3):
        assert [attempt(app, "ada", "wrong") for _ in range(4)] == [401] * 4
        assert attempt(app, "ada", PASSWORD) == 303


def test_attempts_that_arrive_together_do_not_slip_through(app: Flask) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(attempt(app, "ada", "wrong")))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [401] * 5 + [429] * 7


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
    ],
)
def test_an_address_is_limited_over_all_logins(
    books_url: str, first: str, second: str, is_same: bool
) -> None:
    engine = open_engine(books_url)
    with transaction(engine) as conn:
        for n in range(throttle.PER_ADDRESS):
            assert throttle.admit(conn, f"guess-{n}", first, 1_000_000)
        assert throttle.admit(conn, "one more", second, 1_000_000) is not is_same
    engine.dispose()


def test_counting_is_the_same_on_both_databases(database_url: str) -> None:
    engine = open_engine(database_url)
    with transaction(engine) as conn:
        admitted = [throttle.admit(conn, "ada", "192.0.2.1", 1_000_000) for _ in range(7)]
        assert admitted == [True] * 5 + [False] * 2
        throttle.welcome(conn, "ada", "192.0.2.1", 1_000_000)
        assert throttle.admit(conn, "ada", "192.0.2.1", 1_000_000)
    engine.dispose()
