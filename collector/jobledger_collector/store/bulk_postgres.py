"""Bulk reads and writes for PostgreSQL: COPY, and one statement a set.

New runs go by COPY straight into the tables, which costs half of any upsert;
only when a key is known already does a batch start anew on the longer way.
Text is formatted here and escaped only where it must be.
"""

import io
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection

from jobledger_collector.core.charge import NO_PRICE
from jobledger_collector.core.record import RunKey, escaped
from jobledger_collector.store.engine import raw_cursor
from jobledger_collector.store.rows import (
    CHARGE_COLUMNS,
    KEY_COLUMNS,
    REVISION_COLUMNS,
    RUN_COLUMNS,
    ChargeRow,
    PriceId,
    RunRow,
)

UNIQUE_VIOLATION: Final = "23505"
COPY_CHUNK_BYTES: Final = 1024 * 1024
"""How much psycopg2 reads at a time; its default of 8 KiB costs a call each."""

_RUN_TAIL: Final = "\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%d\n"
_CHARGE: Final = "%s\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%d\n"
# It stands: superseded_by 0, kind 1.
_NEW_CHARGE: Final = "%s\t%d\t%d\t%s\t%d\t0\t1\t%d\t%d\t%d\t%d\t%d\t%s\t%d\n"
_REVISION: Final = "%s\t%d\t%d\t%d\t%s\t%d\n"

_safe = lru_cache(maxsize=10_000)(escaped)


def _quoted(columns: Iterable[str], table: str = "") -> str:
    prefix = f"{table}." if table else ""
    return ", ".join(f'{prefix}"{column}"' for column in columns)


def _copy(table: str, columns: Sequence[str]) -> str:
    return f"COPY {table} ({_quoted(columns)}) FROM STDIN"


_COPY_RUNS: Final = _copy("job_runs", RUN_COLUMNS)
_COPY_CHARGES: Final = _copy("charges", CHARGE_COLUMNS)
_COPY_REVISIONS: Final = _copy("run_revisions", REVISION_COLUMNS)
_COPY_STAGE: Final = _copy("pg_temp.jobledger_stage", RUN_COLUMNS)
_STAGE: Final = (
    "CREATE TEMP TABLE IF NOT EXISTS jobledger_stage (LIKE job_runs INCLUDING DEFAULTS)"
    " ON COMMIT DELETE ROWS; DELETE FROM pg_temp.jobledger_stage"
)
_UPSERT: Final = (
    f"INSERT INTO job_runs ({_quoted(RUN_COLUMNS)})"  # noqa: S608 - our own names
    f" SELECT {_quoted(RUN_COLUMNS)} FROM pg_temp.jobledger_stage"
    f" ON CONFLICT ({_quoted(KEY_COLUMNS)}) DO UPDATE SET "
    + ", ".join(f'"{name}" = excluded."{name}"' for name in RUN_COLUMNS if name not in KEY_COLUMNS)
)
_SUPERSEDE: Final = (
    "UPDATE charges AS t SET superseded_by = k.n FROM unnest(%s::text[], %s::bigint[],"
    " %s::bigint[], %s::text[], %s::int[], %s::int[]) AS k (c, j, s, item, segment, n)"
    " WHERE t.cluster = k.c AND t.job_id = k.j AND t.submit = k.s AND t.item = k.item"
    " AND t.segment = k.segment AND t.superseded_by = 0 AND t.kind = 1"
)
_UPDATE_RATINGS: Final = (
    "UPDATE job_runs AS t SET flags = k.flags, billing_account = k.account, period = k.period"
    " FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::int[])"
    " AS k (c, j, s, flags, account, period)"
    " WHERE t.cluster = k.c AND t.job_id = k.j AND t.submit = k.s"
)
_OF_KEYS: Final = (
    " FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS k (c, j, s) JOIN {table} AS t"
    " ON t.cluster = k.c AND t.job_id = k.j AND t.submit = k.s"
)
# A batch is a few keys of a large table, whatever the planner guesses before the
# table was first analysed: by index, key by key.
_BY_INDEX: Final = (
    "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;"
    " SET LOCAL enable_seqscan = off; "
)
# Locked in the order of the key, so that two collectors cannot lock each other out.
_LOCKED: Final = " ORDER BY t.cluster, t.job_id, t.submit FOR UPDATE OF t"
_FIND_SEEN: Final = (
    f"{_BY_INDEX}SELECT {_quoted((*KEY_COLUMNS, 'digest', 'observed'), 't')}"
    f"{_OF_KEYS.format(table='job_runs')}"
)
_FIND_RUNS: Final = (
    f"{_BY_INDEX}SELECT {_quoted(RUN_COLUMNS, 't')}{_OF_KEYS.format(table='job_runs')}{_LOCKED}"
)
_FIND_MARKS: Final = (
    f"{_BY_INDEX}SELECT {_quoted((*KEY_COLUMNS, 'digest'), 't')}, t.carried = ''"
    f"{_OF_KEYS.format(table='job_runs')}"
)
_LOOK_AT_RUNS: Final = (
    f"{_BY_INDEX}SELECT {_quoted(RUN_COLUMNS, 't')}{_OF_KEYS.format(table='job_runs')}"
)
_FIND_STANDING: Final = (
    f"{_BY_INDEX}SELECT {_quoted((*CHARGE_COLUMNS, 'invoice_id'), 't')}"
    f"{_OF_KEYS.format(table='charges')} WHERE t.superseded_by = 0{_LOCKED}"
)
_FIND_LAST_CHANGE: Final = (
    f"{_BY_INDEX}SELECT {_quoted(KEY_COLUMNS, 't')}, max(t.superseded_by)"
    f"{_OF_KEYS.format(table='charges')} GROUP BY 1, 2, 3"
)


