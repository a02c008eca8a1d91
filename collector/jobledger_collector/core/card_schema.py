"""Read a rate card document: the schema ``jobledger.ratecard/1``.

The one way from a document to a RateCard. What is accepted is complete and
unambiguous: each SKU has a price for every tier, and for no run can two SKUs of
one meter claim it with equal right.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Final

from jobledger_collector.core.card import (
    ANY_SKU,
    METER_UNITS,
    NO_END,
    Factor,
    FixedPrice,
    Match,
    MatchKey,
    Meter,
    MeterName,
    OtherTier,
    Override,
    RateCard,
    Scope,
    Sku,
    Tax,
    Text2,
)
from jobledger_collector.core.charge import PRICE_SCALE
from jobledger_collector.core.node import Node
from jobledger_collector.core.periods import zone

SCHEMA: Final = "jobledger.ratecard/1"
MAX_VERSION: Final = 1_000_000
MAX_PRICE: Final = 1_000_000_000
"""Highest price, in major units a unit: 10^17 of 10^-8 still fits a BIGINT."""
MAX_FACTOR: Final = 1_000
MAX_TAX_PERCENT: Final = 100
MAX_ENTRIES: Final = 500
"""Most tiers, SKUs or overrides of one card."""
CURRENCY_PATTERN: Final = re.compile(r"[A-Z]{3}")

REQUIRED: Final = (
    "schema", "card", "version", "effective_from", "currency", "timezone", "tiers",
    "default_tier", "tax", "meters", "skus",
)  # fmt: skip
OPTIONAL: Final = ("overrides", "notes")
TERMS: Final = ("price", "factor", "tier")


def parse_card(document: Node, sha256: str) -> RateCard:
    """Return the card that a document describes; raises InvalidDocument.

    ``sha256`` is that of the document's canonical form: it names the content.
    """
    fields = document.fields(REQUIRED, OPTIONAL)
    fields["schema"].choice((SCHEMA,))
    tiers = _tiers(fields["tiers"])
    meters = _meters(fields["meters"])
    skus = [_sku(node, tiers, meters) for node in _limited(fields["skus"])]
    _unambiguous(fields["skus"], skus)
    sku_ids = tuple(sku.id for sku in skus)
    overrides = (
        [_override(node, tiers, skus) for node in _limited(fields["overrides"])]
        if "overrides" in fields
        else []
    )
    if overrides:
        _apart(fields["overrides"], overrides)
    fields["skus"].unique(fields["skus"].items(), sku_ids)
    return RateCard(
        card=fields["card"].name(),
        version=fields["version"].whole(1, MAX_VERSION),
        sha256=sha256,
        effective_from=fields["effective_from"].instant(),
        currency=_currency(fields["currency"]),
        timezone=_timezone(fields["timezone"]),
        tiers=tiers,
        default_tier=fields["default_tier"].choice(tiers),
        tax=_tax(fields["tax"], tiers),
        meters=meters,
        skus=_by_meter(meters, skus),
        overrides=tuple(overrides),
    )


def _limited(node: Node) -> list[Node]:
    entries = node.items()
    if len(entries) > MAX_ENTRIES:
        node.refuse(f"holds more than {MAX_ENTRIES} entries")
    return entries


def _tiers(node: Node) -> tuple[str, ...]:
    entries = _limited(node)
    tiers = tuple(entry.name() for entry in entries)
    if not tiers:
        node.refuse("a card needs at least one tier")
    node.unique(entries, tiers)
    return tiers


def _currency(node: Node) -> str:
    code = node.text()
    if not CURRENCY_PATTERN.fullmatch(code):
        node.refuse(f'"{code}" is not an ISO 4217 code; write one such as THB, USD or EUR')
    return code


def _timezone(node: Node) -> str:
    name = node.text()
    try:
        zone(name)
    except ValueError as error:
        node.refuse(str(error))
    return name


def _text2(node: Node) -> Text2:
    fields = node.fields(("en",), ("th",))
    return Text2(fields["en"].text(), fields["th"].text() if "th" in fields else "")


def _tax(node: Node, tiers: tuple[str, ...]) -> Tax:
    fields = node.fields(("label", "rate"))
    rates = fields["rate"].fields(tiers)
    return Tax(
        _text2(fields["label"]),
        {tier: rates[tier].decimal(PRICE_SCALE, MAX_TAX_PERCENT) for tier in tiers},
    )


def _meters(node: Node) -> dict[MeterName, Meter]:
    meters = {}
    for name, entry in node.fields((), tuple(MeterName)).items():
        meter = MeterName(name)
        fields = entry.fields(("unit",), ("while_suspended",))
        fields["unit"].choice((METER_UNITS[meter].unit,))
        suspended = fields.get("while_suspended")
        charged = suspended is not None and suspended.choice(("free", "charged")) == "charged"
        meters[meter] = Meter(meter, charged)
    if not meters:
        node.refuse("a card that meters nothing sells nothing; add at least cpu")
    return meters


def _sku(node: Node, tiers: tuple[str, ...], meters: Mapping[MeterName, Meter]) -> Sku:
    fields = node.fields(("id", "meter", "list", "price", "name"), ("match", "surcharge"))
    meter = MeterName(fields["meter"].choice(tuple(meters)))
    list_e8 = fields["list"].decimal(PRICE_SCALE, MAX_PRICE)
    surcharge = "surcharge" in fields and fields["surcharge"].boolean()
    prices = fields["price"].fields(tiers)
    price_e8 = {tier: prices[tier].decimal(PRICE_SCALE, MAX_PRICE) for tier in tiers}
    for tier, price in price_e8.items():
        if price > list_e8 and not surcharge:
            prices[tier].refuse(
                "is above the list price; raise the list price, or say surcharge: true on this SKU"
            )
    return Sku(
        id=fields["id"].name(),
        meter=meter,
        match=_match(fields["match"], meter) if "match" in fields else {},
        list_e8=list_e8,
        price_e8=price_e8,
        name=_text2(fields["name"]),
    )


def _match(node: Node, meter: MeterName) -> Match:
    match = {}
    for name, entry in node.fields((), tuple(MatchKey)).items():
        key = MatchKey(name)
        if key is MatchKey.GPU_TYPE and meter is not MeterName.GPU:
            entry.refuse("only a SKU of the meter gpu can ask for a GPU type")
        values = frozenset(entry.texts())
        if not values:
            entry.refuse("an empty list matches nothing; leave the key out to match anything")
        match[key] = values
    return match


def _override(node: Node, tiers: tuple[str, ...], skus: list[Sku]) -> Override:
    fields = node.fields(("id", "scope", "who", "sku", "reason"), (*TERMS, "from", "to"))
    sku = fields["sku"].choice((ANY_SKU, *(sku.id for sku in skus)))
    from_s = fields["from"].instant() if "from" in fields else 0
    until_s = fields["to"].instant() if "to" in fields else NO_END
    if until_s <= from_s:
        fields["to"].refuse('must be after "from"')
    reason = fields["reason"].text()
    if not reason.strip():
        fields["reason"].refuse("say who agreed to this price and why; an auditor will ask")
    who = fields["who"].text()
    if not who:
        fields["who"].refuse("must name a user, a project or an account")
    return Override(
        id=fields["id"].name(),
        scope=Scope(fields["scope"].choice(tuple(Scope))),
        who=who,
        sku=sku,
        terms=_terms(node, fields, sku, tiers),
        from_s=from_s,
        until_s=until_s,
        reason=reason,
    )


def _terms(
    node: Node, fields: Mapping[str, Node], sku: str, tiers: tuple[str, ...]
) -> FixedPrice | Factor | OtherTier:
    given = [name for name in TERMS if name in fields]
    if len(given) != 1:
        node.refuse("say exactly one of price, factor and tier")
    (name,) = given
    if name == "tier":
        return OtherTier(fields[name].choice(tiers))
    if name == "factor":
        return Factor(fields[name].decimal(PRICE_SCALE, MAX_FACTOR))
    if sku == ANY_SKU:
        fields[name].refuse("one price cannot suit every SKU; name the SKU, or use factor or tier")
    return FixedPrice(fields[name].decimal(PRICE_SCALE, MAX_PRICE))


def _by_meter(
    meters: Mapping[MeterName, Meter], skus: Iterable[Sku]
) -> dict[MeterName, tuple[Sku, ...]]:
    """Sort each meter's SKUs: more keys first; equal ones never match the same run."""
    most_specific_first = sorted(skus, key=lambda sku: (-len(sku.match), sku.id))
    return {
        meter: tuple(sku for sku in most_specific_first if sku.meter is meter) for meter in meters
    }


