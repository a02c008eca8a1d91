"""From what a run used to what it owes: exact quantities at named prices.

A run is cut wherever its prices change while it runs (a new card version, an
agreement that begins or ends), and each piece is priced as of its start. While
a run was suspended is not known, only for how long; a cut run's active seconds
are therefore shared over its pieces in proportion to their length, by largest
remainder, so that they add up exactly.
"""

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from jobledger_collector.core.accounts import Payer
from jobledger_collector.core.card import (
    ANY_SKU,
    METER_UNITS,
    Circumstances,
    FixedPrice,
    MatchKey,
    MeterName,
    OtherTier,
    Override,
    RateCard,
    Scope,
    Sku,
)
from jobledger_collector.core.charge import MICRO, PRICE_SCALE, Charge, Price
from jobledger_collector.core.money import divide_half_even, format_price, split
from jobledger_collector.core.rates import UNNAMED, Plan, PlanKey, PlannedItem, RateBook
from jobledger_collector.core.record import Flag, JobRecord, Span, Tres, Usage

GPU_TRES: Final = "gres/gpu"
GPU_TYPE_PREFIX: Final = "gres/gpu:"
TRES_OF_METER: Final = (
    (MeterName.CPU, "cpu"),
    (MeterName.MEM, "mem"),
    (MeterName.NODE, "node"),
    (MeterName.BILLING, "billing"),
)
SCOPE_ORDER: Final = tuple(Scope)


class Pricing(NamedTuple):
    """What a run owes, and what a person should know about it."""

    charges: tuple[Charge, ...]
    flags: tuple[Flag, ...]


NOTHING: Final = Pricing((), ())
WITHOUT_CARD: Final = Pricing((), (Flag.NO_CARD,))


_new_charge: Callable[[tuple[Any, ...]], Charge] = partial(tuple.__new__, Charge)


class _Piece(NamedTuple):
    """A stretch of a run in which its prices do not change."""

    start: int
    wall_s: int
    active_s: int
    plan: Plan


def price_run(record: JobRecord, usage: Usage, payer: Payer, book: RateBook) -> Pricing:
    """Return the charges of a run: one an item and piece, never one of zero.

    The same input always gives the same charges, in the same order.
    """
    spans = usage.spans
    if not spans:
        return NOTHING
    if not book.cards:
        return WITHOUT_CARD
    if len(spans) == 1:
        span = spans[0]
        start, cuts = span.start, book.cuts
        stretch = bisect_right(cuts, start)
        if stretch == len(cuts) or span.end <= cuts[stretch]:
            wall_s = span.wall_s
            plan = _plan(record, span.tres, start, stretch, payer, book)
            piece = _Piece(start, wall_s, max(0, wall_s - span.suspended_s), plan)
            charges: list[Charge] = []
            _charge(charges, piece, 0, usage.energy_j)
            return Pricing(tuple(charges), _flags(charges, plan.flags) if plan.flags else ())
    return _price_pieces(list(_pieces(record, usage, payer, book)), usage.energy_j)


def gpu_kinds(tres: Tres) -> list[tuple[str, int]]:
    """Return the GPUs of an allocation by type, "" for those of no named type.

    Slurm's ``gres/gpu`` is the total and the typed entries repeat part or all
    of it; where only typed entries exist, they are all there is.
    """
    total, typed = 0, []
    for name, count in tres:
        if name == GPU_TRES:
            total = count
        elif name.startswith(GPU_TYPE_PREFIX):
            typed.append((name.removeprefix(GPU_TYPE_PREFIX), count))
    untyped = total - sum(count for _, count in typed)
    return [("", untyped), *typed] if untyped > 0 else typed


