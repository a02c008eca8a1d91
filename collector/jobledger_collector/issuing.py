"""Issuing a period's documents: one a billing account, each in one transaction.

Rerunning issues nothing twice: an account has one document a period, and a
charge has one invoice. An account that fails leaves the others alone. What is
killed half-way leaves nothing half: the rerun goes on where it ended.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from jobledger_collector import VERSION
from jobledger_collector.core.accounts import BillingAccount
from jobledger_collector.core.card import Text2
from jobledger_collector.core.charge import Price
from jobledger_collector.core.document import (
    ANNEX_JOBS_MAX,
    DOCUMENT_BYTES_MAX,
    CardBlock,
    DocumentSettings,
    Kind,
    Seller,
    canonical_json,
    number_text,
    sha256_of,
)
from jobledger_collector.core.drafting import Draft, Terms, is_over, write_document
from jobledger_collector.core.errors import CollectorError, DatabaseFailed, DatabaseUnavailable
from jobledger_collector.core.invoicing import Bill, ChargeSum, decide, make_bill
from jobledger_collector.core.money import format_minor
from jobledger_collector.core.periods import format_period, period_bounds, zone
from jobledger_collector.core.rates import RateBook
from jobledger_collector.currency import exponent_of
from jobledger_collector.store import invoice_writes as writes
from jobledger_collector.store.books import BooksInForce, load_books
from jobledger_collector.store.engine import explained, is_clash, writer
from jobledger_collector.store.handles import Connection, Engine
from jobledger_collector.store.prices import by_id

ATTEMPTS: Final = 4
"""Tries for one account when another transaction is in the way."""


class IssuingRefused(CollectorError):
    """A period, or one account's document, cannot be issued: why, and what to do."""