def _unambiguous(node: Node, skus: list[Sku]) -> None:
    """Refuse two SKUs that could claim one run, unless a more specific third one takes it."""
    entries = node.items()
    for (_, one), (index, other) in itertools.combinations(enumerate(skus), 2):
        common = _common(one, other)
        if common is None or any(_covers(third, one, common) for third in skus):
            continue
        entries[index].refuse(
            f'"{one.id}" and "{other.id}" match the same runs with equal right;'
            " give one of them one more key to match, or add a SKU for what both match"
        )


def _common(one: Sku, other: Sku) -> Match | None:
    """Return what both match if neither is more specific; None when nothing."""
    if one.meter is not other.meter or len(one.match) != len(other.match):
        return None
    common = dict(one.match)
    for key, values in other.match.items():
        common[key] = common.get(key, values) & values
    return common if all(common.values()) else None


def _covers(third: Sku, one: Sku, common: Match) -> bool:
    """Tell whether a SKU is more specific than a clash of ``one`` and takes all of it."""
    return (
        third.meter is one.meter
        and len(third.match) > len(one.match)
        and all(key in common and common[key] <= values for key, values in third.match.items())
    )


def _apart(node: Node, overrides: list[Override]) -> None:
    entries = node.items()
    node.unique(entries, [override.id for override in overrides])
    for (_, one), (index, other) in itertools.combinations(enumerate(overrides), 2):
        same = (one.scope, one.who, one.sku) == (other.scope, other.who, other.sku)
        if same and one.from_s < other.until_s and other.from_s < one.until_s:
            entries[index].refuse(
                f'holds at the same time as "{one.id}" for the same {one.scope} and SKU;'
                " end one before the other begins"
            )
