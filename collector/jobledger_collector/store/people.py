"""People who may sign in to the web, and the only place that touches their passwords.

Passwords are kept as argon2id hashes with the library's recommended costs; a
hash made with older costs is made anew when its owner next signs in.
"""

from functools import cache
from typing import Final, NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection, insert, select, update

from jobledger_collector.store.schema import people

ROLES: Final = ("admin", "finance", "member")
"""admin: everything; finance: all usage and invoices; member: own jobs and named accounts."""
MIN_PASSWORD_CHARACTERS: Final = 12
MAX_PASSWORD_CHARACTERS: Final = 1_000
"""Longer ones would only cost time to hash."""
PLACEHOLDERS: Final = ("changeme", "password", "secret", "letmein", "qwerty", "123456")
"""What people put where a password should be."""


class Person(NamedTuple):
    """Someone who may sign in; ``accounts`` are billing accounts that a member sees."""

    login: str
    role: str
    slurm_user: str = ""
    accounts: tuple[str, ...] = ()
    must_change: bool = False
    disabled: bool = False
    created_at: int = 0


def add_person(conn: Connection, person: Person, password: str) -> bool:
    """Add someone with a password; False when the login is taken."""
    if find_person(conn, person.login):
        return False
    conn.execute(
        insert(people).values(
            login=person.login,
            role=person.role,
            password_hash=_hasher().hash(password),
            slurm_user=person.slurm_user,
            accounts=",".join(person.accounts),
            must_change=int(person.must_change),
            disabled=int(person.disabled),
            created_at=person.created_at,
        )
    )
    return True


def list_people(conn: Connection) -> list[Person]:
    """Return everyone, by login."""
    columns = [people.c[name] for name in Person._fields]
    return [_person(tuple(row)) for row in conn.execute(select(*columns).order_by(people.c.login))]


def find_person(conn: Connection, login: str) -> Person | None:
    """Return someone by login, None when nobody has it."""
    columns = [people.c[name] for name in Person._fields]
    row = conn.execute(select(*columns).where(people.c.login == login)).first()
    return _person(tuple(row)) if row else None


def set_password(conn: Connection, login: str, password: str, *, must_change: bool) -> bool:
    """Give someone a new password; False when nobody has the login."""
    changed = conn.execute(
        update(people)
        .where(people.c.login == login)
        .values(password_hash=_hasher().hash(password), must_change=int(must_change))
    )
    return bool(changed.rowcount)


def set_disabled(conn: Connection, login: str, *, disabled: bool) -> bool:
    """Bar someone from signing in, or let them again; False when nobody has the login."""
    changed = conn.execute(
        update(people).where(people.c.login == login).values(disabled=int(disabled))
    )
    return bool(changed.rowcount)


def check_password(conn: Connection, login: str, password: str) -> bool:
    """Tell whether this person may sign in with this password.

    Takes as long for a login that nobody has, or that is disabled, as for a
    wrong password, so that time tells nothing.
    """
    row = conn.execute(
        select(people.c.password_hash, people.c.disabled).where(people.c.login == login)
    ).first()
    known = row is not None and not row.disabled
    stored = row.password_hash if row is not None else _nobodys_hash()
    if not (_matches(stored, password[:MAX_PASSWORD_CHARACTERS]) and known):
        return False
    if _hasher().check_needs_rehash(stored):
        anew = _hasher().hash(password)
        conn.execute(update(people).where(people.c.login == login).values(password_hash=anew))
    return True


def weakness(password: str, login: str) -> str:
    """Return in words why a password will not do, "" when it will."""
    if len(password) < MIN_PASSWORD_CHARACTERS:
        return f"a password needs at least {MIN_PASSWORD_CHARACTERS} characters"
    if len(password) > MAX_PASSWORD_CHARACTERS:
        return f"a password has at most {MAX_PASSWORD_CHARACTERS} characters"
    if len(set(password)) < MIN_PASSWORD_CHARACTERS // 3:
        return "this password repeats so few characters that it would be guessed"
    folded = password.casefold()
    for placeholder in PLACEHOLDERS:
        if len(folded.replace(placeholder, "")) < MIN_PASSWORD_CHARACTERS // 2:
            return f'"{placeholder}" with a little around it is the first thing to be guessed'
    if login and login.casefold() in folded:
        return "a password must not contain the login"
    return ""


def _matches(stored: str, password: str) -> bool:
    try:
        return _hasher().verify(stored, password)
    except (VerifyMismatchError, InvalidHashError):
        return False


def _person(row: tuple[object, ...]) -> Person:
    login, role, slurm_user, accounts, must_change, disabled, created_at = row
    named = tuple(name for name in str(accounts).split(",") if name)
    return Person(
        str(login),
        str(role),
        str(slurm_user),
        named,
        bool(must_change),
        bool(disabled),
        int(str(created_at)),
    )


@cache
def _hasher() -> PasswordHasher:
    return PasswordHasher()


@cache
def _nobodys_hash() -> str:
    """A hash to compare with when there is no such login."""
    return _hasher().hash("a password that nobody has")
