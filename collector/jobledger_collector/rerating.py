"""Price again what is not invoiced, after the books changed.

In the transaction of the change itself: the books change whole, or not at all.
An item of a run that is on an invoice is left as it was billed; only a person's
correction or a revision of the record undoes an invoiced charge.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from jobledger_collector.core.charge import NO_PRICE, Charge, Price
from jobledger_collector.core.record import RunKey, with_pricing_flags
from jobledger_collector.rating import charge_of, invoiced_items, rate, rate_billed
from jobledger_collector.store.books import BooksInForce
from jobledger_collector.store.charges import Owed, find_standing, replace_charges
from jobledger_collector.store.handles import Connection
from jobledger_collector.store.prices import by_id, intern
from jobledger_collector.store.rows import StandingCharge, StoredRun
from jobledger_collector.store.runs import Rating, iter_runs, set_ratings

PAGE_RUNS: Final = 1_000
"""Runs priced again at a time: bounds memory, and how often progress is told."""


class Rerated(NamedTuple):
    """What a re-rating did. Costs in 10^-14 of the major unit, of these runs' standing charges.

    ``invoiced`` runs have at least one item on an invoice; ``unpriced`` runs
    have at least one item without a price now.
    """

    runs: int = 0
    changed: int = 0
    invoiced: int = 0
    unpriced: int = 0
    before_e14: int = 0
    after_e14: int = 0


class _Item(NamedTuple):
    """A run with what it owed and what it owes now."""

    run: StoredRun
    standing: Sequence[StandingCharge]
    owed: Owed
    rating: Rating


def rerate(
    conn: Connection,
    books: BooksInForce,
    ended_after: int = 0,
    progress: Callable[[Rerated], None] = lambda _: None,
) -> Rerated:
    """Price again all runs that ended after an instant (epoch seconds; 0 for all).

    Repeating it changes nothing. ``progress`` is told the sums after each page.
    """
    done = Rerated()
    for page in _pages(iter_runs(conn, ended_after=ended_after)):
        done = _add(done, _rerate_page(conn, page, books))
        progress(done)
    return done


def _pages(runs: Iterator[StoredRun]) -> Iterator[list[StoredRun]]:
    while page := list(itertools.islice(runs, PAGE_RUNS)):
        yield page


def _add(one: Rerated, other: Rerated) -> Rerated:
    return Rerated(*(a + b for a, b in zip(one, other, strict=True)))


def _rerate_page(conn: Connection, page: Sequence[StoredRun], books: BooksInForce) -> Rerated:
    standing = find_standing(conn, [run.key for run in page])
    old_prices = by_id(conn, _price_ids(standing))
    items = [_rated(run, standing.get(run.key, ()), books, old_prices) for run in page]
    ids = intern(conn, {c.price for item in items for c in item.owed.charges if c.price})
    changed = replace_charges(
        conn, [item.owed for item in items], lambda price: ids[price] if price else NO_PRICE
    )
    set_ratings(conn, [item.rating for item in items if _differs(item)])
    return Rerated(
        runs=len(items),
        changed=changed,
        invoiced=sum(1 for item in items if invoiced_items(item.standing)),
        unpriced=sum(1 for item in items if any(c.price is None for c in item.owed.charges)),
        before_e14=sum(_standing_cost(item.standing, old_prices) for item in items),
        after_e14=sum(_cost(item.owed.charges) for item in items),
    )


def _rated(
    run: StoredRun,
    standing: Sequence[StandingCharge],
    books: BooksInForce,
    old_prices: Mapping[int, Price],
) -> _Item:
    """Rate a run by the books of now, except for its items on an invoice."""
    invoiced = invoiced_items(standing)
    account, period, (charges, flags) = (
        rate_billed(run, standing, invoiced, books, old_prices)
        if invoiced
        else rate(run.record, run.usage, books)
    )
    return _Item(
        run,
        standing,
        Owed(run.key, run.revision, account, period, charges),
        Rating(run.key, with_pricing_flags(run.flags, flags), account, period),
    )


def _differs(item: _Item) -> bool:
    run = item.run
    return item.rating != Rating(run.key, run.flags, run.billing_account, run.period)


def _price_ids(standing: Mapping[RunKey, Sequence[StandingCharge]]) -> set[int]:
    return {old.row.price_id for charges in standing.values() for old in charges} - {NO_PRICE}


def _standing_cost(standing: Iterable[StandingCharge], prices: Mapping[int, Price]) -> int:
    return _cost(charge_of(old, prices) for old in standing)


def _cost(charges: Iterable[Charge]) -> int:
    return sum(charge.quantity_micro * charge.price.unit_e8 for charge in charges if charge.price)