def _price_pieces(pieces: list[_Piece], energy_j: int) -> Pricing:
    energy = (
        split(energy_j, [piece.wall_s for piece in pieces])
        if energy_j > 0
        else (energy_j,) * len(pieces)
    )
    charges: list[Charge] = []
    reasons: set[Flag] = set()
    for segment, (piece, piece_energy_j) in enumerate(zip(pieces, energy, strict=True)):
        _charge(charges, piece, segment, piece_energy_j)
        reasons.update(piece.plan.flags)
    return Pricing(tuple(charges), _flags(charges, tuple(sorted(reasons))))


def _flags(charges: list[Charge], reasons: tuple[Flag, ...]) -> tuple[Flag, ...]:
    """Keep the reasons only when something that was used has no price."""
    return reasons if any(charge.price is None for charge in charges) else ()


def _charge(charges: list[Charge], piece: _Piece, segment: int, energy_j: int) -> None:
    """Append what one piece owes. The hot loop of ingest: kept plain on purpose."""
    start, wall_s, active_s, plan = piece
    for item, held, base_per_unit, charged_while_suspended, price in plan.items:
        base_units = held * (wall_s if charged_while_suspended else active_s)
        if base_units:
            quantity, remainder = divmod(base_units * MICRO, base_per_unit)
            twice = 2 * remainder
            if twice > base_per_unit or (twice == base_per_unit and quantity & 1):
                quantity += 1
            charges.append(_new_charge((item, segment, start, base_units, quantity, price)))
    if plan.energy is not None and energy_j > 0:
        item, _, base_per_unit, _, price = plan.energy
        quantity = divide_half_even(energy_j * MICRO, base_per_unit)
        charges.append(Charge(item, segment, start, energy_j, quantity, price))


def _pieces(record: JobRecord, usage: Usage, payer: Payer, book: RateBook) -> Iterator[_Piece]:
    for span in usage.spans:
        stretches = _stretches(record, span, payer, book)
        walls = [end - start for start, end, _ in stretches]
        shares = split(span.active_s, walls)
        for (start, _, plan), wall_s, active_s in zip(stretches, walls, shares, strict=True):
            yield _Piece(start, wall_s, active_s, plan)


def _stretches(
    record: JobRecord, span: Span, payer: Payer, book: RateBook
) -> list[tuple[int, int, Plan]]:
    """Cut a span where its own prices change; a cut that changes nothing is none."""
    end = span.start + span.wall_s
    instants = [span.start, *book.cuts_within(span.start, end), end]
    stretches: list[tuple[int, int, Plan]] = []
    for start, until in itertools.pairwise(instants):
        plan = _plan(record, span.tres, start, bisect_right(book.cuts, start), payer, book)
        same = bool(stretches) and stretches[-1][2] == plan
        stretches.append((stretches.pop()[0] if same else start, until, plan))
    return stretches


def _plan(
    record: JobRecord, tres: Tres, at_s: int, stretch: int, payer: Payer, book: RateBook
) -> Plan:
    named = book.mentioned
    key = (
        stretch,
        record.cluster if record.cluster in named.clusters else UNNAMED,
        record.partition if record.partition in named.partitions else UNNAMED,
        record.qos if record.qos in named.qos else UNNAMED,
        record.reservation if record.reservation in named.reservations else UNNAMED,
        record.user if record.user in named.users else UNNAMED,
        record.account if record.account in named.projects else UNNAMED,
        payer.billing_account if payer.billing_account in named.accounts else UNNAMED,
        payer.tier,
        tres,
    )
    plan = book.plans.get(key)  # a PlanKey equals the tuple of its fields
    if plan is None:
        alike = PlanKey(*key)
        plan = _resolve(alike, at_s, book)
        book.remember(alike, plan)
    return plan


