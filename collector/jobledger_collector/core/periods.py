"""Billing periods: calendar months in the books' time zone, written yyyymm.

A run belongs to the period in which it ended.
"""

import datetime as dt
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

OPEN: Final = 0
"""Period of a run that has not ended."""
DAY_S: Final = 86_400
CACHED_DAYS: Final = 4_096
MONTHS: Final = 12
MIN_PERIOD: Final = 1970_01
MAX_PERIOD: Final = 9999_12


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """Return the time zone; raises ValueError, in words, when there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f'"{name}" is not a time zone; write one such as "Asia/Bangkok"'
        raise ValueError(message) from error


def period_of(epoch_s: int, timezone: str) -> int:
    """Return the period (yyyymm) that an instant falls in; OPEN for 0."""
    if epoch_s <= 0:
        return OPEN
    return _period_of_day(epoch_s // DAY_S, timezone) or _month(epoch_s, timezone)


@lru_cache(maxsize=CACHED_DAYS)
def _period_of_day(day: int, timezone: str) -> int:
    """Period of a whole UTC day, 0 when the month changes within it."""
    first = _month(day * DAY_S, timezone)
    return first if first == _month((day + 1) * DAY_S - 1, timezone) else 0


def _month(epoch_s: int, timezone: str) -> int:
    local = dt.datetime.fromtimestamp(epoch_s, zone(timezone))
    return local.year * 100 + local.month


def period_bounds(period: int, timezone: str) -> tuple[int, int]:
    """Return a period's first instant and the first after it, in epoch seconds."""
    return _first_instant(period, timezone), _first_instant(next_period(period), timezone)


def _first_instant(period: int, timezone: str) -> int:
    year, month = divmod(period, 100)
    return int(dt.datetime(year, month, 1, tzinfo=zone(timezone)).timestamp())


def next_period(period: int) -> int:
    """Return the period after this one."""
    year, month = divmod(period, 100)
    return (year + 1) * 100 + 1 if month == MONTHS else period + 1


def previous_period(period: int) -> int:
    """Return the period before this one."""
    year, month = divmod(period, 100)
    return (year - 1) * 100 + MONTHS if month == 1 else period - 1


def parse_period(text: str) -> int:
    """Read "2026-10" as 202610; raises ValueError, in words."""
    year, dash, month = text.partition("-")
    valid = dash and len(year) == 4 and len(month) == 2 and text.isascii()  # noqa: PLR2004
    period = int(year + month) if valid and (year + month).isdigit() else 0
    if MIN_PERIOD <= period < MAX_PERIOD and 1 <= period % 100 <= MONTHS:
        return period
    message = f'"{text}" is not a month; write it as YYYY-MM, for example 2026-10'
    raise ValueError(message)


def format_period(period: int) -> str:
    """Write 202610 as "2026-10"; OPEN is ""."""
    return f"{period // 100:04d}-{period % 100:02d}" if period else ""
