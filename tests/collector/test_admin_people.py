"""``jobledger people``: logins, roles, and passwords that nobody can read back."""

import io
import json
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select, update

from jobledger_collector.admin.cli import main
from jobledger_collector.store.engine import open_engine, reading, transaction
from jobledger_collector.store.migrate import upgrade
from jobledger_collector.store.people import (
    Person,
    add_person,
    check_password,
    find_person,
    weakness,
)
from jobledger_collector.store.schema import people
from jobledger_collector.store.sessions import find_session, open_session

Said = pytest.CaptureFixture[str]
GOOD = "correct horse battery"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'books.db'}"


@pytest.fixture
def good(tmp_path: Path) -> str:
    file = tmp_path / "password"
    file.write_text(GOOD + "\n")
    return str(file)


def may_sign_in(url: str, login: str, password: str) -> bool:
    with transaction(open_engine(url)) as conn:
        return check_password(conn, login, password)


def test_a_generated_password_is_shown_once_and_must_be_changed(url: str, capsys: Said) -> None:
    assert main(["--db", url, "people", "add", "root.admin", "--role", "admin", "--generate"]) == 0
    password = capsys.readouterr().out.strip()
    assert len(password) == 20
    assert may_sign_in(url, "root.admin", password)
    with reading(open_engine(url)) as conn:
        found = find_person(conn, "root.admin")
        stored = conn.execute(select(people.c.password_hash)).scalar_one()
    assert found is not None
    assert found.must_change
    assert stored.startswith("$argon2id$")
    assert password not in stored


def test_a_member_sees_a_slurm_user_and_accounts(url: str, good: str, capsys: Said) -> None:
    command = ["people", "add", "alice", "--role", "member", "--slurm-user", "alice"]
    accounts = ["--account", "physics", "--account", "acme"]
    assert main(["--db", url, *command, *accounts, "--password-file", good]) == 0
    assert main(["--db", url, "people", "list", "--json"]) == 0
    alice = json.loads(capsys.readouterr().out)
    assert (alice["login"], alice["role"], alice["slurm_user"]) == ("alice", "member", "alice")
    assert alice["accounts"] == ["physics", "acme"]
    assert not any("hash" in key for key in alice)
    assert not alice["must_change"]
    assert may_sign_in(url, "alice", GOOD)


def test_a_password_can_come_from_standard_input(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(GOOD + "\n"))
    add = ["people", "add", "bob", "--role", "finance", "--password-file", "-"]
    assert main(["--db", url, *add]) == 0
    assert may_sign_in(url, "bob", GOOD)


@pytest.fixture
def alice(url: str, good: str) -> str:
    main(["--db", url, "people", "add", "alice", "--role", "member", "--password-file", good])
    return url


def test_a_new_password_ends_the_old_one_and_all_sessions(alice: str, capsys: Said) -> None:
    with transaction(open_engine(alice)) as conn:
        open_session(conn, "0" * 64, "alice", "csrf", 1)
    assert main(["--db", alice, "people", "passwd", "alice", "--generate"]) == 0
    new = capsys.readouterr().out.strip()
    assert not may_sign_in(alice, "alice", GOOD)
    assert may_sign_in(alice, "alice", new)
    with reading(open_engine(alice)) as conn:
        assert find_session(conn, "0" * 64, seen_after=0, created_after=0) is None


def test_who_is_disabled_cannot_sign_in_until_it_is_undone(alice: str, capsys: Said) -> None:
    assert main(["--db", alice, "people", "disable", "alice"]) == 0
    assert not may_sign_in(alice, "alice", GOOD)
    main(["--db", alice, "people", "list"])
    assert "disabled" in capsys.readouterr().out
    assert main(["--db", alice, "people", "disable", "alice", "--undo"]) == 0
    assert may_sign_in(alice, "alice", GOOD)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["add", "alice", "--role", "admin", "--generate"], 1, "a person alice already"),
        (["add", "a b", "--role", "admin", "--generate"], 2, "is not a login"),
        (
            ["add", "x", "--role", "member", "--account", "a,b", "--generate"],
            2,
            "its own --account",
        ),
        (["add", "x", "--role", "admin", "--password-file", "/nowhere"], 5, "Cannot read"),
        (["add", "x", "--role", "admin"], 2, "Nobody is here to ask"),
        (["passwd", "nobody", "--generate"], 1, "no person nobody"),
        (["disable", "nobody"], 1, "no person nobody"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    alice: str, capsys: Said, arguments: list[str], code: int, said: str
) -> None:
    assert main(["--db", alice, "people", *arguments]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert may_sign_in(alice, "alice", GOOD)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("short", "at least 12"),
        ("x" * 1_001, "at most 1000"),
        ("aaaaaaaaaaaaaaa", "repeats"),
        ("ChangeMe12345", "first thing to be guessed"),
        ("passwordpassword", "first thing to be guessed"),
        ("my-Alice-password", "must not contain the login"),
        (GOOD, ""),
    ],
)
def test_weak_passwords_are_refused_in_words(
    url: str, tmp_path: Path, capsys: Said, password: str, said: str
) -> None:
    assert said in weakness(password, "alice")
    assert bool(weakness(password, "alice")) == bool(said)
    file = tmp_path / "weak"
    file.write_text(password)
    add = ["people", "add", "alice", "--role", "member", "--password-file", str(file)]
    assert main(["--db", url, *add]) == (5 if said else 0)
    assert said in capsys.readouterr().err


def test_nobody_cannot_sign_in(alice: str) -> None:
    assert not may_sign_in(alice, "mallory", GOOD)
    assert not may_sign_in(alice, "", "")
    assert not may_sign_in(alice, "alice", GOOD.upper())


def test_a_hash_made_with_older_costs_is_made_anew_at_sign_in(alice: str) -> None:
    engine = open_engine(alice)
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD)
    with transaction(engine) as conn:
        conn.execute(update(people).values(password_hash=cheap))
    assert may_sign_in(alice, "alice", GOOD)
    with reading(engine) as conn:
        stored = conn.execute(select(people.c.password_hash)).scalar_one()
    assert stored != cheap
    assert not PasswordHasher().check_needs_rehash(stored)
    assert may_sign_in(alice, "alice", GOOD)


def test_the_same_rules_on_every_database(database_url: str) -> None:
    engine = open_engine(database_url)
    upgrade(engine)
    with transaction(engine) as conn:
        assert add_person(conn, Person("carol", "finance"), GOOD)
        assert not add_person(conn, Person("carol", "admin"), GOOD)
    assert may_sign_in(database_url, "carol", GOOD)
