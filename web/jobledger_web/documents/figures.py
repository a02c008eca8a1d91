"""Numbers and dates as they are printed: digits in groups, Thai dates in the Buddhist era.

Amounts come as decimal strings and stay text or integers; no float is made.
"""

import datetime as dt
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from jobledger_web.documents.words import EXPONENT_MAX, Language

MINUS: Final = "−"  # as wide as a digit, so that columns stay in line
BUDDHIST_ERA_YEARS: Final = 543
"""Years that the Buddhist era is ahead of the common era."""

DIGITS_MAX: Final = 30
"""Digits of one printed number: the store's 19 and the decimals with room."""

_DECIMAL: Final = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")
_MONTHS_EN: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August",
    "September", "October", "November", "December",
)  # fmt: skip
_MONTHS_TH: Final = (
    "มกราคม", "กุมภาพันธ์", "มีนาคม", "เมษายน", "พฤษภาคม", "มิถุนายน", "กรกฎาคม", "สิงหาคม",
    "กันยายน", "ตุลาคม", "พฤศจิกายน", "ธันวาคม",
)  # fmt: skip


def minor_of(text: str, exponent: int) -> int:
    """An amount's decimal string as an integer in minor units: ("2054.40", 2) is 205440.

    Raises ValueError when it is no decimal or has more than ``exponent`` places.
    """
    sign, whole, decimals = _parts(text)
    if not 0 <= exponent <= EXPONENT_MAX or len(decimals) > exponent:
        raise ValueError(f"{text!r} has more than {exponent} decimals")
    minor = int(whole + decimals.ljust(exponent, "0"))
    return -minor if sign else minor


def grouped(text: str, decimals_min: int) -> str:
    """A decimal string with thousands in groups and at least ``decimals_min`` places.

    "-1284.513889" becomes "−1,284.513889"; zeros that say nothing go. Raises
    ValueError when it is no decimal.
    """
    sign, whole, decimals = _parts(text)
    shown = decimals.rstrip("0").ljust(decimals_min, "0")
    return f"{MINUS if sign else ''}{int(whole):,}{'.' if shown else ''}{shown}"


class Figure(NamedTuple):
    """A number of a column: what is printed, and what is left blank behind it.

    ``room`` is as wide as the decimals that other rows have and this one lacks,
    so that the points of a column stand below each other.
    """

    text: str
    room: str


def figure(text: str, least: int, most: int) -> Figure:
    """A decimal string for a column of ``most`` places, with ``least`` of them printed."""
    shown = grouped(text, least)
    full = grouped(text, most)
    return Figure(shown, full[len(shown) :])


def places(texts: Iterable[str], least: int) -> int:
    """The decimals that a column needs so that none of its figures loses one.

    At least ``least``; zeros at the end of all of them do not count.
    """
    return max([least, *(len(_parts(text)[2].rstrip("0")) for text in texts)])


def long_date(text: str, language: Language) -> str:
    """An ISO date in words: "2 November 2026", "2 พฤศจิกายน พ.ศ. 2569".

    Raises ValueError when it is no ISO date.
    """
    day = dt.date.fromisoformat(text)
    if language == "th":
        return f"{day.day} {_MONTHS_TH[day.month - 1]} พ.ศ. {day.year + BUDDHIST_ERA_YEARS}"
    return f"{day.day} {_MONTHS_EN[day.month - 1]} {day.year}"


def date_range(first: str, last: str, language: Language) -> str:
    """Two ISO dates as a span; within one month as "1–31 October 2026"."""
    if first[:7] == last[:7]:
        return f"{dt.date.fromisoformat(first).day}–{long_date(last, language)}"
    return f"{long_date(first, language)} – {long_date(last, language)}"


def short_time(text: str, language: Language) -> str:
    """A local ISO time to the minute: "2026-10-30 23:41", "30/10/2569 23:41"."""
    moment = dt.datetime.fromisoformat(text)
    if language == "th":
        return f"{moment:%d/%m/}{moment.year + BUDDHIST_ERA_YEARS}{moment: %H:%M}"
    return f"{moment:%Y-%m-%d %H:%M}"


def _parts(text: str) -> tuple[str, str, str]:
    """Sign, whole digits and decimals of a decimal string."""
    match = _DECIMAL.fullmatch(text)
    if match is None or len(text) > DIGITS_MAX:
        raise ValueError(f"{text[:DIGITS_MAX]!r} is not a decimal number")
    return match[1], match[2], match[3] or ""
