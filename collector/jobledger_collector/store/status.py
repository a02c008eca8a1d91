"""What the database holds, in a few numbers."""

from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, select

from jobledger_collector.store.agents import list_agents
from jobledger_collector.store.schema import charges, job_runs, quarantine, run_revisions
from jobledger_collector.store.verifications import last_verified


class Status(NamedTuple):
    """Counts of rows, every agent's own row, and what was last compared of each cluster."""

    runs: int
    revisions: int
    charges: int
    quarantined: int
    agents: list[dict[str, Any]]
    verified: list[dict[str, Any]]


def read_status(conn: Connection) -> Status:
    """Count; takes as long as the database needs to count its largest table."""

    def rows(table: Table) -> int:
        return conn.execute(select(func.count()).select_from(table)).scalar_one()

    return Status(
        rows(job_runs),
        rows(run_revisions),
        rows(charges),
        rows(quarantine),
        list_agents(conn),
        [one._asdict() for one in last_verified(conn)],
    )