def _resolve(key: PlanKey, at_s: int, book: RateBook) -> Plan:
    """Choose every price for runs alike at an instant.

    Before the first card the meters are those of the first card, and have no
    price: usage is never dropped for want of one.
    """
    card = book.at(at_s)
    sold = card or book.cards[0]
    items = []
    energy = None
    for meter, kind, count in _counts(sold, key.tres):
        found = _price(card, meter, kind, key, at_s) if card else None
        price = book.shared(found) if found else None
        name = f"{meter}:{kind}" if kind else str(meter)
        planned = PlannedItem(
            name,
            count,
            METER_UNITS[meter].base_per_unit,
            sold.meters[meter].charged_while_suspended,
            price,
        )
        if meter is MeterName.ENERGY:
            energy = planned
        else:
            items.append(planned)
    unpriced = any(planned.price is None for planned in (*items, *([energy] if energy else ())))
    flags = [Flag.NO_PRICE] if unpriced else []
    if unpriced and card and card.tier_of(key.tier) not in card.tiers:
        flags.append(Flag.UNKNOWN_TIER)
    return Plan(tuple(items), energy, tuple(flags))


def _counts(card: RateCard, tres: Tres) -> Iterator[tuple[MeterName, str, int]]:
    """Yield (meter, kind, count) of what was held and the card sells."""
    held = dict(tres)
    for meter, name in TRES_OF_METER:
        if card.skus.get(meter) and held.get(name):
            yield meter, "", held[name]
    if card.skus.get(MeterName.GPU):
        for kind, count in gpu_kinds(tres):
            if count:
                yield MeterName.GPU, kind, count
    if card.skus.get(MeterName.ENERGY):
        yield MeterName.ENERGY, "", 1


def _price(card: RateCard, meter: MeterName, kind: str, key: PlanKey, at_s: int) -> Price | None:
    run: Circumstances = {
        MatchKey.CLUSTER: key.cluster,
        MatchKey.PARTITION: key.partition,
        MatchKey.QOS: key.qos,
        MatchKey.RESERVATION: key.reservation,
        MatchKey.GPU_TYPE: kind,
    }
    sku = card.sku_for(meter, run)
    if sku is None:
        return None
    return _priced(card, sku, _agreement(card, sku, key, at_s), key.tier)


def _agreement(card: RateCard, sku: Sku, key: PlanKey, at_s: int) -> Override | None:
    """Return the override in force: user before project before account, then own SKU before any."""
    who = {
        Scope.USER: key.user,
        Scope.PROJECT: key.project,
        Scope.ACCOUNT: key.billing_account,
    }
    holding = [
        override
        for override in card.overrides
        if who[override.scope] == override.who
        and override.sku in {sku.id, ANY_SKU}
        and override.from_s <= at_s < override.until_s
    ]
    return min(
        holding,
        key=lambda override: (SCOPE_ORDER.index(override.scope), override.sku == ANY_SKU),
        default=None,
    )


def _priced(card: RateCard, sku: Sku, agreed: Override | None, payer_tier: str) -> Price | None:
    tier = card.tier_of(payer_tier)
    by_tier = sku.price_e8.get(tier)
    rule = f"tier {tier}" if payer_tier else f"default tier {tier}"
    unit_e8 = by_tier
    if agreed is not None:
        terms = agreed.terms
        rule = f"override {agreed.id} for {agreed.scope} {agreed.who}: "
        if isinstance(terms, FixedPrice):
            unit_e8, rule = terms.unit_e8, rule + "a price of its own"
        elif isinstance(terms, OtherTier):
            tier, unit_e8 = terms.tier, sku.price_e8[terms.tier]
            rule += f"tier {tier}"
        elif by_tier is not None:
            unit_e8 = divide_half_even(by_tier * terms.factor_e8, PRICE_SCALE)
            rule += f"{format_price(terms.factor_e8)} of tier {tier}"
    if unit_e8 is None:
        return None
    return Price(
        card=card.card,
        card_version=card.version,
        card_sha256=card.sha256,
        sku=sku.id,
        meter=str(sku.meter),
        unit=METER_UNITS[sku.meter].unit,
        tier=tier,
        rule=rule,
        currency=card.currency,
        list_e8=sku.list_e8,
        unit_e8=unit_e8,
    )
