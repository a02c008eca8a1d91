"""Pricing: what runs owe, at whose price, cut where prices change."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobledger_collector.core.accounts import Payer
from jobledger_collector.core.card import (
    Factor,
    FixedPrice,
    MatchKey,
    MeterName,
    OtherTier,
    Override,
    Scope,
)
from jobledger_collector.core.charge import Charge
from jobledger_collector.core.money import (
    format_cost,
    format_price,
    format_quantity,
    quantity_micro,
)
from jobledger_collector.core.pricing import Pricing, gpu_kinds, price_run
from jobledger_collector.core.rates import MAX_PLANS, NO_RATES, Plan, PlanKey, RateBook
from jobledger_collector.core.record import Flag, JobRecord, Span, Tres, Usage
from jobledger_collector.core.usage import add
from tests.collector.cards import EXTENDED, MAHIDOL, PLAIN, a_card, a_run, an_override, used_by

HOUR_S = 3_600
MU = Payer("physics", "mu")
BOOK = RateBook([a_card()])


def price(run: JobRecord, payer: Payer = MU, book: RateBook = BOOK) -> Pricing:
    return price_run(run, used_by(run), payer, book)


def shown(charges: tuple[Charge, ...]) -> list[tuple[str, str, str]]:
    """(item, quantity, price) of each charge, as a person would write them."""
    return [
        (
            charge.item,
            format_quantity(charge.quantity_micro).rstrip("0").rstrip("."),
            format_price(charge.price.unit_e8) if charge.price else "none",
        )
        for charge in charges
    ]


def cost(pricing: Pricing) -> str:
    return format_cost(
        sum(
            charge.quantity_micro * charge.price.unit_e8
            for charge in pricing.charges
            if charge.price
        )
    )


def test_an_hour_of_two_cores_and_four_gib() -> None:
    pricing = price(a_run())
    assert shown(pricing.charges) == [("cpu", "2", "1"), ("mem", "4", "0.5")]
    assert pricing.flags == ()
    assert cost(pricing) == "4"
    cpu = pricing.charges[0]
    assert (cpu.base_units, cpu.segment, cpu.segment_start) == (7_200, 0, 2_000_000)
    assert cpu.price is not None
    assert (cpu.price.card, cpu.price.card_version, cpu.price.sku) == ("mahidol-hpc", 1, "cpu-std")
    assert cpu.price.card_sha256 == MAHIDOL.sha256
    assert (cpu.price.list_e8, cpu.price.unit, cpu.price.rule) == (
        5 * 10**8,
        "Core-Hours",
        "tier mu",
    )


@pytest.mark.parametrize(
    ("tier", "cpu", "gpu", "a100", "mem", "rule"),
    [
        ("mu", "1", "5", "12", "0.5", "tier mu"),
        ("gov", "3", "10", "36", "1", "tier gov"),
        ("private", "5", "100", "120", "2", "tier private"),
        ("", "1", "5", "12", "0.5", "default tier mu"),
    ],
)
def test_prices_by_tier(tier: str, cpu: str, gpu: str, a100: str, mem: str, rule: str) -> None:
    tres = (("cpu", 1), ("gres/gpu", 2), ("gres/gpu:a100", 1), ("mem", 1024), ("node", 1))
    charges = price(a_run(alloc_tres=tres), Payer("someone", tier)).charges
    assert shown(charges) == [
        ("cpu", "1", cpu),
        ("mem", "1", mem),
        ("gpu", "1", gpu),
        ("gpu:a100", "1", a100),
    ]
    assert {charge.price.rule for charge in charges if charge.price} == {rule}


@pytest.mark.parametrize(
    ("tres", "kinds"),
    [
        ((("gres/gpu", 2),), {"": 2}),
        ((("gres/gpu", 4), ("gres/gpu:a100", 3), ("gres/gpu:h100", 1)), {"a100": 3, "h100": 1}),
        ((("gres/gpu:a100", 3),), {"a100": 3}),
        ((("gres/gpu", 3), ("gres/gpu:a100", 2)), {"": 1, "a100": 2}),
        ((("gres/gpu", 1), ("gres/gpu:a100", 2)), {"a100": 2}),  # the total contradicts
        ((("gres/gpu", 1), ("gres/gpumem", 80_000), ("gres/gpuutil", 100)), {"": 1}),
        ((("cpu", 1),), {}),
    ],
)
def test_gpus_are_counted_once_and_by_type(tres: Tres, kinds: dict[str, int]) -> None:
    """Conformance case 31: the untyped entry is the total, typed ones repeat it."""
    assert dict(gpu_kinds(tres)) == kinds
    run = a_run(alloc_tres=tres)
    priced = [charge for charge in price(run).charges if charge.item.startswith("gpu")]
    assert sum(charge.base_units for charge in priced) == used_by(run).gpu_s


@pytest.mark.parametrize(
    "over",
    [
        {"end": 0},  # still running
        {"start": 0},  # never started, whatever AllocTRES says (case 5)
        {"end": 2_000_000},  # ended as it started (case 6)
        {"suspended_s": 3_600},  # suspended all along
        {"alloc_tres": ((("cpu", 0)), ("node", 1))},
    ],
)
def test_what_was_not_used_makes_no_charge(over: dict[str, object]) -> None:
    assert price(a_run(**over)) == Pricing((), ())


def test_suspension_is_free_or_charged_as_the_card_says() -> None:
    """Conformance case 9: 72 s, of which 60 suspended."""
    tres = (("cpu", 2), ("gres/gpu", 1), ("mem", 1024))
    run = a_run(end=2_000_072, suspended_s=60, alloc_tres=tres)
    free = {charge.item: charge.base_units for charge in price(run).charges}
    charged = {c.item: c.base_units for c in price(run, MU, RateBook([a_card(EXTENDED)])).charges}
    assert free == {"cpu": 24, "mem": 12 * 1024, "gpu": 12}
    assert charged == {"cpu": 24, "mem": 72 * 1024, "gpu": 72}


def test_every_meter_of_the_extended_card() -> None:
    tres = (("billing", 10), *PLAIN)
    run = a_run(alloc_tres=tres, energy_j=7_200_000, user="bob")
    charges = price(run, Payer("x", "private"), RateBook([a_card(EXTENDED)])).charges
    assert shown(charges) == [
        ("cpu", "2", "5"),
        ("mem", "4", "2"),
        ("node", "1", "10"),
        ("billing", "10", "0.02"),
        ("energy", "2", "6"),
    ]


@pytest.mark.parametrize("energy_j", [-1, 0])
def test_unknown_energy_is_never_charged(energy_j: int) -> None:
    """Conformance case 33."""
    charges = price(a_run(energy_j=energy_j), MU, RateBook([a_card(EXTENDED)])).charges
    assert "energy" not in {charge.item for charge in charges}


def test_a_meter_that_is_not_sold_is_not_charged() -> None:
    assert "node" not in {charge.item for charge in price(a_run()).charges}
    assert price(a_run()).flags == ()


def test_a_meter_that_is_sold_but_not_for_this_run_is_flagged_never_free() -> None:
    only_debug = replace(
        MAHIDOL.skus[MeterName.CPU][0], match={MatchKey.PARTITION: frozenset({"debug"})}
    )
    card = a_card(skus={**MAHIDOL.skus, MeterName.CPU: (only_debug,)})
    pricing = price(a_run(), MU, RateBook([card]))
    assert shown(pricing.charges) == [("cpu", "2", "none"), ("mem", "4", "0.5")]
    assert pricing.flags == ("no_price",)
    assert price(a_run(partition="debug"), MU, RateBook([card])).flags == ()


def test_before_the_first_card_everything_is_kept_without_a_price() -> None:
    early = a_run(submit=1_000, start=1_000, end=4_600)
    pricing = price(early)
    assert shown(pricing.charges) == [("cpu", "2", "none"), ("mem", "4", "none")]
    assert pricing.flags == ("no_price",)


def test_without_any_card_nothing_is_owed_and_the_run_says_so() -> None:
    assert price(a_run(), MU, NO_RATES) == Pricing((), (Flag.NO_CARD,))
    assert price(a_run(end=0), MU, NO_RATES) == Pricing((), ())


def test_a_tier_that_the_card_does_not_have_is_flagged() -> None:
    pricing = price(a_run(), Payer("x", "industry"))
    assert {charge.price for charge in pricing.charges} == {None}
    assert pricing.flags == ("no_price", "unknown_tier")


USER = an_override(id="u", scope=Scope.USER, who="alice", sku="cpu-std", terms=FixedPrice(1))
USER_ANY = an_override(id="ua", scope=Scope.USER, who="alice", terms=FixedPrice(2))
PROJECT = an_override(id="p", scope=Scope.PROJECT, who="phys", terms=FixedPrice(3))
ACCOUNT = an_override(
    id="a", scope=Scope.ACCOUNT, who="physics", sku="cpu-std", terms=FixedPrice(4)
)
OTHER = an_override(id="o", scope=Scope.USER, who="bob", terms=FixedPrice(5))
OTHER_SKU = an_override(id="s", scope=Scope.USER, who="alice", sku="mem-std", terms=FixedPrice(6))
GOV = an_override(terms=OtherTier("gov"))
THIRD = an_override(terms=Factor(33_333_333))
TIER_E8 = 10**8


@pytest.mark.parametrize(
    ("overrides", "unit_e8", "rule"),
    [
        ((), TIER_E8, "tier mu"),
        ((ACCOUNT, PROJECT, USER_ANY, USER), 1, "override u for user alice: a price of its own"),
        ((ACCOUNT, PROJECT, USER_ANY), 2, "override ua for user alice: a price of its own"),
        ((ACCOUNT, PROJECT), 3, "override p for project phys: a price of its own"),
        ((ACCOUNT,), 4, "override a for account physics: a price of its own"),
        ((OTHER, OTHER_SKU), TIER_E8, "tier mu"),
        ((an_override(),), TIER_E8 // 2, "override half for user alice: 0.5 of tier mu"),
        ((GOV,), 3 * TIER_E8, "override half for user alice: tier gov"),
        ((THIRD,), 33_333_333, "override half for user alice: 0.33333333 of tier mu"),
        ((replace(USER, until_s=2_000_000),), TIER_E8, "tier mu"),  # ended
        ((replace(USER, from_s=2_003_600),), TIER_E8, "tier mu"),  # not begun
    ],
)  # fmt: skip
def test_the_narrowest_agreement_wins_and_is_named(
    overrides: tuple[Override, ...], unit_e8: int, rule: str
) -> None:
    for order in (overrides, overrides[::-1]):
        cpu = price(a_run(), MU, RateBook([a_card(overrides=order)])).charges[0]
        assert cpu.price is not None
        assert (cpu.price.unit_e8, cpu.price.rule) == (unit_e8, rule)
        assert cpu.price.list_e8 == 5 * TIER_E8


def test_an_agreed_price_needs_no_tier() -> None:
    card = a_card(overrides=(USER, replace(OTHER_SKU, sku="mem-std")))
    assert price(a_run(), Payer("x", "industry"), RateBook([card])).flags == ()


def test_a_run_is_cut_where_the_card_changes() -> None:
    """16 cores for five hours, cut two hours in: 115 200 + 172 800 core-seconds."""
    start = 2_000_000
    cut = start + 2 * HOUR_S
    dearer = replace(
        MAHIDOL.skus[MeterName.CPU][0], price_e8={"mu": 2 * 10**8, "gov": 0, "private": 0}
    )
    second = a_card(version=2, effective_from=cut, skus={**MAHIDOL.skus, MeterName.CPU: (dearer,)})
    run = a_run(end=start + 5 * HOUR_S, alloc_tres=(("cpu", 16),))
    charges = price(run, MU, RateBook([a_card(), second])).charges
    assert [
        (
            c.segment,
            c.segment_start,
            c.base_units,
            c.price and c.price.card_version,
            c.price and c.price.unit_e8,
        )
        for c in charges
    ] == [(0, start, 115_200, 1, 10**8), (1, cut, 172_800, 2, 2 * 10**8)]


def test_another_mans_agreement_cuts_nothing() -> None:
    agreed = an_override(who="bob", from_s=2_001_000, until_s=2_002_000)
    run = a_run(suspended_s=7)
    assert price(run, MU, RateBook([a_card(overrides=(agreed,))])) == price(run)
    mine = replace(agreed, who="alice")
    charges = price(run, MU, RateBook([a_card(overrides=(mine,))])).charges
    assert [c.segment for c in charges if c.item == "cpu"] == [0, 1, 2]
    assert sum(c.base_units for c in charges if c.item == "cpu") == used_by(run).cpu_s


def test_a_suspended_run_over_midnight_is_cut_without_loss() -> None:
    """Conformance case 10: 72 s of which 60 suspended, cut at midnight, stay 12 s."""
    midnight = 2_000_040
    book = RateBook([a_card(), a_card(version=2, effective_from=midnight)])
    run = a_run(end=2_000_072, suspended_s=60)
    cpu = [c for c in price(run, MU, book).charges if c.item == "cpu"]
    assert [c.segment_start for c in cpu] == [2_000_000, midnight]
    assert sum(c.base_units for c in cpu) == used_by(run).cpu_s
    assert used_by(run).elapsed_s == 12


def test_merged_runs_are_charged_for_each_of_their_spans() -> None:
    """Conformance case 19: 100..200 and 300..400 are 200 s, each in its own segment."""
    one, two = (a_run(start=2_000_000 + n, end=2_000_100 + n) for n in (0, 200))
    merged = add([used_by(one), used_by(two)])
    charges = price_run(two, merged, MU, BOOK).charges
    assert [(c.item, c.segment, c.segment_start) for c in charges if c.item == "cpu"] == [
        ("cpu", 0, 2_000_000), ("cpu", 1, 2_000_200),
    ]  # fmt: skip
    assert sum(c.base_units for c in charges if c.item == "cpu") == 400


def test_energy_of_a_cut_run_is_shared_by_time() -> None:
    book = RateBook([a_card(EXTENDED), a_card(EXTENDED, version=2, effective_from=2_000_900)])
    run = a_run(energy_j=1_001)
    joules = [c.base_units for c in price(run, MU, book).charges if c.item == "energy"]
    assert joules == [250, 751]


def test_a_sku_for_a_queue_or_a_reservation() -> None:
    book = RateBook([a_card(EXTENDED)])
    by_item = {
        charge.item: charge.price.sku
        for charge in price(a_run(qos="scavenger", reservation="course"), MU, book).charges
        if charge.price
    }
    assert (by_item["cpu"], by_item["node"]) == ("cpu-scavenger", "node-reserved")


@pytest.mark.parametrize(("qos", "sku"), [("", "cpu-unnamed"), ("normal", "cpu-std")])
def test_a_sku_for_runs_without_a_qos_is_not_for_those_of_another(qos: str, sku: str) -> None:
    card = a_card(MAHIDOL)
    (std,) = card.skus[MeterName.CPU]
    unnamed = replace(std, id="cpu-unnamed", match={MatchKey.QOS: frozenset({""})})
    book = RateBook([replace(card, skus={**card.skus, MeterName.CPU: (unnamed, std)})])
    charged = {c.item: c.price for c in price(a_run(qos=qos), MU, book).charges}["cpu"]
    assert charged is not None
    assert charged.sku == sku


def test_what_is_remembered_does_not_change_what_is_owed() -> None:
    book = RateBook([a_card(overrides=(an_override(),))])
    people = [("alice", "phys"), ("bob", "phys"), ("alice", "chem"), ("carol", "phys")] * 2
    again = [price(a_run(user=user, account=account), MU, book) for user, account in people]
    fresh = [
        price(a_run(user=user, account=account), MU, RateBook(book.cards))
        for user, account in people
    ]
    assert again == fresh
    assert len(book.plans) == 2  # alice, and everyone whom no card mentions


def test_the_memory_has_a_limit() -> None:
    book = RateBook([a_card()])
    for n in range(MAX_PLANS):
        book.remember(PlanKey(0, "", "", "", "", "", "", "", str(n), ()), Plan((), None, ()))
    assert len(book.plans) == MAX_PLANS
    assert price(a_run(), MU, book) == price(a_run())
    assert len(book.plans) == 1


cuts = st.lists(st.integers(1_999_000, 2_010_000), unique=True, max_size=5)
seconds = st.integers(0, 10_000)


@settings(max_examples=200)
@given(cuts, seconds, seconds, st.integers(1, 64), st.integers(0, 10**6), st.booleans())
def test_however_a_run_is_cut_its_base_units_add_up(
    card_starts: list[int], wall_s: int, suspended_s: int, cores: int, joules: int, extended: bool
) -> None:
    card = EXTENDED if extended else MAHIDOL
    cards = [a_card(card, version=n, effective_from=at) for n, at in enumerate(card_starts, 2)]
    book = RateBook([a_card(card, effective_from=1), *cards])
    run = a_run(
        end=2_000_000 + wall_s, suspended_s=suspended_s, alloc_tres=(("cpu", cores), ("mem", 7))
    )
    usage = used_by(run)._replace(energy_j=joules)
    charges = price_run(run, usage, MU, book).charges
    sums = {"cpu": 0, "mem": 0, "energy": 0}
    for charge in charges:
        sums[charge.item] += charge.base_units
    mem_s = wall_s if extended else usage.elapsed_s
    assert sums == {
        "cpu": usage.cpu_s,
        "mem": 7 * mem_s,
        "energy": joules if extended else 0,
    }
    assert len({(c.item, c.segment) for c in charges}) == len(charges)
    for charge in charges:
        assert charge.base_units > 0
        per_unit = {"cpu": 3_600, "mem": 3_600 * 1_024, "energy": 3_600_000}[charge.item]
        assert charge.quantity_micro == quantity_micro(charge.base_units, per_unit)
        assert charge.price is not None
        assert charge.price.card_version == max(
            [1, *(n for n, at in enumerate(card_starts, 2) if at <= charge.segment_start)],
            key=lambda n: card_starts[n - 2] if n > 1 else 0,
        )


@given(
    st.lists(
        st.tuples(seconds, st.integers(1, 5_000), st.integers(0, 6_000)), min_size=1, max_size=4
    )
)
def test_segments_of_several_spans_never_collide(parts: list[tuple[int, int, int]]) -> None:
    spans, at = [], 1_990_000
    for gap, wall_s, suspended_s in parts:
        spans.append(Span(at + gap, at + gap + wall_s, suspended_s, PLAIN))
        at += gap + wall_s
    usage = Usage(tuple(spans), 0, 0, 0, 0, 0, -1)
    book = RateBook([a_card(), a_card(version=2, effective_from=1_995_000)])
    charges = price_run(a_run(), usage, MU, book).charges
    assert len({(c.item, c.segment) for c in charges}) == len(charges)
    cpu_s = sum(c.base_units for c in charges if c.item == "cpu")
    assert cpu_s == sum(2 * span.active_s for span in spans)
