"""Figures, money and times as a person reads them, in their language.

Input is exact (integers in base units, decimal strings); the only rounding is
to the digits that are shown, half up, and it never leaves the page.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Final
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_datetime, get_month_names
from babel.numbers import format_decimal, get_currency_symbol

from jobledger_collector.core.charge import COST_SCALE, PRICE_SCALE
from jobledger_collector.currency import exponent_of

BUDDHIST_ERA_YEARS: Final = 543
"""Thai documents count years of the Buddhist era."""
HOUR_S: Final = 3_600
MIB_PER_GIB: Final = 1_024
KIB: Final = 1_024
DECIMAL_DIGITS: Final = 60
"""Working precision: far more than any sum of 64-bit figures needs."""
JOB_COST_EXTRA_DIGITS: Final = 2
"""A job may cost less than the smallest coin: so many more digits are shown."""
DASH: Final = "–"


@dataclass(frozen=True, slots=True)
class Formats:
    """How one page writes things: its language and the books' time zone and currency."""

    locale: Locale
    zone: ZoneInfo
    currency: str

    # ---------------------------------------------------------------- numbers
    def count(self, value: int) -> str:
        """A whole number with its thousands grouped."""
        return str(format_decimal(value, format="#,##0", locale=self.locale))

    def decimal(self, value: Decimal, least: int = 0, most: int = 2) -> str:
        """A decimal with ``least`` to ``most`` places."""
        pattern = "#,##0" + ("." if most else "") + "0" * least + "#" * (most - least)
        with localcontext() as context:
            context.prec = DECIMAL_DIGITS
            rounded = value.quantize(Decimal(1).scaleb(-most), ROUND_HALF_UP)
            return str(
                format_decimal(
                    rounded, format=pattern, locale=self.locale, decimal_quantization=False
                )
            )

    def per(self, base_units: int, per_unit: int, places: int = 2) -> str:
        """``base_units`` in units of ``per_unit`` (core-seconds in core-hours: 3600)."""
        with localcontext() as context:
            context.prec = DECIMAL_DIGITS
            return self.decimal(Decimal(base_units) / Decimal(per_unit), places, places)

    def hours(self, seconds: int) -> str:
        """Resource-seconds in resource-hours."""
        return self.per(seconds, HOUR_S)

    def gib_hours(self, mib_s: int) -> str:
        """MiB-seconds in GiB-hours."""
        return self.per(mib_s, HOUR_S * MIB_PER_GIB)

    def quantity(self, quantity_micro: int) -> str:
        """A charged quantity, exactly, in its unit."""
        return self.decimal(Decimal(quantity_micro).scaleb(-6), 0, 6)

    def text_quantity(self, text: str) -> str:
        """A decimal string of a document, exactly as many places as it has."""
        return self.decimal(Decimal(text), 0, 8)

    def percent(self, text: str) -> str:
        """A percentage given as a decimal string."""
        return f"{self.decimal(Decimal(text), 0, 4)} %"

    def percent_e8(self, e8: int) -> str:
        """A percentage given in 10^-8 percent."""
        return f"{self.decimal(_scaled(e8, PRICE_SCALE), 0, 4)} %"

    # ------------------------------------------------------------------ money
    def places(self, currency: str = "") -> int:
        """Digits after the point that ``currency`` has."""
        code = currency or self.currency
        return exponent_of(code) if code else 2

    def symbol(self, currency: str = "") -> str:
        """The sign of ``currency``, or its code where there is none."""
        code = currency or self.currency
        return str(get_currency_symbol(code, locale=self.locale)) if code else ""

    def total(self, e14: int) -> str:
        """An exact sum in 10^-14, rounded to the currency's digits."""
        return self._money(Decimal(e14) / COST_SCALE, self.places())

    def cost(self, e14: int) -> str:
        """An exact cost in 10^-14, with digits below the smallest coin."""
        return self._money(Decimal(e14) / COST_SCALE, self.places() + JOB_COST_EXTRA_DIGITS)

    def exact(self, e14: int) -> str:
        """An exact cost in 10^-14, every digit of it."""
        least = self.places()
        return self.decimal(_scaled(e14, COST_SCALE), least, 14)

    def price(self, e8: int) -> str:
        """A price in 10^-8, every digit of it."""
        return self.decimal(_scaled(e8, PRICE_SCALE), self.places(), 8)

    def minor(self, minor: int, currency: str) -> str:
        """An amount in the currency's minor unit."""
        places = self.places(currency)
        return self._money(Decimal(minor).scaleb(-places), places)

    def text_money(self, text: str, exponent: int) -> str:
        """An amount of a document, given as a decimal string."""
        return self._money(Decimal(text), exponent)

    def text_price(self, text: str, exponent: int) -> str:
        """A price of a document or card: at least ``exponent`` digits."""
        return self.decimal(Decimal(text), exponent, 8)

    def _money(self, value: Decimal, places: int) -> str:
        return self.decimal(value, places, places)

    # ------------------------------------------------------------------ times
    def moment(self, epoch_s: int) -> str:
        """A point in time in the books' zone, to the second; a dash if unknown."""
        if not epoch_s:
            return DASH
        local = datetime.fromtimestamp(epoch_s, UTC).astimezone(self.zone)
        clock = format_datetime(local, "HH:mm:ss", locale=self.locale)
        return f"{self.day(local.date())} {clock}"

    def local(self, text: str) -> str:
        """A local ISO time of a document, which is in its own zone already; to the minute."""
        if not text:
            return DASH
        when = datetime.fromisoformat(text)
        return f"{self.day(when.date())} {format_datetime(when, 'HH:mm', locale=self.locale)}"

    def short_moment(self, epoch_s: int) -> str:
        """A point in time in the books' zone, to the minute and without its year."""
        if not epoch_s:
            return DASH
        local = datetime.fromtimestamp(epoch_s, UTC).astimezone(self.zone)
        return str(format_datetime(local, "d MMM HH:mm", locale=self.locale))

    def iso(self, epoch_s: int) -> str:
        """A point in time for machines: ISO 8601 with the books' offset."""
        if not epoch_s:
            return ""
        return datetime.fromtimestamp(epoch_s, UTC).astimezone(self.zone).isoformat()

    def day(self, value: date | str) -> str:
        """A date, or an ISO text of one."""
        if isinstance(value, str):
            if not value:
                return DASH
            value = date.fromisoformat(value)
        text = format_date(value, "d MMM", locale=self.locale)
        return f"{text} {self.year(value.year)}"

    def year(self, year: int) -> str:
        """A year of the common era as the language counts it."""
        return str(year + BUDDHIST_ERA_YEARS if self.locale.language == "th" else year)

    def month(self, period: int) -> str:
        """A period yyyymm by the month's name; a dash for 0, which is none."""
        if not period:
            return DASH
        year, month = divmod(period, 100)
        name = get_month_names("wide", context="stand-alone", locale=self.locale)[month]
        return f"{name} {self.year(year)}"

    def duration(self, seconds: int) -> str:
        """A length of time as Slurm writes it: ``1-02:03:04``; a dash if negative."""
        if seconds < 0:
            return DASH
        days, rest = divmod(seconds, 24 * HOUR_S)
        hours, rest = divmod(rest, HOUR_S)
        minutes, left = divmod(rest, 60)
        return (f"{days}-" if days else "") + f"{hours:02}:{minutes:02}:{left:02}"

    def ago(self, seconds: int) -> tuple[int, str]:
        """A length of time in its largest whole unit: the number, and s, min, h or d."""
        for unit, length in (("d", 24 * HOUR_S), ("h", HOUR_S), ("min", 60)):
            if seconds >= length:
                return seconds // length, unit
        return max(0, seconds), "s"

    # ------------------------------------------------------------------ bytes
    def size(self, size_bytes: int) -> str:
        """A size in bytes, KiB, MiB or GiB."""
        if size_bytes < KIB:
            return f"{self.count(size_bytes)} B"
        value, unit = Decimal(size_bytes), "B"
        for larger in ("KiB", "MiB", "GiB", "TiB"):
            if value < KIB:
                break
            value, unit = value / KIB, larger
        return f"{self.decimal(value, 0, 1)} {unit}"


def _scaled(value: int, scale: int) -> Decimal:
    with localcontext() as context:
        context.prec = DECIMAL_DIGITS
        return Decimal(value) / Decimal(scale)


_PRINTABLE = re.compile(r"[^\n\t\x20-\x7e\u00a0-\u200d\u2010-\u2027\u2030-\u2064\u2070-\ud7ff]")


def visible(raw: bytes) -> str:
    """Bytes as text in which nothing hides: what does not print is written as its escape."""
    text = raw.decode("utf-8", "backslashreplace")
    return _PRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
