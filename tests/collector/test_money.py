"""Money: the worked numbers that finance checks by hand, and laws that always hold."""

from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_collector.core.charge import COST_SCALE, MICRO, PRICE_SCALE
from jobledger_collector.core.money import (
    Money,
    cost_to_minor,
    divide_half_even,
    divide_half_up,
    format_cost,
    format_decimal,
    format_minor,
    format_price,
    format_quantity,
    minor_to_cost,
    parse_decimal,
    quantity_micro,
    split,
    tax_on,
    tax_within,
    total,
)

HOUR_S = 3_600


def cost(text: str) -> int:
    return parse_decimal(text, COST_SCALE)


@pytest.mark.parametrize(
    ("exact", "exponent", "minor"),
    [
        ("2.675", 2, 268),  # THB; binary floating point would say 2.67
        ("-2.675", 2, -268),  # a credit mirrors its charge
        ("2.665", 2, 267),
        ("10.5", 0, 11),  # JPY
        ("1.2345", 3, 1235),  # KWD
        ("1.23455", 4, 12346),  # CLF
        ("0.004", 2, 0),
        ("4.000", 2, 400),  # a thousand times 0.004, rounded once
        ("0.00499999999999", 2, 0),
        ("0.005", 2, 1),
        ("-0.005", 2, -1),
        ("0", 2, 0),
    ],
)
def test_an_exact_cost_becomes_a_line_amount(exact: str, exponent: int, minor: int) -> None:
    assert cost_to_minor(cost(exact), exponent) == minor


@pytest.mark.parametrize(
    ("base_units", "base_per_unit", "quantity"),
    [
        (384 * HOUR_S, HOUR_S, "384.000000"),
        (1, HOUR_S, "0.000278"),
        (47_704, HOUR_S, "13.251111"),
        (0, HOUR_S, "0.000000"),
        (1, 2_000_000, "0.000000"),  # half a millionth, to the even one
        (3, 2_000_000, "0.000002"),
        (5_000, 3_600_000, "0.001389"),  # 5 kJ in kWh
    ],
)
def test_base_units_become_a_quantity(base_units: int, base_per_unit: int, quantity: str) -> None:
    assert format_quantity(quantity_micro(base_units, base_per_unit)) == quantity


@pytest.mark.parametrize(
    ("amount", "weights", "parts"),
    [
        (100_00, (1, 1, 1), (33_34, 33_33, 33_33)),
        (-100_00, (1, 1, 1), (-33_34, -33_33, -33_33)),
        (2054_40, (60, 30, 10), (1232_64, 616_32, 205_44)),
        (1000_01, (60, 30, 10), (600_01, 300_00, 100_00)),
        (1920_01, (3333, 3333, 3334), (639_94, 639_94, 640_13)),
        (100, (0, 1, 2), (0, 33, 67)),
        (1, (1, 1), (1, 0)),
        (5, (0, 0), (3, 2)),
        (0, (3, 4), (0, 0)),
        (134_40, (192_00, 1728_00, 0), (13_44, 120_96, 0)),  # tax shown by line
    ],
)
def test_an_amount_is_shared_without_a_remainder(
    amount: int, weights: tuple[int, ...], parts: tuple[int, ...]
) -> None:
    assert split(amount, weights) == parts


