"""Records that could not be stored: kept once each, however often they come."""

import hashlib
from collections.abc import Iterable

from sqlalchemy import Connection, case, func, select
from sqlalchemy.dialects import postgresql, sqlite

from jobledger_collector.core.record import Quarantined
from jobledger_collector.store.engine import is_sqlite
from jobledger_collector.store.schema import quarantine


def keep(conn: Connection, agent: str, records: Iterable[Quarantined], now_s: int) -> None:
    """Store records with their reasons; one that is there already is counted and dated."""
    insert = sqlite.insert if is_sqlite(conn) else postgresql.insert
    for record in records:
        row = insert(quarantine).values(
            cluster=record.cluster,
            raw_sha256=hashlib.sha256(record.raw).hexdigest(),
            agent=agent,
            origin=record.origin,
            reason=record.reason,
            raw=record.raw,
            raw_size=record.raw_size,
            first_seen=now_s,
            last_seen=now_s,
            times=1,
        )
        again = row.on_conflict_do_update(
            index_elements=["cluster", "raw_sha256", "reason"],
            set_={
                "last_seen": now_s,
                "times": quarantine.c.times + 1,
                "agent": agent,
                "origin": record.origin,
            },
        )
        conn.execute(again)


def count(conn: Connection) -> int:
    """Return how many records are kept aside."""
    return conn.execute(select(func.count()).select_from(quarantine)).scalar_one()


def count_by_origin(conn: Connection) -> dict[str, int]:
    """Return how many records are kept aside, by who found them unfit.

    ``agent`` could not read them, at the ``wire`` they were impossible, and the
    ``collector`` holds them for a person.
    """
    ours = quarantine.c.origin.in_(("wire", "collector"))
    kind = case((ours, quarantine.c.origin), else_="agent").label("kind")
    found = conn.execute(select(kind, func.count()).group_by(kind))
    return {"agent": 0, "wire": 0, "collector": 0, **{row[0]: row[1] for row in found}}
