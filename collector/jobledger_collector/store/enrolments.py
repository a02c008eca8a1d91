"""Who may report: enrolments, their clusters and tokens, and a number that says they changed."""

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple, TypeVar

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from jobledger_collector.core.enrolment import NEVER, Enrolment, Known, Shown, Token
from jobledger_collector.store.engine import raw_cursor
from jobledger_collector.store.schema_agents import (
    agent_tokens,
    enrolled_clusters,
    enrolment_changes,
    enrolments,
)

MAX_TOKENS: Final = 8
"""Tokens that one agent may have at a time; the oldest go first."""
MAX_LISTED: Final = 1_000
"""Enrolments listed."""

_Value = TypeVar("_Value")
_GENERATION: Final = "SELECT generation FROM enrolment_changes"


class Enrolled(NamedTuple):
    """An enrolment as it is shown to people; times in epoch seconds, 0 for never."""

    agent: str
    clusters: tuple[str, ...]
    asks_token: bool
    certificate_name: str
    enrolled_at: int
    enrolled_by: str
    revoked_at: int
    revoked_by: str
    tokens: tuple[Token, ...]


def generation(conn: Connection) -> int:
    """Return a number that goes up whenever anything here changes: a table of one row.

    By the driver itself, since every batch asks.
    """
    cursor = raw_cursor(conn)
    cursor.execute(_GENERATION)
    found: int = cursor.fetchone()[0]
    cursor.close()
    return found


def read_known(conn: Connection, agent: str, shown: Shown) -> Known:
    """Return all that decides whether an agent may report (see ``core.enrolment.admit``)."""
    changed = generation(conn)
    found = find(conn, agent)
    enrolment = None
    if found:
        enrolment = Enrolment(
            found.agent, frozenset(found.clusters), found.asks_token, found.certificate_name,
            found.revoked_at, found.tokens,
        )  # fmt: skip
    owners = {
        row.cluster: row.agent
        for row in conn.execute(
            select(enrolled_clusters).order_by(enrolled_clusters.c.agent.desc())
        )
    }
    return Known(changed, enrolment, owner_of(conn, shown), owners)


def owner_of(conn: Connection, shown: Shown) -> str:
    """Return the agent whose token or certificate was shown, "" for nobody's."""
    owner: str | None = None
    if shown.token_sha256:
        owner = conn.execute(
            select(agent_tokens.c.agent).where(agent_tokens.c.sha256 == shown.token_sha256)
        ).scalar_one_or_none()
    if owner is None and shown.names:
        owner = conn.execute(
            select(enrolments.c.agent)
            .where(enrolments.c.certificate_name.in_(shown.names))
            .order_by(enrolments.c.agent)
            .limit(1)
        ).scalar_one_or_none()
    return owner or ""


def find(conn: Connection, agent: str) -> Enrolled | None:
    """Return one agent's enrolment, None when it has none."""
    return next(iter(_enrolled(conn, agent)), None)


def list_enrolled(conn: Connection) -> list[Enrolled]:
    """Return every enrolment by name; at most MAX_LISTED."""
    return _enrolled(conn)


def owners_of(conn: Connection, clusters: Collection[str]) -> dict[str, str]:
    """Return which of these clusters belong to an agent, and to which (one of them).

    As they are enrolled: in upper or lower case.
    """
    rows = conn.execute(
        select(enrolled_clusters)
        .where(func.lower(enrolled_clusters.c.cluster).in_([name.lower() for name in clusters]))
        .order_by(enrolled_clusters.c.agent.desc())
    )
    return {row.cluster: row.agent for row in rows}


def is_certificate_taken(conn: Connection, name: str, agent: str) -> bool:
    """Whether another agent is enrolled with this certificate."""
    found = conn.execute(
        select(enrolments.c.agent).where(
            enrolments.c.certificate_name == name, enrolments.c.agent != agent
        )
    )
    return found.first() is not None


