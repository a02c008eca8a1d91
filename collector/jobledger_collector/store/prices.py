"""Prices, interned: each price ever chosen is one row, and no row ever changes."""

from collections.abc import Collection, Iterable
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from jobledger_collector.core.charge import Price
from jobledger_collector.store.engine import is_sqlite
from jobledger_collector.store.schema import prices

COLUMNS: Final = tuple(prices.c[name] for name in Price._fields)
MAX_IDS_IN_QUERY: Final = 500


def intern(conn: Connection, wanted: Collection[Price]) -> dict[Price, int]:
    """Return the id of each price, adding those that are new.

    Safe against another writer adding the same ones: the table's key decides.
    The ids of a transaction that is rolled back must be forgotten with it.
    """
    found = _find(conn, wanted)
    missing = sorted(set(wanted) - found.keys())
    if missing:
        insert = sqlite.insert if is_sqlite(conn) else postgresql.insert
        for price in missing:
            conn.execute(insert(prices).values(**price._asdict()).on_conflict_do_nothing())
        found |= _find(conn, missing)
    return found


def by_id(conn: Connection, ids: Iterable[int]) -> dict[int, Price]:
    """Return the prices of these ids."""
    wanted = sorted(set(ids))
    found: dict[int, Price] = {}
    for first in range(0, len(wanted), MAX_IDS_IN_QUERY):
        some = wanted[first : first + MAX_IDS_IN_QUERY]
        rows = conn.execute(select(prices.c.id, *COLUMNS).where(prices.c.id.in_(some)))
        found |= {row[0]: Price(*row[1:]) for row in rows}
    return found


def _find(conn: Connection, wanted: Collection[Price]) -> dict[Price, int]:
    if not wanted:
        return {}
    cards = {price.card_sha256 for price in wanted}
    skus = {price.sku for price in wanted}
    rows = conn.execute(
        select(prices.c.id, *COLUMNS).where(prices.c.card_sha256.in_(cards), prices.c.sku.in_(skus))
    )
    known = {Price(*row[1:]): row[0] for row in rows}
    return {price: known[price] for price in wanted if price in known}
