"""Rate cards: what is for sale, at which price, and the document that says so."""

from typing import NamedTuple

from flask import Blueprint, abort, render_template
from flask_babel import gettext

from jobledger_collector.core.card import (
    METER_UNITS,
    Factor,
    FixedPrice,
    MeterName,
    Override,
    RateCard,
    Scope,
    Sku,
)
from jobledger_collector.store.cards import StoredCard, read_card, stored_cards
from jobledger_web import clock
from jobledger_web.access import Permission, requires
from jobledger_web.database import reading
from jobledger_web.formats import Formats
from jobledger_web.language import formats, is_thai
from jobledger_web.ledger import BIGGEST_ID
from jobledger_web.sessions import viewer

area = Blueprint("rates", __name__)


class Version(NamedTuple):
    """One version of a card and when it rules: ``until`` 0 while nothing follows it."""

    stored: StoredCard
    until: int
    is_in_force: bool


class PricedSku(NamedTuple):
    """One SKU as the price list shows it."""

    sku: Sku
    name: str
    unit: str
    conditions: list[tuple[str, str]]


class AgreedPrice(NamedTuple):
    """One override as the page shows it."""

    override: Override
    whom: str
    terms: str
    until: str


@area.get("/rates")
@requires(Permission.PRICES_READ)
def index() -> str:
    """The card in force with its prices, and every other version."""
    found = _versions()
    current = next((one for one in reversed(found) if one.is_in_force), None)
    return _page(found, current or (found[-1] if found else None))


@area.get(f"/rates/<card>/<int(max={BIGGEST_ID}):version>")
@requires(Permission.PRICES_READ)
def card(card: str, version: int) -> str:
    """One version of a rate card."""
    found = _versions()
    wanted = (card, version)
    shown = next((one for one in found if (one.stored.card, one.stored.version) == wanted), None)
    if shown is None:
        abort(404)
    return _page(found, shown)


def _versions() -> list[Version]:
    """Every card version in the order in which they come into force."""
    with reading() as conn:
        cards = stored_cards(conn)
    now = clock.now_s()
    ends = [*(one.effective_from for one in cards[1:]), 0][: len(cards)]
    return [
        Version(one, end, one.effective_from <= now and (not end or now < end))
        for one, end in zip(cards, ends, strict=True)
    ]


def _page(found: list[Version], shown: Version | None) -> str:
    if shown is None:
        return render_template("rates/none.html")
    parsed = read_card(shown.stored.document, shown.stored.file)
    may_read_all = viewer().may(Permission.RATE_CARD_READ)
    return render_template(
        "rates/rates.html",
        versions=list(reversed(found)),
        shown=shown,
        card=parsed,
        skus=_skus(parsed),
        overrides=_overrides(parsed, formats()) if may_read_all else [],
        may_read_all=may_read_all,
        tax_label=parsed.tax.label.th if is_thai() and parsed.tax.label.th else parsed.tax.label.en,
    )


def _skus(card: RateCard) -> list[PricedSku]:
    return [
        PricedSku(
            sku,
            sku.name.th if is_thai() and sku.name.th else sku.name.en,
            METER_UNITS[meter].unit,
            [(key.value, ", ".join(sorted(values))) for key, values in sku.match.items()],
        )
        for meter in MeterName
        for sku in card.skus.get(meter, ())
    ]


def _overrides(card: RateCard, fmt: Formats) -> list[AgreedPrice]:
    labels = {
        Scope.USER: gettext("user"),
        Scope.PROJECT: gettext("account"),
        Scope.ACCOUNT: gettext("payer"),
    }
    return [
        AgreedPrice(
            one,
            f"{labels[one.scope]} {one.who}",
            _terms(one, fmt),
            "" if one.until_s >= BIGGEST_ID // 2 else fmt.moment(one.until_s),
        )
        for one in card.overrides
    ]


def _terms(override: Override, fmt: Formats) -> str:
    match override.terms:
        case FixedPrice(unit_e8):
            return fmt.price(unit_e8)
        case Factor(factor_e8):
            return f"× {fmt.price(factor_e8)}"
    return gettext("the price of tier %(tier)s", tier=override.terms.tier)
