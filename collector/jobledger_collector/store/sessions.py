"""Signed-in sessions and failed sign-ins of the web: the only SQL about them.

The browser holds a random id; the table holds its SHA-256 only, so that a copy
of the database signs nobody in. All times are epoch seconds.
"""

from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from jobledger_collector.store.schema import login_failures, people, sessions


class Session(NamedTuple):
    """A live session and the person whose it is, read together."""

    login: str
    csrf: str
    created_at: int
    seen_at: int
    role: str
    slurm_user: str
    accounts: str
    must_change: bool


def open_session(conn: Connection, id_sha256: str, login: str, csrf: str, now: int) -> None:
    """Store a new session that begins ``now``."""
    conn.execute(
        sessions.insert().values(
            id_sha256=id_sha256, login=login, csrf=csrf, created_at=now, seen_at=now
        )
    )


def find_session(
    conn: Connection, id_sha256: str, *, seen_after: int, created_after: int
) -> Session | None:
    """Return a session that is neither idle nor too old and whose person is not disabled."""
    row = conn.execute(
        select(
            sessions.c.login,
            sessions.c.csrf,
            sessions.c.created_at,
            sessions.c.seen_at,
            people.c.role,
            people.c.slurm_user,
            people.c.accounts,
            people.c.must_change,
        )
        .join(people, people.c.login == sessions.c.login)
        .where(
            sessions.c.id_sha256 == id_sha256,
            sessions.c.seen_at > seen_after,
            sessions.c.created_at > created_after,
            people.c.disabled == 0,
        )
    ).first()
    if row is None:
        return None
    return Session(*row[:7], must_change=bool(row.must_change))


def touch_session(conn: Connection, id_sha256: str, now: int) -> None:
    """Note that the session was used ``now``; time never runs backwards."""
    conn.execute(
        update(sessions)
        .where(sessions.c.id_sha256 == id_sha256, sessions.c.seen_at < now)
        .values(seen_at=now)
    )


def close_session(conn: Connection, id_sha256: str) -> None:
    """End one session; a second time does nothing."""
    conn.execute(delete(sessions).where(sessions.c.id_sha256 == id_sha256))


def close_sessions_of(conn: Connection, login: str) -> None:
    """End every session of a person, for instance when the password changes."""
    conn.execute(delete(sessions).where(sessions.c.login == login))


def purge(conn: Connection, *, seen_before: int, created_before: int, failed_before: int) -> None:
    """Delete sessions and failures that no longer mean anything."""
    conn.execute(
        delete(sessions).where(
            (sessions.c.seen_at <= seen_before) | (sessions.c.created_at <= created_before)
        )
    )
    conn.execute(delete(login_failures).where(login_failures.c.window_start < failed_before))


def count_attempt(conn: Connection, scope: str, window_start: int, since: int) -> int:
    """Count one attempt under ``scope`` and return the attempts since ``since``.

    The counter is raised before the password is looked at: the row's lock makes
    attempts that arrive together wait for each other, so that none slips past
    the limit. An attempt that proves good is taken back by ``forgive``.
    """
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    insert = dialect.insert(login_failures).values(
        scope=scope, window_start=window_start, failures=1
    )
    conn.execute(
        insert.on_conflict_do_update(
            index_elements=[login_failures.c.scope, login_failures.c.window_start],
            set_={"failures": login_failures.c.failures + 1},
        )
    )
    total = conn.execute(
        select(func.sum(login_failures.c.failures)).where(
            login_failures.c.scope == scope, login_failures.c.window_start >= since
        )
    ).scalar_one()
    return int(total)


def forgive(conn: Connection, scope: str) -> None:
    """Forget every failure counted under ``scope``."""
    conn.execute(delete(login_failures).where(login_failures.c.scope == scope))


def uncount_attempt(conn: Connection, scope: str, window_start: int) -> None:
    """Take one attempt back: it was a good one."""
    conn.execute(
        update(login_failures)
        .where(
            login_failures.c.scope == scope,
            login_failures.c.window_start == window_start,
            login_failures.c.failures > 0,
        )
        .values(failures=login_failures.c.failures - 1)
    )
