"""What runs owe: replaced by closing and adding rows, never by changing one.

A standing charge has ``superseded_by`` 0, and the primary key allows one for
each item of each segment of a run. To change what a run owes, the charges that
differ are closed with the number of the change; those that are on an invoice
are reversed by a row of their own; then the new ones are added.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from jobledger_collector.core.charge import Charge
from jobledger_collector.core.record import RunKey
from jobledger_collector.store.bulk import Superseded, bulk_of
from jobledger_collector.store.rows import (
    REVERSAL,
    USAGE,
    ChargeRow,
    PriceId,
    StandingCharge,
)


class Owed(NamedTuple):
    """All that a run owes now, to whom, and from which of its revisions."""

    key: RunKey
    revision: int
    billing_account: str
    period: int
    charges: tuple[Charge, ...]


class Change(NamedTuple):
    """What must be written for a run to owe something else (pure; see ``difference``)."""

    close: tuple[StandingCharge, ...]
    add: tuple[ChargeRow, ...]


def replace_charges(conn: Connection, owed: Sequence[Owed], price_id: PriceId) -> int:
    """Make each run owe exactly this; returns how many runs' charges changed.

    A charge that is as it was is not touched, so that a repeated call changes
    nothing. Each run may occur once.
    """
    bulk = bulk_of(conn)
    standing = find_standing(conn, [run.key for run in owed])
    changes: dict[RunKey, Change] = {}
    for run in owed:
        change = difference(standing.get(run.key, ()), charge_rows(run, price_id))
        if change.close or change.add:
            changes[run.key] = change
    closing = [key for key, change in changes.items() if change.close]
    last = bulk.find_last_change(conn, closing) if closing else {}
    closed: list[Superseded] = []
    added: list[ChargeRow] = []
    for key, change in changes.items():
        number = last.get(key, 0) + 1
        closed += [(*key, old.row.item, old.row.segment, number) for old in change.close]
        added += [reversal(old.row, number) for old in change.close if old.invoice_id is not None]
        added += change.add
    if closed:
        bulk.supersede(conn, closed)
    if added:
        bulk.insert_charges(conn, added)
    return len(changes)


def find_standing(
    conn: Connection, keys: Iterable[RunKey]
) -> Mapping[RunKey, Sequence[StandingCharge]]:
    """Return the charges of runs that stand, locked until the transaction ends."""
    found: dict[RunKey, list[StandingCharge]] = defaultdict(list)
    for row in bulk_of(conn).find_standing(conn, keys):
        charge = ChargeRow(*row[:-1])
        found[charge.key].append(StandingCharge(charge, row[-1]))
    return found


def difference(standing: Iterable[StandingCharge], wanted: Iterable[ChargeRow]) -> Change:
    """Return which standing charges must be closed and which rows added."""
    missing = {(row.item, row.segment): row for row in wanted}
    close = []
    for old in standing:
        new = missing.get((old.row.item, old.row.segment))
        if new is not None and _same(old.row, new):
            del missing[(new.item, new.segment)]
        else:
            close.append(old)
    return Change(tuple(close), tuple(missing.values()))


def reversal(row: ChargeRow, number: int) -> ChargeRow:
    """Return the row that takes an invoiced charge back, on the account that was billed."""
    return row._replace(
        superseded_by=number,
        kind=REVERSAL,
        base_units=-row.base_units,
        quantity_micro=-row.quantity_micro,
    )


def charge_rows(run: Owed, price_id: PriceId) -> list[ChargeRow]:
    """Return what a run owes as rows that stand."""
    return [
        ChargeRow(
            *run.key, charge.item, charge.segment, 0, USAGE, run.revision, charge.segment_start,
            price_id(charge.price), charge.base_units, charge.quantity_micro,
            run.billing_account, run.period,
        )
        for charge in run.charges
    ]  # fmt: skip


def _same(one: ChargeRow, other: ChargeRow) -> bool:
    """Whether two charges owe the same; which revision says so does not matter."""
    return one._replace(revision=other.revision) == other