def insert_new(conn: Connection, runs: Sequence[RunRow], price_id: PriceId) -> bool:
    """Insert runs and what they owe; False if one is known: the transaction is then lost."""
    cursor = raw_cursor(conn)
    try:
        _copy_in(cursor, _COPY_RUNS, _run_lines(runs))
        _copy_in(cursor, _COPY_CHARGES, _new_charge_lines(runs, price_id))
    except conn.dialect.loaded_dbapi.Error as error:
        if getattr(error, "pgcode", None) != UNIQUE_VIOLATION:
            raise
        return False
    return True


def upsert_runs(conn: Connection, runs: Sequence[RunRow]) -> None:
    """Insert runs or replace their rows."""
    cursor = raw_cursor(conn)
    cursor.execute(_STAGE)
    _copy_in(cursor, _COPY_STAGE, _run_lines(runs))
    cursor.execute(_UPSERT)


def insert_charges(conn: Connection, rows: Sequence[ChargeRow]) -> None:
    """Insert charges of any kind."""
    lines = [
        _CHARGE % (_safe(row[0]), *row[1:3], _safe(row[3]), *row[4:12], _safe(row[12]), row[13])
        for row in rows
    ]
    _copy_in(raw_cursor(conn), _COPY_CHARGES, lines)


def supersede(conn: Connection, rows: Sequence[tuple[str, int, int, str, int, int]]) -> None:
    """Close standing charges."""
    raw_cursor(conn).execute(_SUPERSEDE, [list(column) for column in zip(*rows, strict=True)])


def update_ratings(conn: Connection, rows: Sequence[tuple[str, int, int, str, str, int]]) -> None:
    """Set flags, billing account and period of runs."""
    raw_cursor(conn).execute(_UPDATE_RATINGS, [list(column) for column in zip(*rows, strict=True)])


def insert_revisions(conn: Connection, rows: Sequence[tuple[str, int, int, int, str, int]]) -> None:
    """Keep rows of runs that are about to be replaced."""
    lines = [_REVISION % (_safe(row[0]), *row[1:4], escaped(row[4]), row[5]) for row in rows]
    _copy_in(raw_cursor(conn), _COPY_REVISIONS, lines)


def find_seen(conn: Connection, keys: Iterable[RunKey]) -> dict[RunKey, tuple[str, int]]:
    """Return (digest, observed) of the runs that are known."""
    return {RunKey(*row[:3]): row[3:] for row in _find(conn, _FIND_SEEN, keys)}


def find_runs(conn: Connection, keys: Iterable[RunKey]) -> list[Sequence[Any]]:
    """Return the rows of the runs that are known, in RUN_COLUMNS, locked."""
    return _find(conn, _FIND_RUNS, keys)


def find_marks(conn: Connection, keys: Iterable[RunKey]) -> dict[RunKey, tuple[str, bool]]:
    """Return the digest of the runs that are known, and whether that is all of their history."""
    return {RunKey(*row[:3]): (row[3], bool(row[4])) for row in _find(conn, _FIND_MARKS, keys)}


def look_at_runs(conn: Connection, keys: Iterable[RunKey]) -> list[Sequence[Any]]:
    """Return the rows of the runs that are known, in RUN_COLUMNS, locking none."""
    return _find(conn, _LOOK_AT_RUNS, keys)


def find_standing(conn: Connection, keys: Iterable[RunKey]) -> list[Sequence[Any]]:
    """Return the standing charges of runs: CHARGE_COLUMNS and the invoice, locked."""
    return _find(conn, _FIND_STANDING, keys)


def find_last_change(conn: Connection, keys: Iterable[RunKey]) -> dict[RunKey, int]:
    """Return the highest number of a change of each run's charges, where there was one."""
    return {RunKey(*row[:3]): row[3] for row in _find(conn, _FIND_LAST_CHANGE, keys)}


def _find(conn: Connection, statement: str, keys: Iterable[RunKey]) -> list[Any]:
    columns = [list(column) for column in zip(*keys, strict=True)] or [[], [], []]
    cursor = raw_cursor(conn)
    cursor.execute(statement, columns)
    rows: list[Any] = cursor.fetchall()
    return rows


def _copy_in(cursor: Any, statement: str, lines: Sequence[str]) -> None:  # noqa: ANN401
    if lines:
        cursor.copy_expert(statement, io.BytesIO("".join(lines).encode()), COPY_CHUNK_BYTES)


def _run_lines(runs: Sequence[RunRow]) -> list[str]:
    return [
        content
        + _RUN_TAIL
        % (
            record[-1], revision, digest, *usage[1:6],
            carried and escaped(carried), flags, _safe(account), period,
        )
        for record, content, digest, revision, usage, carried, flags, account, period, _ in runs
    ]  # fmt: skip


def _new_charge_lines(runs: Sequence[RunRow], price_id: PriceId) -> list[str]:
    return [
        _NEW_CHARGE
        % (
            _safe(record[0]), record[1], record[2], _safe(item), segment, revision, segment_start,
            NO_PRICE if price is None else price_id(price), base_units, quantity_micro,
            _safe(account), period,
        )
        for record, _, _, revision, _, _, _, account, period, charges in runs
        for item, segment, segment_start, base_units, quantity_micro, price in charges
    ]  # fmt: skip
