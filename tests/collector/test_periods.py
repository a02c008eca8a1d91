"""Periods: months in the books' time zone, whatever UTC and the clocks say."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_collector.core.periods import (
    format_period,
    next_period,
    parse_period,
    period_bounds,
    period_of,
    previous_period,
    zone,
)

ZONES = ["UTC", "Asia/Bangkok", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]


def epoch(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("instant", "timezone", "period"),
    [
        ("2026-09-30T16:59:59+00:00", "Asia/Bangkok", 2026_09),
        ("2026-09-30T17:00:00+00:00", "Asia/Bangkok", 2026_10),
        ("2026-09-30T17:00:00+00:00", "UTC", 2026_09),
        ("2026-12-31T23:59:59-05:00", "America/New_York", 2026_12),
        ("2027-01-01T00:00:00-05:00", "America/New_York", 2027_01),
        ("2026-02-28T18:30:00+00:00", "Asia/Kolkata", 2026_03),  # half-hour zone
    ],
)
def test_a_run_belongs_to_the_local_month_of_its_end(
    instant: str, timezone: str, period: int
) -> None:
    assert period_of(epoch(instant), timezone) == period


def test_a_run_that_has_not_ended_belongs_to_no_period() -> None:
    assert period_of(0, "Asia/Bangkok") == 0


def test_a_month_with_a_change_of_clocks_has_an_hour_less() -> None:
    start, end = period_bounds(2026_03, "America/New_York")
    assert end - start == 31 * 86_400 - 3_600


@given(st.integers(1, 4_000_000_000), st.sampled_from(ZONES))
def test_bounds_hold_what_they_bound(instant: int, timezone: str) -> None:
    period = period_of(instant, timezone)
    start, end = period_bounds(period, timezone)
    assert start <= instant < end
    local = dt.datetime.fromtimestamp(instant, ZoneInfo(timezone))
    assert period == local.year * 100 + local.month


@given(st.integers(1971, 2200), st.integers(1, 12), st.sampled_from(ZONES))
def test_periods_follow_each_other_without_gap(year: int, month: int, timezone: str) -> None:
    period = year * 100 + month
    assert previous_period(next_period(period)) == period
    assert period_bounds(period, timezone)[1] == period_bounds(next_period(period), timezone)[0]
    assert parse_period(format_period(period)) == period


@pytest.mark.parametrize(
    "text",
    [
        "2026",
        "2026-13",
        "2026-00",
        "26-10",
        "2026-1",
        "2026/10",
        "1969-12",
        "\uff12\uff10\uff12\uff16-10",
        "",
    ],
)
def test_what_is_no_month_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="2026-10"):
        parse_period(text)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "Asia"])
def test_what_is_no_time_zone_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(ValueError, match="Asia/Bangkok"):
        zone(name)