def enrol(conn: Connection, enrolled: Enrolled) -> None:
    """Enrol an agent, or enrol it anew with other clusters or proofs; its tokens go."""
    _forget(conn, enrolled.agent)
    conn.execute(
        insert(enrolments).values(
            agent=enrolled.agent,
            asks_token=int(enrolled.asks_token),
            certificate_name=enrolled.certificate_name,
            enrolled_at=enrolled.enrolled_at,
            enrolled_by=enrolled.enrolled_by,
        )
    )
    rows = [{"cluster": cluster, "agent": enrolled.agent} for cluster in enrolled.clusters]
    conn.execute(insert(enrolled_clusters), rows)
    _changed(conn)


def add_token(conn: Connection, agent: str, sha256: str, now_s: int, person: str) -> None:
    """Give an agent one more token, by what it hashes to."""
    conn.execute(
        insert(agent_tokens).values(
            sha256=sha256, agent=agent, created_at=now_s, created_by=person, expires_at=NEVER
        )
    )
    _changed(conn)


def end_tokens(conn: Connection, agent: str, at_s: int) -> None:
    """Let an agent's tokens end at a time (epoch seconds), those that end earlier as they do.

    What ended before is removed, and all but the newest MAX_TOKENS - 1.
    """
    tokens = agent_tokens.c
    conn.execute(
        update(agent_tokens)
        .where(tokens.agent == agent, or_(tokens.expires_at == NEVER, tokens.expires_at > at_s))
        .values(expires_at=at_s)
    )
    newest = conn.execute(
        select(tokens.sha256)
        .where(tokens.agent == agent)
        .order_by(tokens.created_at.desc(), tokens.sha256)
        .limit(MAX_TOKENS - 1)
    ).scalars()
    kept = list(newest)
    conn.execute(delete(agent_tokens).where(tokens.agent == agent, tokens.sha256.not_in(kept)))
    _changed(conn)


def revoke(conn: Connection, agent: str, now_s: int, person: str) -> bool:
    """Let an agent report no more; False when there is none, or none that still may."""
    done = conn.execute(
        update(enrolments)
        .where(enrolments.c.agent == agent, enrolments.c.revoked_at == 0)
        .values(revoked_at=now_s, revoked_by=person)
    )
    _changed(conn)
    return bool(done.rowcount)


def remove(conn: Connection, agent: str) -> bool:
    """Forget an enrolment: its clusters belong to nobody; False when there is none."""
    found = _forget(conn, agent)
    _changed(conn)
    return found


def _forget(conn: Connection, agent: str) -> bool:
    conn.execute(delete(agent_tokens).where(agent_tokens.c.agent == agent))
    conn.execute(delete(enrolled_clusters).where(enrolled_clusters.c.agent == agent))
    return bool(conn.execute(delete(enrolments).where(enrolments.c.agent == agent)).rowcount)


def _changed(conn: Connection) -> None:
    conn.execute(update(enrolment_changes).values(generation=enrolment_changes.c.generation + 1))


def _enrolled(conn: Connection, agent: str | None = None) -> list[Enrolled]:
    wanted = select(enrolments).order_by(enrolments.c.agent).limit(MAX_LISTED)
    clusters = select(enrolled_clusters).order_by(enrolled_clusters.c.cluster)
    tokens = select(agent_tokens).order_by(agent_tokens.c.created_at, agent_tokens.c.sha256)
    if agent is not None:
        wanted = wanted.where(enrolments.c.agent == agent)
        clusters = clusters.where(enrolled_clusters.c.agent == agent)
        tokens = tokens.where(agent_tokens.c.agent == agent)
    own = _by_agent((row.agent, row.cluster) for row in conn.execute(clusters))
    given = _by_agent(
        (row.agent, Token(row.sha256, row.expires_at)) for row in conn.execute(tokens)
    )
    return [
        Enrolled(
            row.agent, own.get(row.agent, ()), bool(row.asks_token), row.certificate_name,
            row.enrolled_at, row.enrolled_by, row.revoked_at, row.revoked_by,
            given.get(row.agent, ()),
        )
        for row in conn.execute(wanted)
    ]  # fmt: skip


def _by_agent(pairs: Iterable[tuple[str, _Value]]) -> dict[str, tuple[_Value, ...]]:
    found: dict[str, tuple[_Value, ...]] = {}
    for agent, value in pairs:
        found[agent] = (*found.get(agent, ()), value)
    return found