@pytest.mark.parametrize("weights", [(), (1, -1)])
def test_an_amount_is_not_shared_by_impossible_weights(weights: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not negative"):
        split(1, weights)


@pytest.mark.parametrize(
    ("net", "percent", "tax"),
    [
        (1920_00, "7", 134_40),
        (7, "7", 0),  # by line 0.00 each ...
        (3 * 7, "7", 1),  # ... on the document 0.01
        (-7_50, "10", -75),
        (1000_00, "0", 0),
        (100_00, "8.25", 8_25),
    ],
)
def test_tax_is_added_once_to_the_net(net: int, percent: str, tax: int) -> None:
    assert tax_on(net, parse_decimal(percent, PRICE_SCALE)) == tax


@pytest.mark.parametrize(
    ("gross", "tax"), [(100_00, 6_54), (10_700_00, 700_00), (1000_00, 65_42), (107, 7)]
)
def test_tax_is_found_within_a_gross_amount(gross: int, tax: int) -> None:
    assert tax_within(gross, parse_decimal("7", PRICE_SCALE)) == tax


def test_the_worked_invoice() -> None:
    quantities = [quantity_micro(hours * HOUR_S, HOUR_S) for hours in (384, 48, 3072)]
    contract = [parse_decimal(text, PRICE_SCALE) for text in ("0.50", "36", "0")]
    listed = [parse_decimal(text, PRICE_SCALE) for text in ("0.80", "60", "0.05")]
    exact = [q * p for q, p in zip(quantities, contract, strict=True)]
    lines = [cost_to_minor(value, 2) for value in exact]
    assert sum(q * p for q, p in zip(quantities, listed, strict=True)) == cost("3340.80")
    assert lines == [192_00, 1728_00, 0]
    assert sum(lines) + tax_on(sum(lines), parse_decimal("7", PRICE_SCALE)) == 2054_40


@pytest.mark.parametrize(
    ("text", "scale", "value"),
    [
        ("0.50", PRICE_SCALE, 50_000_000),
        ("-1.5", MICRO, -1_500_000),
        ("7", PRICE_SCALE, 700_000_000),
        ("0.00000001", PRICE_SCALE, 1),
    ],
)
def test_a_plain_decimal_is_read(text: str, scale: int, value: int) -> None:
    assert parse_decimal(text, scale) == value


@pytest.mark.parametrize(
    "text",
    ["", "-", ".5", "12.", "1e3", "1,000.00", " 1", "1 ", "+1", "--1", "0x1", "NaN", "٣", "1.٣",
     "1" * 40, "0.000000001"],
)  # fmt: skip
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"plain decimal|decimals"):
        parse_decimal(text, PRICE_SCALE)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (format_price(50_000_000), "0.5"),
        (format_price(50_000_000, 2), "0.50"),
        (format_price(1), "0.00000001"),
        (format_price(100_000_000), "1"),
        (format_cost(-1), "-0.00000000000001"),
        (format_cost(0, 2), "0.00"),
        (format_minor(205_440, 2), "2054.40"),
        (format_minor(-5, 2), "-0.05"),
        (format_minor(1_100, 0), "1100"),
        (format_minor(1_235, 3), "1.235"),
    ],
)
def test_decimals_are_written_plainly(shown: str, text: str) -> None:
    assert shown == text


def test_amounts_of_one_currency_add_up_and_others_are_refused() -> None:
    assert total([Money(150, "THB"), Money(-50, "THB")], "THB") == Money(100, "THB")
    assert total([], "THB") == Money(0, "THB")
    with pytest.raises(ValueError, match="cannot add USD to THB"):
        total([Money(1, "THB"), Money(1, "USD")], "THB")


whole = st.integers(-(10**24), 10**24)
positive = st.integers(1, 10**15)


@given(whole, positive)
def test_both_roundings_agree_with_decimal_arithmetic(numerator: int, denominator: int) -> None:
    with localcontext(prec=80):
        exact = Decimal(numerator) / Decimal(denominator)
        if exact * denominator != numerator:
            return  # not representable: the oracle itself would have rounded
        half_up = exact.quantize(Decimal(1), rounding=ROUND_HALF_UP)
        half_even = exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    assert divide_half_up(numerator, denominator) == int(half_up)
    assert divide_half_even(numerator, denominator) == int(half_even)


@given(whole, positive)
def test_rounding_is_to_the_nearest_and_symmetric(numerator: int, denominator: int) -> None:
    for divide in (divide_half_up, divide_half_even):
        rounded = divide(numerator, denominator)
        assert 2 * abs(rounded * denominator - numerator) <= denominator
        assert divide(-numerator, denominator) == -rounded


@given(whole, st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_parts_always_add_up_and_are_fair(amount: int, weights: list[int]) -> None:
    parts = split(amount, weights)
    whole_weight = sum(weights)
    assert sum(parts) == amount
    assert split(-amount, weights) == tuple(-part for part in parts)
    for part, weight in zip(parts, weights, strict=True):
        if whole_weight:
            assert abs(part * whole_weight - amount * weight) < whole_weight
            assert weight or not part


@given(whole, st.sampled_from([1, 100, MICRO, PRICE_SCALE, COST_SCALE]), st.integers(0, 3))
def test_what_is_written_is_read_back(value: int, scale: int, min_places: int) -> None:
    places = len(str(scale)) - 1
    written = format_decimal(value, scale, min(min_places, places))
    if len(written) <= 32:
        assert parse_decimal(written, scale) == value


@given(st.integers(-(10**15), 10**15), st.sampled_from([0, 2, 3, 4]))
def test_minor_units_survive_the_exact_form(minor: int, exponent: int) -> None:
    assert cost_to_minor(minor_to_cost(minor, exponent), exponent) == minor
