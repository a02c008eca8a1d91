"""Reading job runs with their costs: for the web, the command line, the CSV.

Every figure is exact, every order deterministic, and memory is bounded
whatever the number of runs. Nothing here writes.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, literal, select

from jobledger_collector.core.charge import NO_PRICE
from jobledger_collector.store.schema import charges, job_runs, prices
from jobledger_collector.store.usage_pages import Cursor, Page, Sort, page_jobs
from jobledger_collector.store.usage_rows import (
    RUN_COLUMNS,
    STREAM_ROWS,
    JobFilter,
    JobRow,
    Scope,
    Sums,
    conditions,
    fold,
    load_lookups,
    run_key,
    standing_charge_of_run,
)

__all__ = [
    "Cursor", "JobFilter", "JobRow", "Page", "Scope", "Sort", "Sums",
    "by_account", "by_project", "by_user", "iter_jobs", "months", "page_jobs", "totals",
]  # fmt: skip

_USED = ("elapsed_s", "cpu_s", "gpu_s", "mem_mib_s", "node_s")


def iter_jobs(conn: Connection, wanted: JobFilter) -> Iterator[JobRow]:
    """Every run of the filter, ordered by (cluster, job id, submit), streamed."""
    statement = (
        select(*RUN_COLUMNS, charges.c.price_id, charges.c.quantity_micro, charges.c.invoice_id)
        .select_from(job_runs.outerjoin(charges, standing_charge_of_run()))
        .where(*conditions(wanted))
        .order_by(*run_key(), charges.c.item, charges.c.segment)
    )
    rows = conn.execute(
        statement, execution_options={"stream_results": True, "yield_per": STREAM_ROWS}
    )
    return fold(rows, load_lookups(conn))


def totals(conn: Connection, wanted: JobFilter) -> Sums:
    """The sums over every run of the filter."""
    return dict(_grouped(conn, wanted, None)).get("", Sums())


def by_account(conn: Connection, wanted: JobFilter) -> list[tuple[str, Sums]]:
    """Sums for each billing account, by its id."""
    return _grouped(conn, wanted, job_runs.c.billing_account)


def by_project(conn: Connection, wanted: JobFilter) -> list[tuple[str, Sums]]:
    """Sums for each Slurm account, by its name."""
    return _grouped(conn, wanted, job_runs.c.account)


def by_user(conn: Connection, wanted: JobFilter) -> list[tuple[str, Sums]]:
    """Sums for each user, by name."""
    return _grouped(conn, wanted, job_runs.c.user)


def months(conn: Connection, wanted: JobFilter | None = None) -> list[tuple[int, int]]:
    """Each period (yyyymm) with the number of runs that ended in it, newest first.

    Open runs are period 0 and come last.
    """
    statement = (
        select(job_runs.c.period, func.count())
        .where(*conditions(wanted or JobFilter()))
        .group_by(job_runs.c.period)
        .order_by(job_runs.c.period.desc())
    )
    return [(int(period), int(runs)) for period, runs in conn.execute(statement)]


def _grouped(
    conn: Connection, wanted: JobFilter, key: ColumnElement[str] | None
) -> list[tuple[str, Sums]]:
    used = conn.execute(_usage_statement(wanted, key))
    sums = {
        row[0]: Sums(
            jobs=int(row[1]),
            unpriced=int(row[2]),
            **dict(zip(_USED, map(int, row[3:]), strict=True)),
        )
        for row in used
    }
    # Quantities of equal prices are summed by the database and multiplied here:
    # quantity x price may pass 64 bits, the sum of quantities does not.
    for name, list_e8, unit_e8, quantity_micro in conn.execute(_cost_statement(wanted, key)):
        one = sums.get(name, Sums())
        sums[name] = replace(
            one,
            list_e14=one.list_e14 + int(quantity_micro) * list_e8,
            cost_e14=one.cost_e14 + int(quantity_micro) * unit_e8,
        )
    return sorted(sums.items())


def _usage_statement(wanted: JobFilter, key: ColumnElement[str] | None) -> Select[Any]:
    flags = literal(",") + job_runs.c.flags + ","
    unpriced = func.sum(case((flags.contains(",no_price,", autoescape=True), 1), else_=0))
    figures = (func.sum(job_runs.c[name]) for name in _USED)
    columns: list[ColumnElement[Any]] = [_label(key), func.count(), unpriced, *figures]
    statement = select(*columns).where(*conditions(wanted))
    return statement.group_by(key) if key is not None else statement.having(func.count() > 0)


def _cost_statement(wanted: JobFilter, key: ColumnElement[str] | None) -> Select[Any]:
    group = [prices.c.list_e8, prices.c.unit_e8]
    columns: list[ColumnElement[Any]] = [_label(key), *group]
    return (
        select(*columns, func.sum(charges.c.quantity_micro))
        .select_from(
            job_runs.join(charges, standing_charge_of_run()).join(
                prices, prices.c.id == charges.c.price_id
            )
        )
        .where(*conditions(wanted), charges.c.price_id != NO_PRICE)
        .group_by(*group, *([key] if key is not None else []))
    )


def _label(key: ColumnElement[str] | None) -> ColumnElement[str]:
    return key if key is not None else literal("")
