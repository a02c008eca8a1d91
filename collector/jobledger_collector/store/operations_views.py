"""Reading how the service itself is: agents, clusters, quarantine. Nothing here writes."""

from typing import Final, NamedTuple

from sqlalchemy import Connection, LargeBinary, func, select

from jobledger_collector.store.schema import books, job_runs, quarantine
from jobledger_collector.store.schema_agents import agents, enrolments

__all__ = [
    "AgentRow", "QuarantinePage", "QuarantineRow", "ReasonCount",
    "agent_rows", "agents_seen", "cluster_names", "is_reachable", "quarantine_page",
    "quarantine_reasons",
]  # fmt: skip

AGENTS_MAX: Final = 500
"""Agents listed."""
CLUSTERS_MAX: Final = 100
"""Clusters listed."""
REASONS_MAX: Final = 100
"""Different reasons listed."""
QUARANTINE_PAGE_ROWS: Final = 25
"""Records on one page of the quarantine."""
RAW_SHOWN_BYTES: Final = 8 * 1024
"""Of each raw record, at most this much is read for a page."""


class AgentRow(NamedTuple):
    """One agent as it last reported. Times in epoch seconds, 0 unknown.

    ``dbd_queue`` are messages that slurmctld holds for slurmdbd, -1 unknown.
    """

    name: str
    version: str
    clusters: str
    first_seen: int
    last_seen: int
    clock_skew_ms: int
    spool_records: int
    complete_through: int
    source_error: str
    records_new: int
    records_known: int
    records_revised: int
    records_quarantined: int
    held_records: int = 0
    dbd_queue: int = -1


class ReasonCount(NamedTuple):
    """How many quarantined records share a cluster and a reason."""

    cluster: str
    reason: str
    records: int


class QuarantineRow(NamedTuple):
    """One quarantined record; ``raw`` is its beginning, ``raw_size`` its whole size in bytes."""

    id: int
    cluster: str
    agent: str
    origin: str
    reason: str
    raw: bytes
    raw_size: int
    first_seen: int
    last_seen: int
    times: int


class QuarantinePage(NamedTuple):
    """Records newest first; ``next`` and ``previous`` are ids to page on from, or None."""

    rows: list[QuarantineRow]
    next: int | None
    previous: int | None


def is_reachable(conn: Connection) -> bool:
    """Say whether the database answers and holds our tables; errors are the caller's."""
    conn.execute(select(books.c.id).limit(1)).all()
    return True


def agent_rows(conn: Connection) -> list[AgentRow]:
    """Return every agent by name; at most AGENTS_MAX."""
    columns = [agents.c[name] for name in AgentRow._fields]
    rows = conn.execute(select(*columns).order_by(agents.c.name).limit(AGENTS_MAX))
    return [AgentRow(*row) for row in rows]


def agents_seen(conn: Connection, since_s: int) -> list[tuple[str, int, int]]:
    """Return (name, last seen, clock skew in ms) of agents that may report and did since then."""
    revoked = select(enrolments.c.agent).where(enrolments.c.revoked_at != 0)
    rows = conn.execute(
        select(agents.c.name, agents.c.last_seen, agents.c.clock_skew_ms)
        .where(agents.c.last_seen >= since_s, agents.c.name.not_in(revoked))
        .order_by(agents.c.name)
        .limit(AGENTS_MAX)
    )
    return [(row[0], row[1], row[2]) for row in rows]


def cluster_names(conn: Connection) -> list[str]:
    """Return the clusters that have runs, by name; at most CLUSTERS_MAX.

    Steps from name to name along the primary key: DISTINCT would read every run.
    """
    names: list[str] = []
    while len(names) < CLUSTERS_MAX:
        after = select(func.min(job_runs.c.cluster))
        if names:
            after = after.where(job_runs.c.cluster > names[-1])
        name = conn.execute(after).scalar_one()
        if name is None:
            break
        names.append(name)
    return names


def quarantine_reasons(conn: Connection) -> list[ReasonCount]:
    """Count records by cluster and reason, most first; at most REASONS_MAX."""
    count = func.count().label("records")
    rows = conn.execute(
        select(quarantine.c.cluster, quarantine.c.reason, count)
        .group_by(quarantine.c.cluster, quarantine.c.reason)
        .order_by(count.desc(), quarantine.c.cluster, quarantine.c.reason)
        .limit(REASONS_MAX)
    )
    return [ReasonCount(*row) for row in rows]


def quarantine_page(
    conn: Connection,
    *,
    cluster: str | None = None,
    reason: str | None = None,
    older_than: int | None = None,
    newer_than: int | None = None,
) -> QuarantinePage:
    """Return one page of records, newest first; page on by the ids it names."""
    beginning = func.substr(quarantine.c.raw, 1, RAW_SHOWN_BYTES, type_=LargeBinary).label("raw")
    columns = [beginning if name == "raw" else quarantine.c[name] for name in QuarantineRow._fields]
    wanted = [
        column == value
        for column, value in ((quarantine.c.cluster, cluster), (quarantine.c.reason, reason))
        if value is not None
    ]
    backward = newer_than is not None
    if newer_than is not None:
        wanted.append(quarantine.c.id > newer_than)
    elif older_than is not None:
        wanted.append(quarantine.c.id < older_than)
    order = quarantine.c.id.asc() if backward else quarantine.c.id.desc()
    found = conn.execute(
        select(*columns).where(*wanted).order_by(order).limit(QUARANTINE_PAGE_ROWS + 1)
    ).all()
    more = len(found) > QUARANTINE_PAGE_ROWS
    rows = [QuarantineRow(*row) for row in found[:QUARANTINE_PAGE_ROWS]]
    rows = [row._replace(raw=bytes(row.raw)) for row in rows]  # psycopg2 gives a memoryview
    if backward:
        rows.reverse()
    has_next, has_previous = (True, more) if backward else (more, older_than is not None)
    return QuarantinePage(
        rows,
        rows[-1].id if rows and has_next else None,
        rows[0].id if rows and has_previous else None,
    )
