"""An amount of money in words, as a cheque or an invoice states it.

Integers in, text out: ``num2words`` spells whole numbers only, so no float is
ever made of an amount.
"""

from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from num2words import num2words

Language = Literal["en", "th"]
"""The languages that a document is drawn in."""

MINOR_MAX: Final = 2**63 - 1
"""Largest amount in minor units, either sign: what the store can hold."""
EXPONENT_MAX: Final = 4
"""Most decimals that ISO 4217 gives a currency."""


class Coins(NamedTuple):
    """The names of a currency's major and minor unit, in both languages."""

    one: str
    many: str
    cent: str
    cents: str
    thai: str
    thai_cent: str


COINS: Final = MappingProxyType(
    {
        "THB": Coins("baht", "baht", "satang", "satang", "บาท", "สตางค์"),
        "USD": Coins("US dollar", "US dollars", "cent", "cents", "ดอลลาร์สหรัฐ", "เซนต์"),
        "EUR": Coins("euro", "euros", "cent", "cents", "ยูโร", "เซนต์"),
        "GBP": Coins("pound sterling", "pounds sterling", "penny", "pence", "ปอนด์สเตอร์ลิง", "เพนนี"),
        "CHF": Coins("Swiss franc", "Swiss francs", "centime", "centimes", "ฟรังก์สวิส", "ซองตีม"),
        "AUD": Coins(
            "Australian dollar", "Australian dollars", "cent", "cents", "ดอลลาร์ออสเตรเลีย", "เซนต์"
        ),
        "SGD": Coins(
            "Singapore dollar", "Singapore dollars", "cent", "cents", "ดอลลาร์สิงคโปร์", "เซนต์"
        ),
        "JPY": Coins("yen", "yen", "", "", "เยน", ""),
        "KWD": Coins("Kuwaiti dinar", "Kuwaiti dinars", "fils", "fils", "ดีนาร์คูเวต", "ฟิลส์"),
    }
)
"""Currencies whose coins have names here; any other is spelt with its code."""


def amount_in_words(minor: int, currency: str, exponent: int, language: Language) -> str:
    """Spell ``minor`` units of ``currency``, which has ``exponent`` decimals.

    205440 THB: "two thousand fifty-four baht and forty satang",
    "สองพันห้าสิบสี่บาทสี่สิบสตางค์". A whole amount is closed with "only" or
    "ถ้วน" so that nothing can be added behind it. A currency not in COINS
    reads "two thousand fifty-four and 40/100 NOK".

    Raises ValueError when the amount or the exponent is out of bounds.
    """
    if not 0 <= exponent <= EXPONENT_MAX or abs(minor) > MINOR_MAX:
        text = f"{minor} with {exponent} decimals is not an amount of money that can be spelt"
        raise ValueError(text)
    whole, rest = divmod(abs(minor), 10**exponent)
    spell = _thai if language == "th" else _english
    return spell(whole, rest, currency, exponent, negative=minor < 0)


def _english(whole: int, rest: int, currency: str, exponent: int, *, negative: bool) -> str:
    """One amount in English: no "and" inside a number, one before the coins."""
    sign = "minus " if negative else ""
    coins = COINS.get(currency)
    if coins is None or (rest and not coins.cent):
        share = f" and {rest:0{exponent}d}/{10**exponent}" if exponent else ""
        return f"{sign}{_cardinal(whole)}{share} {currency}"
    major = f"{_cardinal(whole)} {coins.one if whole == 1 else coins.many}"
    if rest == 0:
        return f"{sign}{major} only"
    minor = f"{_cardinal(rest)} {coins.cent if rest == 1 else coins.cents}"
    return f"{sign}{minor} only" if whole == 0 else f"{sign}{major} and {minor}"


def _thai(whole: int, rest: int, currency: str, exponent: int, *, negative: bool) -> str:
    """One amount in Thai, where words are not spaced; no "zero baht" before satang."""
    sign = "ลบ" if negative else ""
    coins = COINS.get(currency)
    if coins is None or (rest and not coins.cent):
        share = f" กับ {rest:0{exponent}d}/{10**exponent}" if exponent else ""
        return f"{sign}{_thai_cardinal(whole)}{share} {currency}"
    if rest == 0:
        return f"{sign}{_thai_cardinal(whole)}{coins.thai}ถ้วน"
    major = f"{_thai_cardinal(whole)}{coins.thai}" if whole else ""
    return f"{sign}{major}{_thai_cardinal(rest)}{coins.thai_cent}"


def _cardinal(number: int) -> str:
    """A whole number in English words without commas and without "and"."""
    return str(num2words(number, lang="en")).replace(",", "").replace(" and ", " ")


def _thai_cardinal(number: int) -> str:
    """A whole number in Thai words."""
    return str(num2words(number, lang="th"))
