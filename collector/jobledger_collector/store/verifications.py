"""What comparisons with Slurm read and leave: runs of a span, and the result of each span."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from jobledger_collector.core.usage import MAX_EPOCH_S
from jobledger_collector.core.verification import Compared, ToldSpan, UsageSum
from jobledger_collector.store.engine import is_sqlite
from jobledger_collector.store.schema import job_runs
from jobledger_collector.store.schema_agents import verified_spans

RUNS_AT_ONCE: Final = 5_000
"""Runs that are in memory at one time."""
DAY_S: Final = 86_400
KEPT_S: Final = 400 * DAY_S
"""How long the result of a span is kept."""
MAX_BIGINT: Final = 2**63 - 1
SUMS: Final = tuple(f"{side}_{name}" for side in ("told", "stored") for name in UsageSum._fields)

_r = job_runs.c
_v = verified_spans.c


class Verified(NamedTuple):
    """What was last found of a cluster: its last comparison, and sums over those of a day.

    ``spans`` were compared within the day before ``verified_at`` (epoch seconds).
    """

    cluster: str
    verified_at: int
    through: int
    spans: int
    missing: int
    differing: int
    refused: int
    extra: int


def runs_ended_in(
    conn: Connection, cluster: str, begin: int, end: int
) -> Iterator[tuple[int, int, UsageSum]]:
    """Yield (job id, submit, what it used) of the runs of a span, by key; memory holds a few.

    By the period as well, of any time zone, since that has an index everywhere.
    """
    wanted = (
        select(_r.job_id, _r.submit, _r.elapsed_s, _r.cpu_s, _r.gpu_s, _r.mem_mib_s, _r.node_s)
        .where(
            _r.cluster == cluster,
            _r.end >= max(begin, 1),
            _r.end <= end,
            _r.period.between(_period(max(0, begin - DAY_S)), _period(end + DAY_S)),
        )
        .order_by(_r.job_id, _r.submit)
        .execution_options(yield_per=RUNS_AT_ONCE)
    )
    for job_id, submit, *used in conn.execute(wanted):
        yield job_id, submit, UsageSum(1, *used)


def note(conn: Connection, span: ToldSpan, found: Compared, now_s: int) -> None:
    """Keep what a comparison found in place of what an earlier one of the same span did."""
    insert = sqlite.insert if is_sqlite(conn) else postgresql.insert
    sums = [min(value, MAX_BIGINT) for value in (*found.told, *found.stored)]
    values: dict[str, Any] = {
        "agent": span.agent,
        "verified_at": now_s,
        **dict(zip(SUMS, sums, strict=True)),
        "missing": found.missing,
        "known": found.known,
        "differing": found.differing,
        "refused": found.refused,
        "extra": found.extra_runs,
    }
    row = insert(verified_spans).values(
        cluster=span.cluster, begin_s=span.begin, end_s=span.end, **values
    )
    conn.execute(
        row.on_conflict_do_update(index_elements=["cluster", "begin_s", "end_s"], set_=values)
    )
    conn.execute(
        delete(verified_spans).where(_v.cluster == span.cluster, _v.verified_at < now_s - KEPT_S)
    )


def last_verified(conn: Connection) -> list[Verified]:
    """Return what was last found of each cluster that was ever compared."""
    last = select(_v.cluster, func.max(_v.verified_at).label("at")).group_by(_v.cluster).subquery()
    rows = conn.execute(
        select(
            _v.cluster,
            func.max(_v.verified_at),
            func.max(_v.end_s),
            func.count(),
            func.sum(_v.missing),
            func.sum(_v.differing),
            func.sum(_v.refused),
            func.sum(_v.extra),
        )
        .join(last, last.c.cluster == _v.cluster)
        .where(_v.verified_at > last.c.at - DAY_S)
        .group_by(_v.cluster)
        .order_by(_v.cluster)
    )
    return [Verified(row[0], *map(int, row[1:])) for row in rows]


def _period(epoch_s: int) -> int:
    return int(datetime.fromtimestamp(min(epoch_s, MAX_EPOCH_S), UTC).strftime("%Y%m"))
