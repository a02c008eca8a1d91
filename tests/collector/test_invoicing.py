"""Lines, tax and shares: what is printed adds up, whatever was used."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_collector.core.charge import COST_SCALE, MICRO, PRICE_SCALE
from jobledger_collector.core.invoicing import ChargeSum, apportion, decide, make_bill, make_lines

VAT_7 = 7 * PRICE_SCALE
NO_TAX = 0


def a_sum(**over: object) -> ChargeSum:
    """One core-hour at list 5.00, price 1.00, of this period."""
    base = ChargeSum(
        price_id=1,
        sku="cpu-std",
        meter="cpu",
        unit="Core-Hours",
        list_e8=5 * PRICE_SCALE,
        unit_e8=PRICE_SCALE,
        prior_period=False,
        quantity_micro=MICRO,
    )
    return base._replace(**over)  # type: ignore[arg-type]


def price(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole) * PRICE_SCALE + int(fraction.ljust(8, "0") or 0)


@pytest.mark.parametrize(
    ("unit_price", "exponent", "net_minor"),
    [
        ("2.675", 2, 268),
        ("2.6749", 2, 267),
        ("10.5", 0, 11),
        ("1.2345", 3, 1235),
        ("0.004", 2, 0),
        ("0.005", 2, 1),
    ],
)
def test_a_line_is_rounded_half_up_once_and_mirrored_for_a_credit(
    unit_price: str, exponent: int, net_minor: int
) -> None:
    charge = a_sum(unit_e8=price(unit_price), list_e8=price(unit_price))
    credit = charge._replace(quantity_micro=-MICRO)
    assert make_lines([charge], exponent)[0].net_minor == net_minor
    assert make_lines([credit], exponent)[0].net_minor == -net_minor


def test_a_thousand_tiny_jobs_cost_what_they_cost_and_not_nothing() -> None:
    tiny = [a_sum(price_id=i, unit_e8=price("0.004"), list_e8=price("0.004")) for i in range(1000)]
    assert [line.net_minor for line in make_lines(tiny, 2)] == [400]


def test_tax_is_taken_on_the_document_and_not_on_each_line() -> None:
    lines = [a_sum(sku=sku, unit_e8=price("0.07")) for sku in ("a", "b", "c")]
    bill = make_bill(lines, 2, VAT_7)
    assert (bill.subtotal_minor, bill.tax_minor, bill.total_minor) == (21, 1, 22)


def test_prices_that_differ_only_in_who_chose_them_make_one_line() -> None:
    (line,) = make_lines([a_sum(price_id=9), a_sum(price_id=4, quantity_micro=2 * MICRO)], 2)
    assert (line.price_ids, line.quantity_micro, line.net_minor) == ((4, 9), 3 * MICRO, 300)


@pytest.mark.parametrize(
    "other",
    [
        {"sku": "cpu-long"},
        {"unit_e8": 2 * PRICE_SCALE},
        {"list_e8": 6 * PRICE_SCALE},
        {"prior_period": True},
    ],
)
def test_what_a_reader_must_tell_apart_makes_two_lines(other: dict[str, object]) -> None:
    assert len(make_lines([a_sum(), a_sum(price_id=2, **other)], 2)) == 2


def test_this_period_stands_before_earlier_ones_and_cpu_before_gpu_before_memory() -> None:
    sums = [
        a_sum(meter="mem", sku="mem"),
        a_sum(prior_period=True),
        a_sum(meter="gpu", sku="gpu"),
        a_sum(),
    ]
    lines = make_lines(sums, 2)
    assert [line.sku for line in lines] == ["cpu-std", "gpu", "mem", "cpu-std"]
    assert [line.line for line in lines] == [1, 2, 3, 4]
    assert [line.prior_period for line in lines] == [False, False, False, True]


def test_what_was_given_free_is_shown_with_its_list_price() -> None:
    (line,) = make_lines([a_sum(unit_e8=0)], 2)
    assert (line.list_minor, line.discount_minor, line.net_minor) == (500, 500, 0)


def test_a_charge_and_its_reversal_leave_nothing_to_show() -> None:
    assert make_lines([a_sum(), a_sum(quantity_micro=-MICRO)], 2) == ()


@pytest.mark.parametrize(
    ("sums", "kind"),
    [
        ([a_sum()], "invoice"),
        ([a_sum(unit_e8=0)], "statement"),
        ([a_sum(unit_e8=price("0.001"))], "statement"),
        ([], None),
        ([a_sum(), a_sum(prior_period=True, quantity_micro=-2 * MICRO)], None),
        ([a_sum(), a_sum(prior_period=True, quantity_micro=-MICRO)], "statement"),
    ],
)
def test_below_zero_is_carried_and_zero_takes_no_invoice_number(
    sums: list[ChargeSum], kind: str | None
) -> None:
    assert decide(make_bill(sums, 2, VAT_7)) == kind


PRICES = st.integers(0, 10**6 * PRICE_SCALE)
SUMS = st.lists(
    st.builds(
        ChargeSum,
        price_id=st.integers(1, 50),
        sku=st.sampled_from(["cpu-std", "gpu-a100", "mem"]),
        meter=st.sampled_from(["cpu", "gpu", "mem"]),
        unit=st.just("Core-Hours"),
        list_e8=PRICES,
        unit_e8=PRICES,
        prior_period=st.booleans(),
        quantity_micro=st.integers(-(10**12), 10**15),
    ),
    max_size=12,
)
EXPONENTS = st.sampled_from([0, 2, 3, 4])


@given(SUMS, EXPONENTS, st.integers(0, 30 * PRICE_SCALE))
def test_every_bill_adds_up(sums: list[ChargeSum], exponent: int, tax: int) -> None:
    bill = make_bill(sums, exponent, tax)
    assert bill.subtotal_minor == sum(line.net_minor for line in bill.lines)
    assert bill.total_minor == bill.subtotal_minor + bill.tax_minor
    assert bill.list_minor - bill.discount_minor == bill.subtotal_minor
    assert all(line.list_minor - line.discount_minor == line.net_minor for line in bill.lines)


@given(SUMS, EXPONENTS)
def test_no_line_is_further_from_its_charges_than_half_a_minor_unit(
    sums: list[ChargeSum], exponent: int
) -> None:
    minor_e14 = COST_SCALE // 10**exponent
    lines = make_lines(sums, exponent)
    exact = sum(one.quantity_micro * one.unit_e8 for one in sums)
    for line in lines:
        cost_e14 = line.quantity_micro * line.unit_e8
        assert 2 * abs(cost_e14 - line.net_minor * minor_e14) <= minor_e14
    assert sum(line.quantity_micro * line.unit_e8 for line in lines) == exact


@given(SUMS, EXPONENTS, st.randoms())
def test_the_order_of_the_charges_does_not_matter(
    sums: list[ChargeSum], exponent: int, random: Random
) -> None:
    shuffled = list(sums)
    random.shuffle(shuffled)
    assert make_lines(shuffled, exponent) == make_lines(sums, exponent)


@pytest.mark.parametrize(
    ("costs", "shares"),
    [
        (["33.333333", "33.333333", "33.333334"], [3333, 3333, 3334]),
        (["0.004"] * 5, [1, 1, 0, 0, 0]),
        (["0.005"], [1]),
        (["-0.005"], [-1]),
        (["1.00", "-1.00"], [100, -100]),
        (["0.006", "-0.002"], [0, 0]),
        ([], []),
    ],
)
def test_a_line_is_shared_out_to_the_last_cent(costs: list[str], shares: list[int]) -> None:
    exact = [_e14(cost) for cost in costs]
    net = sum(shares)
    assert apportion(net, exact, 2) == shares


def _e14(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    whole, _, fraction = text.removeprefix("-").partition(".")
    return sign * (int(whole) * COST_SCALE + int(fraction.ljust(14, "0")))


@given(st.lists(st.integers(-(10**18), 10**18), max_size=40), EXPONENTS)
def test_shares_are_the_line_and_each_is_within_one_minor_unit(
    costs: list[int], exponent: int
) -> None:
    minor_e14 = COST_SCALE // 10**exponent
    whole, rest = divmod(abs(sum(costs)), minor_e14)
    net = (whole + (2 * rest >= minor_e14)) * (1 if sum(costs) >= 0 else -1)
    shares = apportion(net, costs, exponent)
    assert sum(shares) == net
    for share, cost in zip(shares, costs, strict=True):
        assert abs(share * minor_e14 - cost) < minor_e14


def test_costs_that_are_not_the_lines_are_refused() -> None:
    with pytest.raises(ValueError, match="do not come to"):
        apportion(100, [COST_SCALE * 2], 2)
