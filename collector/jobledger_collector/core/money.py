"""Money and the roundings that are allowed: integers in, integers out.

Two roundings exist. HALF_UP (away from zero, so that a credit is the mirror of
its charge) makes an invoice line out of an exact cost, once. HALF_EVEN makes a
quantity out of base units. Nothing else rounds.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from jobledger_collector.core.charge import COST_SCALE, MICRO, PRICE_SCALE

QUANTITY_PLACES: Final = 6
PRICE_PLACES: Final = 8
COST_PLACES: Final = 14
MAX_DECIMAL_CHARACTERS: Final = 32
"""Longest decimal that is read: beyond any price, short of mischief."""


class Money(NamedTuple):
    """An amount in the currency's minor unit (satang, cents) and ISO 4217 code."""

    minor: int
    currency: str


def total(amounts: Iterable[Money], currency: str) -> Money:
    """Add amounts of one currency; raises ValueError when another one is among them."""
    minor = 0
    for amount in amounts:
        if amount.currency != currency:
            message = f"cannot add {amount.currency} to {currency}: the books keep one currency"
            raise ValueError(message)
        minor += amount.minor
    return Money(minor, currency)


def divide_half_up(numerator: int, denominator: int) -> int:
    """Divide and round to the nearest integer, halves away from zero.

    ``denominator`` must be positive. divide_half_up(-n, d) is always
    -divide_half_up(n, d).
    """
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return magnitude if numerator >= 0 else -magnitude


def divide_half_even(numerator: int, denominator: int) -> int:
    """Divide and round to the nearest integer, halves to the even one.

    ``denominator`` must be positive.
    """
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def quantity_micro(base_units: int, base_per_unit: int) -> int:
    """Convert base units (core-seconds) to millionths of the billed unit (core-hours)."""
    return divide_half_even(base_units * MICRO, base_per_unit)


def cost_to_minor(cost_e14: int, exponent: int) -> int:
    """Round an exact cost (10^-14 of the major unit) to minor units, HALF_UP.

    ``exponent`` is the currency's number of decimals by ISO 4217 (THB 2, JPY 0).
    """
    return divide_half_up(cost_e14 * 10**exponent, COST_SCALE)


def minor_to_cost(minor: int, exponent: int) -> int:
    """Convert minor units to 10^-14 of the major unit, exactly."""
    return minor * (COST_SCALE // int(10**exponent))


def tax_on(net_minor: int, rate_percent_e8: int) -> int:
    """Tax on a net amount, in minor units, HALF_UP; the rate in 10^-8 percent."""
    return divide_half_up(net_minor * rate_percent_e8, 100 * PRICE_SCALE)


def tax_within(gross_minor: int, rate_percent_e8: int) -> int:
    """Tax contained in a gross amount, in minor units, HALF_UP; the rate in 10^-8 percent."""
    return divide_half_up(gross_minor * rate_percent_e8, 100 * PRICE_SCALE + rate_percent_e8)


def split(amount: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Share an amount by largest remainder: the parts always add up to it.

    Sign-safe; ties go to the lowest index; weight 0 gets 0, unless all weights
    are 0, which means equal shares. Raises ValueError for no or negative weights.
    """
    if not weights or min(weights) < 0:
        message = "an amount can only be split by one or more weights that are not negative"
        raise ValueError(message)
    shares = tuple(weights) if any(weights) else (1,) * len(weights)
    whole = sum(shares)
    magnitude = abs(amount)
    parts = [magnitude * share // whole for share in shares]
    by_remainder = sorted(
        (index for index, share in enumerate(shares) if share),
        key=lambda index: (-(magnitude * shares[index] % whole), index),
    )
    for index in by_remainder[: magnitude - sum(parts)]:
        parts[index] += 1
    return tuple(parts) if amount >= 0 else tuple(-part for part in parts)


def parse_decimal(text: str, scale: int) -> int:
    """Read a plain decimal ("0.50") as an integer of 1/scale; scale is a power of ten.

    Raises ValueError, in words, for an exponent, a thousands separator, spaces,
    or more decimals than the scale holds.
    """
    digits = text.removeprefix("-")
    whole, point, fraction = digits.partition(".")
    places = len(str(scale)) - 1
    valid = (
        len(text) <= MAX_DECIMAL_CHARACTERS
        and whole.isascii()
        and whole.isdigit()
        and (not point or (fraction.isascii() and fraction.isdigit()))
    )
    if not valid:
        message = f'"{text}" is not a plain decimal number such as "0.50"'
        raise ValueError(message)
    if len(fraction) > places:
        message = f'"{text}" has more than {places} decimals'
        raise ValueError(message)
    magnitude = int(whole) * scale + int(fraction.ljust(places, "0") or "0")
    return -magnitude if text.startswith("-") else magnitude


def format_decimal(value: int, scale: int, min_places: int = 0) -> str:
    """Write an integer of 1/scale as a plain decimal, exactly.

    Trailing zeros go, down to ``min_places`` decimals; never an exponent.
    """
    places = len(str(scale)) - 1
    whole, fraction = divmod(abs(value), scale)
    decimals = str(fraction).rjust(places, "0").rstrip("0") if places and fraction else ""
    decimals = decimals.ljust(min_places, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def format_price(price_e8: int, min_places: int = 0) -> str:
    """Write a price of 10^-8 major units as a decimal."""
    return format_decimal(price_e8, PRICE_SCALE, min_places)


def format_quantity(micro: int) -> str:
    """Write a quantity of millionths with all its 6 decimals."""
    return format_decimal(micro, MICRO, QUANTITY_PLACES)


def format_cost(cost_e14: int, min_places: int = 0) -> str:
    """Write an exact cost of 10^-14 major units as a decimal."""
    return format_decimal(cost_e14, COST_SCALE, min_places)


def format_minor(minor: int, exponent: int) -> str:
    """Write minor units as a decimal with the currency's own number of decimals."""
    return format_decimal(minor, 10**exponent, exponent)
