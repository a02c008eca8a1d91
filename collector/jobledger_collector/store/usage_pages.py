"""Pages of job runs by keyset: page 10,000 costs what page 1 costs.

Rows are ordered by (sort value, cluster, job id, submit), all in the same
direction, so every row has one place and a cursor is simply the row it
follows. Never OFFSET: a run that arrives meanwhile moves no other.
"""

import base64
import binascii
import json
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    func,
    literal,
    select,
    tuple_,
)

from jobledger_collector.core.charge import MICRO, NO_PRICE, PRICE_SCALE
from jobledger_collector.store.schema import charges, job_runs, prices
from jobledger_collector.store.usage_rows import (
    RUN_COLUMNS,
    JobFilter,
    JobRow,
    conditions,
    fold,
    load_lookups,
    run_key,
    standing_charge_of_run,
)

PAGE_ROWS_MAX: Final = 500
"""Rows that one page may hold."""

CURSOR_CHARS_MAX: Final = 2_000
"""Characters that a cursor's text may have; names in it are far shorter."""

_BIGINT_MAX: Final = 2**63 - 1
# The rank that costs are sorted by is in millionths of the major unit and must
# not pass 64 bits: beyond these a charge only sorts as "more than any other".
_WHOLE_MAX: Final = 10**9
_RANK_MAJOR_MAX: Final = 10**12


class Sort(StrEnum):
    """What a page may be sorted by."""

    END = "end"
    COST = "cost"
    CPU = "cpu_s"
    GPU = "gpu_s"
    USER = "user"
    ACCOUNT = "account"
    STATE = "state"
    JOB_ID = "job_id"


