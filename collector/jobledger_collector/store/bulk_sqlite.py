"""Bulk reads and writes for SQLite: the driver's executemany, keys as one JSON value."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from jobledger_collector.core.record import RunKey
from jobledger_collector.store.engine import raw_cursor
from jobledger_collector.store.rows import (
    CHARGE_COLUMNS,
    KEY_COLUMNS,
    REVISION_COLUMNS,
    RUN_COLUMNS,
    USAGE,
    ChargeRow,
    PriceId,
    RunRow,
)


def _quoted(columns: Iterable[str], table: str = "") -> str:
    prefix = f"{table}." if table else ""
    return ", ".join(f'{prefix}"{column}"' for column in columns)


def _insert(verb: str, table: str, columns: Sequence[str]) -> str:
    places = ", ".join("?" * len(columns))
    return f"{verb} INTO {table} ({_quoted(columns)}) VALUES ({places})"


_INSERT_RUN: Final = _insert("INSERT", "job_runs", RUN_COLUMNS)
_REPLACE_RUN: Final = _insert("INSERT OR REPLACE", "job_runs", RUN_COLUMNS)
_INSERT_CHARGE: Final = _insert("INSERT", "charges", CHARGE_COLUMNS)
_INSERT_REVISION: Final = _insert("INSERT", "run_revisions", REVISION_COLUMNS)
_SUPERSEDE: Final = (
    "UPDATE charges SET superseded_by = ?6 WHERE cluster = ?1 AND job_id = ?2 AND submit = ?3"
    " AND item = ?4 AND segment = ?5 AND superseded_by = 0 AND kind = 1"
)
_UPDATE_RATINGS: Final = (
    "UPDATE job_runs SET flags = ?4, billing_account = ?5, period = ?6"
    " WHERE cluster = ?1 AND job_id = ?2 AND submit = ?3"
)
# CROSS JOIN fixes the order of the loops: the few keys outside, the index inside.
_OF_KEYS: Final = (
    " FROM json_each(?) AS k CROSS JOIN {table} AS t"
    " ON t.cluster = json_extract(k.value, '$[0]')"
    " AND t.job_id = json_extract(k.value, '$[1]')"
    " AND t.submit = json_extract(k.value, '$[2]')"
)
_FIND_SEEN: Final = (
    f"SELECT {_quoted((*KEY_COLUMNS, 'digest', 'observed'), 't')}"
    f"{_OF_KEYS.format(table='job_runs')}"
)
_FIND_RUNS: Final = f"SELECT {_quoted(RUN_COLUMNS, 't')}{_OF_KEYS.format(table='job_runs')}"
_FIND_MARKS: Final = (
    f"SELECT {_quoted((*KEY_COLUMNS, 'digest'), 't')}, t.carried = ''"
    f"{_OF_KEYS.format(table='job_runs')}"
)
_FIND_STANDING: Final = (
    f"SELECT {_quoted((*CHARGE_COLUMNS, 'invoice_id'), 't')}"
    f"{_OF_KEYS.format(table='charges')} AND t.superseded_by = 0"
)
_FIND_LAST_CHANGE: Final = (
    f"SELECT {_quoted(KEY_COLUMNS, 't')}, max(t.superseded_by)"
    f"{_OF_KEYS.format(table='charges')} GROUP BY 1, 2, 3"
)


def insert_new(conn: Connection, runs: Sequence[RunRow], price_id: PriceId) -> bool:
    """Insert runs and what they owe; False if one is known: the transaction is then lost."""
    cursor = raw_cursor(conn)
    try:
        cursor.executemany(_INSERT_RUN, [run.values() for run in runs])
        cursor.executemany(_INSERT_CHARGE, _new_charges(runs, price_id))
    except sqlite3.IntegrityError as error:
        if "UNIQUE constraint failed" in str(error):
            return False
        raise
    return True


def upsert_runs(conn: Connection, runs: Sequence[RunRow]) -> None:
    """Insert runs or replace their rows."""
    raw_cursor(conn).executemany(_REPLACE_RUN, [run.values() for run in runs])


def insert_charges(conn: Connection, rows: Sequence[ChargeRow]) -> None:
    """Insert charges of any kind."""
    raw_cursor(conn).executemany(_INSERT_CHARGE, rows)


def supersede(conn: Connection, rows: Sequence[tuple[str, int, int, str, int, int]]) -> None:
    """Close standing charges."""
    raw_cursor(conn).executemany(_SUPERSEDE, rows)


def update_ratings(conn: Connection, rows: Sequence[tuple[str, int, int, str, str, int]]) -> None:
    """Set flags, billing account and period of runs."""
    raw_cursor(conn).executemany(_UPDATE_RATINGS, rows)


def insert_revisions(conn: Connection, rows: Sequence[tuple[str, int, int, int, str, int]]) -> None:
    """Keep rows of runs that are about to be replaced."""
    raw_cursor(conn).executemany(_INSERT_REVISION, rows)


def find_seen(conn: Connection, keys: Iterable[RunKey]) -> dict[RunKey, tuple[str, int]]:
    """Return (digest, observed) of the runs that are known."""
    return {RunKey(*row[:3]): row[3:] for row in _find(conn, _FIND_SEEN, keys)}


def find_runs(conn: Connection, keys: Iterable[RunKey]) -> list[Sequence[Any]]:
    """Return the rows of the runs that are known, in RUN_COLUMNS."""
    return _find(conn, _FIND_RUNS, keys)


def find_marks(conn: Connection, keys: Iterable[RunKey]) -> dict[RunKey, tuple[str, bool]]:
    """Return the digest of the runs that are known, and whether that is all of their history."""
    return {RunKey(*row[:3]): (row[3], bool(row[4])) for row in _find(conn, _FIND_MARKS, keys)}


def look_at_runs(conn: Connection, keys: Iterable[RunKey]) -> list[Sequence[Any]]:
    """Return the rows of the runs that are known, in RUN_COLUMNS, locking none."""
    return _find(conn, _FIND_RUNS, keys)


def find_standing(conn: Connection, keys: Iterable[RunKey]) -> list[Sequence[Any]]:
    """Return the standing charges of runs: CHARGE_COLUMNS and the invoice."""
    return _find(conn, _FIND_STANDING, keys)


def find_last_change(conn: Connection, keys: Iterable[RunKey]) -> dict[RunKey, int]:
    """Return the highest number of a change of each run's charges, where there was one."""
    return {RunKey(*row[:3]): row[3] for row in _find(conn, _FIND_LAST_CHANGE, keys)}


def _new_charges(runs: Sequence[RunRow], price_id: PriceId) -> list[ChargeRow]:
    return [
        ChargeRow(
            *run.record[:3], charge.item, charge.segment, 0, USAGE, run.revision,
            charge.segment_start, price_id(charge.price), charge.base_units,
            charge.quantity_micro, run.billing_account, run.period,
        )
        for run in runs
        for charge in run.charges
    ]  # fmt: skip


def _find(conn: Connection, statement: str, keys: Iterable[RunKey]) -> list[Any]:
    cursor = raw_cursor(conn)
    cursor.execute(statement, (json.dumps(list(keys)),))
    rows: list[Any] = cursor.fetchall()
    return rows
