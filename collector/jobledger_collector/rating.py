"""From a record to the row it becomes: usage, payer, price, period.

Books are read once a generation and remembered, as are the ids of prices; both
are only memories of the database, which each transaction checks.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from jobledger_collector.columns import Row, record_json
from jobledger_collector.core.accounts import Payer
from jobledger_collector.core.carried import pack
from jobledger_collector.core.charge import NO_PRICE, Charge, Price
from jobledger_collector.core.periods import OPEN, period_of
from jobledger_collector.core.pricing import Pricing, price_run
from jobledger_collector.core.record import (
    PRICING_FLAGS,
    UNKNOWN,
    JobRecord,
    Quarantined,
    Rejected,
    Usage,
    content_digest,
    content_text,
    with_pricing_flags,
)
from jobledger_collector.core.revise import History, Settled
from jobledger_collector.core.usage import measure, usage_flags
from jobledger_collector.store.books import BooksInForce, load_books
from jobledger_collector.store.engine import reading
from jobledger_collector.store.handles import Connection, Engine
from jobledger_collector.store.prices import intern
from jobledger_collector.store.rows import RunRow, StandingCharge, StoredRun

MAX_PRICES: Final = 100_000
"""Price ids remembered; beyond it the memory starts anew."""


class Rated(NamedTuple):
    """Who pays for a run, in which period, and what it owes."""

    billing_account: str
    period: int
    pricing: Pricing


class Rating:
    """The books as one process remembers them; shared by its streams."""

    def __init__(self, engine: Engine) -> None:
        """Read the books; raises DatabaseUnavailable or DatabaseFailed."""
        self._engine = engine
        self.books = self._read()

    def refresh(self, conn: Connection | None = None) -> None:
        """Read the books again, inside a transaction when one is open."""
        self.books = load_books(conn) if conn is not None else self._read()

    def _read(self) -> BooksInForce:
        with reading(self._engine) as conn:
            return load_books(conn)


class PriceIds:
    """Ids of interned prices, by the object: the books hold each price once.

    An id found inside a transaction counts for others only once that is
    committed: ``learn`` finds, ``keep`` shares.
    """

    def __init__(self) -> None:
        """Start without any."""
        self._kept: dict[int, tuple[Price, int]] = {}
        self._fresh: dict[int, tuple[Price, int]] = {}

    def learn(self, conn: Connection, runs: list[RunRow]) -> None:
        """Intern the prices of these runs that are not known yet."""
        kept = self._kept
        missing = {
            id(price): price
            for run in runs
            for *_, price in run.charges
            if id(price) not in kept and price is not None
        }
        if missing:
            ids = intern(conn, set(missing.values()))
            self._fresh |= {place: (price, ids[price]) for place, price in missing.items()}

    def __call__(self, price: Price | None) -> int:
        """Return the id of a price that was learned; NO_PRICE for None."""
        if price is None:
            return NO_PRICE
        found = self._kept.get(id(price)) or self._fresh[id(price)]
        return found[1]

    def keep(self) -> None:
        """The transaction is committed: its ids hold for the next ones."""
        if len(self._kept) > MAX_PRICES:
            self._kept.clear()
        self._kept |= self._fresh
        self._fresh = {}

    def forget(self) -> None:
        """The transaction was rolled back, and its ids with it."""
        self._fresh = {}


def rate(record: JobRecord, usage: Usage, books: BooksInForce) -> Rated:
    """Return who pays for a run, when, and what it owes under these books."""
    payer = books.accounts.payer(record.cluster, record.account)
    priced = price_run(record, usage, payer, books.rates)
    return Rated(payer.billing_account, _period(record, usage, books), priced)


def _period(record: JobRecord, usage: Usage, books: BooksInForce) -> int:
    end = record.end or max((span.end for span in usage.spans), default=0)
    return period_of(end, books.rates.timezone) if end else OPEN


def rate_billed(
    run: RunRow | StoredRun,
    standing: Sequence[StandingCharge],
    keep: Collection[str],
    books: BooksInForce,
    old_prices: Mapping[int, Price],
) -> Rated:
    """Return what a run owes that is on an invoice: the items ``keep`` are as they were billed.

    Its payer stays whatever the accounts say since, so that a correction goes to
    who was billed, and one run's charges are never on two accounts.
    """
    account = next(old.row.billing_account for old in standing if old.invoice_id is not None)
    payer = Payer(account, books.accounts.account(account).tier)
    priced = price_run(run.record, run.usage, payer, books.rates)
    kept = [charge_of(old, old_prices) for old in standing if old.row.item in keep]
    charges = (*kept, *(charge for charge in priced.charges if charge.item not in keep))
    flags = priced.flags if any(charge.price is None for charge in charges) else ()
    return Rated(account, _period(run.record, run.usage, books), Pricing(charges, flags))


def charge_of(old: StandingCharge, prices: Mapping[int, Price]) -> Charge:
    """Return a stored charge as it was computed; ``prices`` are by id."""
    row = old.row
    return Charge(
        row.item,
        row.segment,
        row.segment_start,
        row.base_units,
        row.quantity_micro,
        prices.get(row.price_id),
    )


def invoiced_items(standing: Iterable[StandingCharge]) -> set[str]:
    """Return the items of a run that are on an invoice."""
    return {old.row.item for old in standing if old.invoice_id is not None}


def new_run(row: Row, books: BooksInForce) -> RunRow | Quarantined:
    """Return the row of a run that is seen for the first time, or why it cannot be one."""
    record, content = row
    usage = measure(record)
    if isinstance(usage, Rejected):
        raw = record_json(record)
        return Quarantined(record.cluster, "wire", usage.reason, raw, len(raw))
    account, period, (charges, priced) = rate(record, usage, books)
    flags: tuple[str, ...] = usage_flags(record, usage)
    if priced:
        flags = with_pricing_flags(flags, priced)
    return RunRow(
        record, content, content_digest(content), 1, usage, "",
        ",".join(flags) if flags else "", account, period, charges,
    )  # fmt: skip


def settled_run(history: History, settled: Settled, revision: int, books: BooksInForce) -> RunRow:
    """Return the row of a run after all of its sightings, priced by these books."""
    rated = rate(settled.record, settled.usage, books)
    flags = with_pricing_flags(settled.flags, rated.pricing.flags)
    return RunRow(
        settled.record,
        content_text(settled.record),
        settled.digest,
        revision,
        settled.usage,
        pack(history, settled),
        ",".join(flags),
        rated.billing_account,
        rated.period,
        rated.pricing.charges,
    )


def resettled_run(row: RunRow, history: History, settled: Settled, revision: int) -> RunRow:
    """Return the row of a run of which nothing changed that prices depend on.

    It is charged as it was, even if the books have changed since: a charge on
    an invoice is not to be undone because Slurm repeated itself.
    """
    priced = PRICING_FLAGS.intersection(row.flags.split(","))
    return row._replace(
        record=settled.record,
        content=content_text(settled.record),
        digest=settled.digest,
        revision=revision,
        usage=settled.usage,
        carried=pack(history, settled),
        flags=",".join(with_pricing_flags(settled.flags, priced)),
    )


def price_facts(settled: Settled) -> tuple[object, ...]:
    """Return all that the charges of a run depend on, apart from the books."""
    return (settled.usage.energy_j, *facts_without_energy(settled))


def facts_without_energy(settled: Settled) -> tuple[object, ...]:
    """Return all that the charges of a run but that for its energy depend on."""
    record = settled.record
    return (
        settled.usage._replace(energy_j=UNKNOWN), record.end, record.cluster, record.user,
        record.account, record.partition, record.qos, record.reservation,
    )  # fmt: skip