class Cursor(NamedTuple):
    """A place in a list: just after this row (just before it if ``backward``)."""

    value: int | str
    cluster: str
    job_id: int
    submit: int
    backward: bool = False

    def text(self) -> str:
        """The cursor in letters that a URL may hold."""
        packed = json.dumps(self, ensure_ascii=False, separators=(",", ":"))
        return base64.urlsafe_b64encode(packed.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """The cursor that ``text()`` wrote; ValueError for anything else."""
        if len(text) > CURSOR_CHARS_MAX:
            msg = "this page link is too long; start again from the first page"
            raise ValueError(msg)
        try:
            padded = text + "=" * (-len(text) % 4)
            packed = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (binascii.Error, UnicodeError, ValueError, RecursionError) as error:
            msg = "this page link is damaged; start again from the first page"
            raise ValueError(msg) from error
        if not _is_cursor(packed):
            msg = "this page link is damaged; start again from the first page"
            raise ValueError(msg)
        return cls(*packed)


def _is_cursor(packed: object) -> bool:
    match packed:
        case [int() | str() as value, str() as cluster, int(job_id), int(submit), bool()]:
            texts = [text for text in (value, cluster) if isinstance(text, str)]
            whole = [job_id, submit, *([value] if isinstance(value, int) else [])]
            return all("\0" not in text for text in texts) and all(
                not isinstance(number, bool) and abs(number) <= _BIGINT_MAX for number in whole
            )
    return False


class Page(NamedTuple):
    """One page: its rows in order, and where its neighbours begin (or None)."""

    rows: list[JobRow]
    next: Cursor | None
    previous: Cursor | None


def page_jobs(
    conn: Connection,
    wanted: JobFilter,
    sort: Sort = Sort.END,
    *,
    descending: bool = True,
    at: Cursor | None = None,
    limit: int = 50,
) -> Page:
    """One page of the filter's runs; ``at`` is a cursor of a neighbouring page.

    ``limit`` is cut to PAGE_ROWS_MAX. A cursor whose value does not fit the
    sort raises ValueError.
    """
    limit = max(1, min(limit, PAGE_ROWS_MAX))
    backward = at is not None and at.backward
    down = descending != backward
    keys = _page_statement(wanted, sort, at, down=down).limit(limit + 1)
    joined = conn.execute(_with_charges(keys, down=down))
    found = joined.all()
    # PostgreSQL sums integers to a decimal; a cursor holds a plain integer.
    values = {row[1:4]: row[0] if isinstance(row[0], str) else int(row[0]) for row in found}
    rows = list(fold((row[1:] for row in found), load_lookups(conn)))
    more = len(rows) > limit
    rows = rows[:limit]
    if backward:
        rows.reverse()

    def cursor(row: JobRow, *, back: bool) -> Cursor:
        return Cursor(values[row[:3]], row.cluster, row.job_id, row.submit, backward=back)

    has_next = more if not backward else True
    has_previous = more if backward else at is not None
    return Page(
        rows=rows,
        next=cursor(rows[-1], back=False) if rows and has_next else None,
        previous=cursor(rows[0], back=True) if rows and has_previous else None,
    )


def _page_statement(wanted: JobFilter, sort: Sort, at: Cursor | None, *, down: bool) -> Select[Any]:
    by_cost = sort is Sort.COST
    value: ColumnElement[Any] = _total_rank() if by_cost else job_runs.c[sort.value]
    statement = select(value.label("sort_value"), *RUN_COLUMNS).where(*conditions(wanted))
    if by_cost:
        # Grouped by its key, a run may be selected whole. Joining a table of
        # sums instead made PostgreSQL compare every run with every sum.
        statement = statement.select_from(
            job_runs.outerjoin(
                charges, and_(standing_charge_of_run(), charges.c.price_id != NO_PRICE)
            ).outerjoin(prices, prices.c.id == charges.c.price_id)
        ).group_by(*run_key())
    order = (value, *run_key())
    if at is not None:
        if isinstance(at.value, str) != (sort in {Sort.USER, Sort.ACCOUNT, Sort.STATE}):
            msg = "this page link belongs to another order; start again from the first page"
            raise ValueError(msg)
        here = tuple_(*(literal(part) for part in at[:4]))
        beyond = tuple_(*order) < here if down else tuple_(*order) > here
        statement = statement.having(beyond) if by_cost else statement.where(beyond)
    return statement.order_by(*((part.desc() if down else part.asc()) for part in order))


def _total_rank() -> ColumnElement[int]:
    return func.coalesce(func.sum(cost_rank(charges.c.quantity_micro, prices.c.unit_e8)), 0)


def cost_rank(
    quantity_micro: ColumnElement[int], price_e8: ColumnElement[int]
) -> ColumnElement[int]:
    """SQL for a cost in whole millionths of the major unit: to sort by, not to show.

    Long multiplication in two limbs each, because the exact product passes 64
    bits. A charge above a million million sorts as that.
    """
    whole_quantity = _at_most(quantity_micro // MICRO, _WHOLE_MAX)
    whole_price = _at_most(price_e8 // PRICE_SCALE, _WHOLE_MAX)
    part_quantity, part_price = quantity_micro % MICRO, price_e8 % PRICE_SCALE
    return (
        _at_most(whole_quantity * whole_price, _RANK_MAJOR_MAX) * MICRO
        + whole_quantity * part_price // (PRICE_SCALE // MICRO)
        + part_quantity * whole_price
        + part_quantity * part_price // PRICE_SCALE
    )


def _at_most(value: ColumnElement[int], limit: int) -> ColumnElement[int]:
    return case((value > limit, literal(limit, BigInteger)), else_=value)


def _with_charges(page: Select[Any], *, down: bool) -> Select[Any]:
    rows = page.subquery("page")
    matches = [charges.c[name] == rows.c[name] for name in ("cluster", "job_id", "submit")]
    order = [rows.c[name] for name in ("sort_value", "cluster", "job_id", "submit")]
    return (
        select(*rows.c, charges.c.price_id, charges.c.quantity_micro, charges.c.invoice_id)
        .select_from(rows.outerjoin(charges, and_(*matches, charges.c.superseded_by == 0)))
        .order_by(*((part.desc() if down else part.asc()) for part in order))
    )