class Result(StrEnum):
    """What became of one billing account."""

    ISSUED = "issued"
    WOULD_ISSUE = "would issue"
    ALREADY = "already issued"
    CARRIED = "carried forward"
    UNPRICED = "no price"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Order:
    """What to issue. ``period`` is yyyymm, ``now_s`` the time in epoch seconds.

    ``early`` allows a period that is not over; ``account`` None means all;
    ``dry_run`` says what would be issued and issues nothing.
    """

    period: int
    seller: Seller
    settings: DocumentSettings
    now_s: int
    person: str
    account: str | None = None
    early: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one billing account, in decimals for people and scripts.

    ``unpriced`` charges of the account were left out because no price is known
    for them; ``message`` is a sentence where something needs to be said.
    """

    account: str
    result: Result
    number: str = ""
    kind: Kind | None = None
    subtotal: str = ""
    tax: str = ""
    total: str = ""
    currency: str = ""
    unpriced: int = 0
    message: str = ""


def issue(engine: Engine, order: Order) -> Iterator[Outcome]:
    """Issue the period's documents, account by account in order of their ids.

    Yields an outcome for each account that had anything to bill, as soon as it
    is committed. Raises IssuingRefused when the period as a whole cannot be
    issued, DatabaseUnavailable when the database is away; what was yielded stays.
    """
    with writer(engine) as conn:
        with conn.begin():
            books = load_books(conn)
            _check_order(order, books.rates)
            unpriced = writes.unpriced(conn, order.period, order.account)
            waiting = writes.find_waiting(conn, order.period, order.account)
        for account in sorted({*waiting, *unpriced}):
            outcome = (
                _attempt(engine, conn, order, books, account)
                if account in waiting
                else Outcome(account, Result.UNPRICED)
            )
            yield _with_unpriced(outcome, unpriced.get(account, 0))


def _check_order(order: Order, rates: RateBook) -> None:
    month = format_period(order.period)
    if not rates.currency:
        raise IssuingRefused(
            "There is no rate card, so nothing has a price: load one with"
            " `jobledger rates load FILE`, then issue again"
        )
    if order.early or is_over(order.period, rates.timezone, order.now_s):
        return
    starts, _ = period_bounds(order.period, rates.timezone)
    if order.now_s < starts:
        raise IssuingRefused(
            f"{month} has not begun in {rates.timezone} by this machine's clock: check the clock,"
            " or issue what is there all the same with --early"
        )
    raise IssuingRefused(
        f"{month} is not over in {rates.timezone}, and more usage may follow: wait for its end,"
        " or issue what is there now with --early (the rest goes on the next invoice)"
    )


def _with_unpriced(outcome: Outcome, unpriced: int) -> Outcome:
    if not unpriced:
        return outcome
    note = (
        f"Charges left out because they have no price: {unpriced}. Add the missing SKU or"
        " tier to a rate card and load it; they then go on the next invoice."
    )
    return replace(outcome, unpriced=unpriced, message=f"{outcome.message} {note}".strip())


def _attempt(
    engine: Engine,
    conn: Connection,
    order: Order,
    books: BooksInForce,
    account: str,
    tries: int = ATTEMPTS,
) -> Outcome:
    try:
        with explained(engine), conn.begin() as deal:
            outcome = _issue_one(conn, order, books, account)
            if outcome.result is not Result.ISSUED:
                deal.rollback()
            return outcome
    except (CollectorError, ValueError) as error:
        if isinstance(error, DatabaseFailed) and _is_clash(error) and tries > 1:
            return _attempt(engine, conn, order, books, account, tries - 1)
        if isinstance(error, DatabaseUnavailable):
            raise
        return Outcome(account, Result.FAILED, message=str(error))


def _is_clash(error: DatabaseFailed) -> bool:
    cause = error.__cause__
    return cause is not None and is_clash(getattr(cause, "orig", None) or cause)


def _issue_one(conn: Connection, order: Order, books: BooksInForce, account: str) -> Outcome:
    if writes.lock_issuing(conn) != books.generation:  # a card or an account changed
        books = load_books(conn)
    number = writes.issued_number(conn, account, order.period)
    if number is not None:
        message = (
            f"{number} was already issued for {format_period(order.period)}: what arrived since"
            " goes on the next period's invoice."
        )
        return Outcome(account, Result.ALREADY, number=number, message=message)
    invoice_id = writes.next_invoice_id(conn)
    writes.claim(conn, account, order.period, invoice_id)
    sums = writes.claimed_sums(conn, invoice_id, order.period)
    buyer = books.accounts.account(account)
    terms = _terms(conn, books, order.period, buyer, sums)
    bill = make_bill(sums, exponent_of(books.rates.currency), terms.tax_percent_e8)
    kind = decide(bill)
    if kind is None:
        return _carried(account, bill, books.rates.currency)
    draft = Draft(
        kind=kind,
        issue_date=dt.datetime.fromtimestamp(order.now_s, zone(books.rates.timezone)).date(),
        due_days=order.settings.due_days,
        period=order.period,
        timezone=books.rates.timezone,
        early=not is_over(order.period, books.rates.timezone, order.now_s),
        currency=books.rates.currency,
        exponent=exponent_of(books.rates.currency),
        seller=order.seller,
        buyer=buyer,
        terms=terms,
        bill=bill,
        annex_runs=writes.costliest_runs(conn, invoice_id, order.period, ANNEX_JOBS_MAX),
        jobs_total=writes.claimed_runs(conn, invoice_id),
        generator=f"jobledger {VERSION}",
    )
    return _freeze(conn, order, draft, invoice_id)


def _terms(
    conn: Connection, books: BooksInForce, period: int, buyer: BillingAccount, sums: list[ChargeSum]
) -> Terms:
    """What the card in force at the period's end says of this payer."""
    card = books.rates.at(period_bounds(period, books.rates.timezone)[1] - 1)
    if card is None:
        raise IssuingRefused(
            f"No rate card is in force at the end of {format_period(period)}, so the tax is not"
            " known: load one whose effective_from is earlier"
        )
    tier = card.tier_of(buyer.tier)
    if tier not in card.tax.rate_percent_e8:
        raise IssuingRefused(
            f'Billing account {buyer.id} is in tier "{tier}", which {card.label} does not have'
            f" (it has {', '.join(card.tiers)}): correct the accounts document and load it"
        )
    prices = by_id(conn, (one.price_id for one in sums))
    _one_currency(prices.values(), books.rates.currency, buyer.id)
    return Terms(
        tier=tier,
        tax_label=card.tax.label,
        tax_percent_e8=card.tax.rate_percent_e8[tier],
        names=_names(prices, books.rates),
        cards=_cards(prices.values()),
    )


