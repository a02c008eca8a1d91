"""How figures, money and times are written: exact in, readable out."""

from decimal import ROUND_HALF_UP, Decimal, localcontext
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from jobledger_web import charts
from jobledger_web.formats import Formats, visible

EN = Formats(Locale.parse("en"), ZoneInfo("Asia/Bangkok"), "THB")
TH = Formats(Locale.parse("th"), ZoneInfo("Asia/Bangkok"), "THB")
YEN = Formats(Locale.parse("en"), ZoneInfo("Asia/Tokyo"), "JPY")
DINAR = Formats(Locale.parse("en"), ZoneInfo("Asia/Kuwait"), "KWD")
BAHT_E14 = 10**14


@pytest.mark.parametrize(
    ("fmt", "e14", "total", "cost"),
    [
        (EN, 0, "0.00", "0.0000"),
        (EN, 12 * BAHT_E14, "12.00", "12.0000"),
        (EN, BAHT_E14 // 200, "0.01", "0.0050"),
        (EN, BAHT_E14 // 200 - 1, "0.00", "0.0050"),
        (EN, -BAHT_E14 // 200, "-0.01", "-0.0050"),
        (EN, 1234567 * BAHT_E14 + 1, "1,234,567.00", "1,234,567.0000"),
        (EN, 10**40, "100,000,000,000,000,000,000,000,000.00", None),
        (YEN, 3 * BAHT_E14 // 2, "2", "1.50"),
        (DINAR, BAHT_E14 // 2000, "0.001", "0.00050"),
    ],
)
def test_costs(fmt: Formats, e14: int, total: str, cost: str | None) -> None:
    assert fmt.total(e14) == total
    if cost is not None:
        assert fmt.cost(e14) == cost


@given(st.integers(-(10**30), 10**30))
def test_a_total_is_the_exact_sum_rounded_once_half_up(e14: int) -> None:
    with localcontext() as context:
        context.prec = 60
        exact = (Decimal(e14) / BAHT_E14).quantize(Decimal("0.01"), ROUND_HALF_UP)
    assert Decimal(EN.total(e14).replace(",", "")) == exact


@given(st.integers(-(10**30), 10**30))
def test_an_exact_cost_loses_no_digit(e14: int) -> None:
    with localcontext() as context:
        context.prec = 60
        assert Decimal(EN.exact(e14).replace(",", "")) * BAHT_E14 == e14


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (EN.hours(3600 * 1234 + 1800), "1,234.50"),
        (EN.hours(17), "0.00"),
        (EN.hours(18), "0.01"),
        (EN.gib_hours(3_686_400), "1.00"),
        (EN.quantity(1_953_125), "1.953125"),
        (EN.quantity(500_000), "0.5"),
        (EN.quantity(-3_500_000), "-3.5"),
        (EN.price(500_000_000), "5.00"),
        (EN.price(1_234_567), "0.01234567"),
        (EN.minor(123456, "THB"), "1,234.56"),
        (EN.minor(123456, "JPY"), "123,456"),
        (EN.text_money("26324.18", 2), "26,324.18"),
        (EN.text_price("0.00012500", 2), "0.000125"),
        (EN.text_quantity("1284.513889"), "1,284.513889"),
        (EN.percent("7"), "7 %"),
        (EN.percent_e8(750_000_000), "7.5 %"),
        (EN.count(1_234_567), "1,234,567"),
    ],
)
def test_figures(text: str, written: str) -> None:
    assert text == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (EN.moment(1_795_199_468), "21 Nov 2026 01:31:08"),
        (TH.moment(1_795_199_468), "21 พ.ย. 2569 01:31:08"),
        (EN.moment(0), "–"),
        (EN.iso(1_795_199_468), "2026-11-21T01:31:08+07:00"),
        (EN.iso(0), ""),
        (EN.day("2026-11-02"), "2 Nov 2026"),
        (TH.day("2026-11-02"), "2 พ.ย. 2569"),
        (EN.day(""), "–"),
        (EN.month(202610), "October 2026"),
        (TH.month(202610), "ตุลาคม 2569"),
        (EN.month(0), "–"),
        (EN.local("2026-10-31T23:59:30"), "31 Oct 2026 23:59"),
        (EN.local(""), "–"),
        (EN.short_moment(1_795_199_468), "21 Nov 01:31"),
        (EN.duration(0), "00:00:00"),
        (EN.duration(93_784), "1-02:03:04"),
        (EN.duration(-1), "–"),
    ],
)
def test_times(text: str, written: str) -> None:
    assert text == written


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, (0, "s")), (59, (59, "s")), (60, (1, "min")), (3_600, (1, "h")), (172_800, (2, "d")),
     (-5, (0, "s"))],
)  # fmt: skip
def test_a_length_of_time_in_its_largest_unit(seconds: int, said: tuple[int, str]) -> None:
    assert EN.ago(seconds) == said


@pytest.mark.parametrize(
    ("size", "written"),
    [(0, "0 B"), (1023, "1,023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (10**12, "931.3 GiB")],
)
def test_sizes(size: int, written: str) -> None:
    assert EN.size(size) == written


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain | text\n", "plain | text\n"),
        ("ไทย ✓ é".encode(), "ไทย ✓ é"),
        (b"\x00\x1b[31m\r", "\\u0000\\u001b[31m\\u000d"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("\u202egnp.exe".encode(), "\\u202egnp.exe"),
        ("\u2066\ufeff\U0001f600".encode(), "\\u2066\\ufeff\\u1f600"),
    ],
)
def test_raw_records_hide_nothing(raw: bytes, text: str) -> None:
    assert visible(raw) == text


@given(st.binary(max_size=200))
def test_any_bytes_become_text_without_controls(raw: bytes) -> None:
    assert all(c in "\n\t" or (c.isprintable() or c in "\u00a0\u3000") or ord(c) > 0x7F
               for c in visible(raw))  # fmt: skip


# ----------------------------------------------------------------------- bars


@given(st.lists(st.integers(0, 10**20), min_size=1, max_size=31))
def test_bars_stay_on_their_ground_in_order_and_in_proportion(values: list[int]) -> None:
    bars = charts.columns(values, [str(value) for value in values])
    assert [bar.label for bar in bars] == [str(value) for value in values]
    for bar, value in zip(bars, values, strict=True):
        assert bar.y + bar.height == charts.HEIGHT
        assert 0 <= bar.x <= bar.x + bar.width <= charts.WIDTH
        assert (bar.height == 0) == (value == 0)
    assert all(one.x + one.width <= next_.x for one, next_ in pairwise(bars))
    assert max(bar.height for bar in bars) == (charts.HEIGHT if any(values) else 0)


def test_no_values_no_bars() -> None:
    assert charts.columns([], []) == []
    assert charts.share(5, 0) == 0
