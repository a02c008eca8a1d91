"""Read what is stored of a run and have it explained."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, select
from sqlalchemy import func as sql

from jobledger_collector.core.charge import NO_PRICE
from jobledger_collector.core.explain import (
    NO_PATH,
    AccountPath,
    Explanation,
    OwedCharge,
    RunFacts,
    explain,
)
from jobledger_collector.core.record import RunKey, Tres
from jobledger_collector.core.tree import association_path
from jobledger_collector.store import tree
from jobledger_collector.store.cards import read_books
from jobledger_collector.store.schema import charges, invoices, job_runs, prices

MAX_RUNS_OF_JOB: Final = 1_000
"""Runs of one job id that are explained; requeues make more than one."""
CHARGE_COLUMNS: Final = OwedCharge._fields[:7]
PRICE_TEXTS: Final = ("card", "card_sha256", "sku", "unit", "tier", "rule", "currency")
PRICE_FIGURES: Final = ("card_version", "list_e8", "unit_e8")


def explain_job(conn: Connection, cluster: str, job_id: int) -> list[Explanation]:
    """Explain every run of a job id on a cluster, the earliest submit first."""
    return _explain_where(conn, job_runs.c.cluster == cluster, job_runs.c.job_id == job_id)


def explain_run(conn: Connection, key: RunKey) -> Explanation | None:
    """Explain one run; None when the books do not know it."""
    found = _explain_where(
        conn,
        job_runs.c.cluster == key.cluster,
        job_runs.c.job_id == key.job_id,
        job_runs.c.submit == key.submit,
    )
    return found[0] if found else None


def _explain_where(conn: Connection, *where: ColumnElement[bool]) -> list[Explanation]:
    timezone = read_books(conn).timezone
    rows = conn.execute(
        select(job_runs).where(*where).order_by(job_runs.c.submit).limit(MAX_RUNS_OF_JOB)
    )
    runs = [_facts(row) for row in rows.mappings()]
    return [explain(run, _charges_of(conn, run), timezone, _path_of(conn, run)) for run in runs]


def _path_of(conn: Connection, run: RunFacts) -> AccountPath:
    """Return the run's place in the account tree when it ended, or when that was first seen."""
    ended = run.end or run.start or run.submit
    first = tree.first_seen(conn, run.cluster)
    if not first:
        return NO_PATH
    as_of = max(ended, first)
    names = association_path(run.account, run.user, tree.associations_at(conn, run.cluster, as_of))
    return AccountPath(names, as_of, is_late=first > ended)


def _facts(row: RowMapping) -> RunFacts:
    values = {name: row[name] for name in RunFacts._fields}
    values["alloc_tres"] = _tres(row["alloc_tres"])
    values["flags"] = tuple(flag for flag in row["flags"].split(",") if flag)
    return RunFacts(**values)


def _tres(text: str) -> Tres:
    """Read the stored form, "cpu=2,mem=4000"."""
    pairs = (pair.rpartition("=") for pair in text.split(",") if pair)
    return tuple((name, int(count)) for name, _, count in pairs)


def _charges_of(conn: Connection, run: RunFacts) -> list[OwedCharge]:
    columns: dict[str, ColumnElement[Any]] = {name: charges.c[name] for name in CHARGE_COLUMNS}
    columns["invoice"] = sql.coalesce(invoices.c.number, "")
    columns |= {name: sql.coalesce(prices.c[name], "") for name in PRICE_TEXTS}
    columns |= {name: sql.coalesce(prices.c[name], 0) for name in PRICE_FIGURES}
    with_price = charges.outerjoin(
        prices, (prices.c.id == charges.c.price_id) & (charges.c.price_id != NO_PRICE)
    ).outerjoin(invoices, invoices.c.id == charges.c.invoice_id)
    rows = conn.execute(
        select(*(columns[name].label(name) for name in OwedCharge._fields))
        .select_from(with_price)
        .where(
            charges.c.cluster == run.cluster,
            charges.c.job_id == run.job_id,
            charges.c.submit == run.submit,
        )
        .order_by(charges.c.superseded_by, charges.c.kind.desc(), charges.c.segment, charges.c.item)
    )
    return [OwedCharge(*row) for row in rows]