def _one_currency(prices: Iterable[Price], currency: str, account: str) -> None:
    others = {price.currency for price in prices} - {currency}
    if others:
        raise IssuingRefused(
            f"Charges of {account} are priced in {', '.join(sorted(others))}, but these books are"
            f" kept in {currency}: price them again with `jobledger rates load FILE`"
        )


def _names(prices: Mapping[int, Price], book: RateBook) -> dict[int, Text2]:
    cards = {(card.card, card.version): card for card in book.cards}
    names = {}
    for price_id, price in prices.items():
        card = cards.get((price.card, price.card_version))
        sku = card.sku_named(price.sku) if card else None
        if sku is not None:
            names[price_id] = sku.name
    return names


def _cards(prices: Iterable[Price]) -> tuple[CardBlock, ...]:
    used = sorted({(price.card, price.card_version, price.card_sha256) for price in prices})
    return tuple(CardBlock(card=card, version=version, sha256=sha) for card, version, sha in used)


def _carried(account: str, bill: Bill, currency: str) -> Outcome:
    subtotal = format_minor(bill.subtotal_minor, exponent_of(currency))
    message = (
        f"Corrections outweigh usage ({subtotal} {currency}): carried forward until later usage"
        " covers them."
        if bill.lines
        else "Charges and corrections cancel out: there is nothing to show."
    )
    return Outcome(account, Result.CARRIED, subtotal=subtotal, currency=currency, message=message)


def _freeze(conn: Connection, order: Order, draft: Draft, invoice_id: int) -> Outcome:
    """Give the draft its number and write it; the caller commits."""
    outcome = _outcome(draft)
    if order.dry_run:
        return outcome
    series, year = order.settings.series(draft.kind), draft.issue_date.year
    issue_date = draft.issue_date.isoformat()
    sequence = writes.take_number(conn, series, year, issue_date)
    number = number_text(series, year, sequence)
    text = canonical_json(write_document(draft, number))
    size_bytes = len(text.encode())
    if size_bytes > DOCUMENT_BYTES_MAX:
        raise IssuingRefused(
            f"The document of {draft.buyer.id} would have {size_bytes} bytes, more than"
            f" {DOCUMENT_BYTES_MAX}: look for wrong prices or names with"
            f" `jobledger jobs --account {draft.buyer.id}`"
        )
    issued = writes.Issued(
        id=invoice_id,
        billing_account=draft.buyer.id,
        period=draft.period,
        number=number,
        series=series,
        year=year,
        sequence=sequence,
        issue_date=issue_date,
        issued_at=order.now_s,
        issued_by=order.person,
        currency=draft.currency,
        document=text,
        document_sha256=sha256_of(text),
    )
    writes.store_invoice(conn, issued, draft.bill)
    return replace(outcome, result=Result.ISSUED, number=number)


def _outcome(draft: Draft) -> Outcome:
    return Outcome(
        account=draft.buyer.id,
        result=Result.WOULD_ISSUE,
        kind=draft.kind,
        subtotal=format_minor(draft.bill.subtotal_minor, draft.exponent),
        tax=format_minor(draft.bill.tax_minor, draft.exponent),
        total=format_minor(draft.bill.total_minor, draft.exponent),
        currency=draft.currency,
    )
