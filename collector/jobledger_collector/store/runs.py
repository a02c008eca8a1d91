"""Job runs in the database: read in streams, rated again in sets."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from sqlalchemy import Connection, select, tuple_

from jobledger_collector.core.record import RunKey
from jobledger_collector.store.bulk import bulk_of
from jobledger_collector.store.rows import RUN_COLUMNS, StoredRun, stored_run
from jobledger_collector.store.schema import job_runs

PAGE_RUNS: Final = 1_000
"""Runs read at one time; a stream holds no more in memory."""

_KEY: Final = (job_runs.c.cluster, job_runs.c.job_id, job_runs.c.submit)
_COLUMNS: Final = tuple(job_runs.c[name] for name in RUN_COLUMNS)


class Rating(NamedTuple):
    """How a run is rated; ``flags`` are all of its flags."""

    key: RunKey
    flags: tuple[str, ...]
    billing_account: str
    period: int


def iter_runs(
    conn: Connection, *, ended_after: int = 0, after: RunKey | None = None
) -> Iterator[StoredRun]:
    """Yield the ended runs that ended later than an instant, in the order of their keys.

    Read page by page, so that the caller may write to the same runs meanwhile;
    ``after`` continues where an earlier stream stopped.
    """
    while True:
        page = (
            select(*_COLUMNS).where(job_runs.c.end > ended_after).order_by(*_KEY).limit(PAGE_RUNS)
        )
        if after:
            page = page.where(tuple_(*_KEY) > tuple_(*after))
        rows = conn.execute(page).all()
        for row in rows:
            yield stored_run(row)
        if len(rows) < PAGE_RUNS:
            return
        after = RunKey(*rows[-1][:3])


def find_runs(conn: Connection, cluster: str, job_id: int) -> list[StoredRun]:
    """Return all runs of a job id, oldest first: a requeued job has several."""
    rows = conn.execute(
        select(*_COLUMNS)
        .where(job_runs.c.cluster == cluster, job_runs.c.job_id == job_id)
        .order_by(job_runs.c.submit)
    )
    return [stored_run(row) for row in rows]


def set_ratings(conn: Connection, ratings: Iterable[Rating]) -> None:
    """Store how runs are rated now; their charges are ``charges.replace_charges``' affair."""
    rows = [
        (*rating.key, ",".join(rating.flags), rating.billing_account, rating.period)
        for rating in ratings
    ]
    if rows:
        bulk_of(conn).update_ratings(conn, rows)
