"""Reading the quarantine as a stream."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from sqlalchemy import Connection, select

from jobledger_collector.store.schema import quarantine

PAGE_ROWS: Final = 200
"""Rows read at one time; raw records are up to 64 KiB each."""


class QuarantinedRow(NamedTuple):
    """One record kept aside; ``raw`` whole as stored, ``raw_size`` in bytes as it came."""

    id: int
    cluster: str
    agent: str
    origin: str
    reason: str
    raw: bytes
    raw_size: int
    first_seen: int
    last_seen: int
    times: int


def iter_quarantine(
    conn: Connection, *, cluster: str | None = None, limit: int | None = None
) -> Iterator[QuarantinedRow]:
    """Yield records oldest first, at most ``limit``; memory holds one page of them."""
    columns = [quarantine.c[name] for name in QuarantinedRow._fields]
    after, left = 0, limit
    while left is None or left > 0:
        size = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
        page = select(*columns).where(quarantine.c.id > after).order_by(quarantine.c.id)
        if cluster is not None:
            page = page.where(quarantine.c.cluster == cluster)
        rows = [QuarantinedRow(*row) for row in conn.execute(page.limit(size))]
        yield from rows
        if len(rows) < size:
            return
        after = rows[-1].id
        left = None if left is None else left - size
