"""Reading one run in full, and costs day by day. Nothing here writes."""

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy import func as sql

from jobledger_collector.core.charge import NO_PRICE
from jobledger_collector.store.schema import charges, job_runs, prices, run_revisions
from jobledger_collector.store.usage_rows import JobFilter, conditions, standing_charge_of_run

REVISIONS_MAX: Final = 200
"""Earlier revisions of a run that are listed, newest first."""
HALF_HOUR_S: Final = 1_800
"""Every time zone's midnight falls on one, also around a change of the clocks."""


class RevisionRow(NamedTuple):
    """What a run said before: the replaced row as JSON, and when it was replaced."""

    revision: int
    record: str
    replaced_at: int


def find_run(
    conn: Connection, wanted: JobFilter, job_id: int, submit: int
) -> dict[str, Any] | None:
    """Return the newest revision of a run by column name, None if the filter hides it.

    The cluster is the filter's; so is what the reader may see.
    """
    row = (
        conn.execute(
            select(job_runs).where(
                *conditions(wanted), job_runs.c.job_id == job_id, job_runs.c.submit == submit
            )
        )
        .mappings()
        .first()
    )
    return None if row is None else {str(key): value for key, value in row.items()}


def run_revision_rows(
    conn: Connection, cluster: str, job_id: int, submit: int
) -> list[RevisionRow]:
    """Return what a run said before, newest first; at most REVISIONS_MAX."""
    columns = [run_revisions.c[name] for name in RevisionRow._fields]
    rows = conn.execute(
        select(*columns)
        .where(
            run_revisions.c.cluster == cluster,
            run_revisions.c.job_id == job_id,
            run_revisions.c.submit == submit,
        )
        .order_by(run_revisions.c.revision.desc())
        .limit(REVISIONS_MAX)
    )
    return [RevisionRow(*row) for row in rows]


def half_hour_costs(conn: Connection, wanted: JobFilter, origin: int) -> dict[int, int]:
    """Cost of the filter's runs by the half hour of their end, in 10^-14 of the major unit.

    Keys are half hours since ``origin`` (epoch seconds). Quantities of equal
    prices are summed by the database and multiplied here: exact on any.
    """
    half_hour = (job_runs.c.end - origin) // HALF_HOUR_S
    rows = conn.execute(
        select(half_hour, prices.c.unit_e8, sql.sum(charges.c.quantity_micro))
        .select_from(
            job_runs.join(charges, standing_charge_of_run()).join(
                prices, prices.c.id == charges.c.price_id
            )
        )
        .where(*conditions(wanted), charges.c.price_id != NO_PRICE)
        .group_by(half_hour, prices.c.unit_e8)
    )
    costs: dict[int, int] = {}
    for bucket, unit_e8, quantity_micro in rows:
        costs[bucket] = costs.get(bucket, 0) + int(quantity_micro) * unit_e8
    return costs
