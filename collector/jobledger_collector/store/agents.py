"""Who reports, how far each has come, and how many records each has delivered."""

from collections.abc import Sequence

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from jobledger_collector.core.reporter import Greeting, Health
from jobledger_collector.store.engine import is_sqlite
from jobledger_collector.store.schema_agents import agents

COUNTERS = ("records_new", "records_known", "records_revised", "records_quarantined")


def greet(conn: Connection, greeting: Greeting, now_s: int) -> None:
    """Note that an agent has connected."""
    insert = sqlite.insert if is_sqlite(conn) else postgresql.insert
    said = {
        "version": greeting.version,
        "clusters": ",".join(greeting.clusters),
        "clock_skew_ms": greeting.clock_skew_ms,
        "last_seen": now_s,
    }
    row = insert(agents).values(name=greeting.name, first_seen=now_s, **said)
    conn.execute(row.on_conflict_do_update(index_elements=["name"], set_=said))


def note_health(conn: Connection, name: str, health: Health, now_s: int) -> None:
    """Keep what an agent last said of itself."""
    conn.execute(
        agents.update().where(agents.c.name == name).values(**health._asdict(), last_seen=now_s)
    )


def count_records(conn: Connection, name: str, counts: Sequence[int], now_s: int) -> None:
    """Add to an agent's counters, in the order of COUNTERS; in the batch's transaction."""
    sums = {
        column: agents.c[column] + number
        for column, number in zip(COUNTERS, counts, strict=True)
        if number
    }
    conn.execute(agents.update().where(agents.c.name == name).values(**sums, last_seen=now_s))


def forget(conn: Connection, name: str) -> bool:
    """Forget that an agent ever reported; what it delivered stays. False when it never did."""
    return bool(conn.execute(agents.delete().where(agents.c.name == name)).rowcount)


def list_agents(conn: Connection) -> list[dict[str, str | int]]:
    """Return every agent's row, by name."""
    rows = conn.execute(select(agents).order_by(agents.c.name))
    return [dict(row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name
