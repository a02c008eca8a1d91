"""An amount in words says the amount: tables of cases, and readers that read it back."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import num2words

from jobledger_web.documents.words import COINS, MINOR_MAX, amount_in_words

BAHT = [
    (0, "zero baht only", "ศูนย์บาทถ้วน"),
    (1, "one satang only", "หนึ่งสตางค์"),
    (10, "ten satang only", "สิบสตางค์"),
    (11, "eleven satang only", "สิบเอ็ดสตางค์"),
    (21, "twenty-one satang only", "ยี่สิบเอ็ดสตางค์"),
    (50, "fifty satang only", "ห้าสิบสตางค์"),
    (99, "ninety-nine satang only", "เก้าสิบเก้าสตางค์"),
    (100, "one baht only", "หนึ่งบาทถ้วน"),
    (101, "one baht and one satang", "หนึ่งบาทหนึ่งสตางค์"),
    (110, "one baht and ten satang", "หนึ่งบาทสิบสตางค์"),
    (200, "two baht only", "สองบาทถ้วน"),
    (1000, "ten baht only", "สิบบาทถ้วน"),
    (1100, "eleven baht only", "สิบเอ็ดบาทถ้วน"),
    (1121, "eleven baht and twenty-one satang", "สิบเอ็ดบาทยี่สิบเอ็ดสตางค์"),
    (2000, "twenty baht only", "ยี่สิบบาทถ้วน"),
    (2100, "twenty-one baht only", "ยี่สิบเอ็ดบาทถ้วน"),
    (2125, "twenty-one baht and twenty-five satang", "ยี่สิบเอ็ดบาทยี่สิบห้าสตางค์"),
    (10000, "one hundred baht only", "หนึ่งร้อยบาทถ้วน"),
    (10100, "one hundred one baht only", "หนึ่งร้อยเอ็ดบาทถ้วน"),
    (11111, "one hundred eleven baht and eleven satang", "หนึ่งร้อยสิบเอ็ดบาทสิบเอ็ดสตางค์"),
    (53500, "five hundred thirty-five baht only", "ห้าร้อยสามสิบห้าบาทถ้วน"),
    (100001, "one thousand baht and one satang", "หนึ่งพันบาทหนึ่งสตางค์"),
    (205440, "two thousand fifty-four baht and forty satang", "สองพันห้าสิบสี่บาทสี่สิบสตางค์"),
    (1000000, "ten thousand baht only", "หนึ่งหมื่นบาทถ้วน"),
    (10000000, "one hundred thousand baht only", "หนึ่งแสนบาทถ้วน"),
    (100000000, "one million baht only", "หนึ่งล้านบาทถ้วน"),
    (100000100, "one million one baht only", "หนึ่งล้านเอ็ดบาทถ้วน"),
    (1100001100, "eleven million eleven baht only", "สิบเอ็ดล้านสิบเอ็ดบาทถ้วน"),
    (
        123456789,
        (
            "one million two hundred thirty-four thousand five hundred sixty-seven baht"
            " and eighty-nine satang"
        ),
        "หนึ่งล้านสองแสนสามหมื่นสี่พันห้าร้อยหกสิบเจ็ดบาทแปดสิบเก้าสตางค์",
    ),
    (2000000000, "twenty million baht only", "ยี่สิบล้านบาทถ้วน"),
    (100000000000, "one billion baht only", "หนึ่งพันล้านบาทถ้วน"),
    (
        100000000001,
        "one billion baht and one satang",
        "หนึ่งพันล้านบาทหนึ่งสตางค์",
    ),
    (100000000000000, "one trillion baht only", "หนึ่งล้านล้านบาทถ้วน"),
    (-205440, "minus two thousand fifty-four baht and forty satang", "ลบสองพันห้าสิบสี่บาทสี่สิบสตางค์"),
    (-1, "minus one satang only", "ลบหนึ่งสตางค์"),
]

OTHERS = [
    (205440, "USD", 2, "two thousand fifty-four US dollars and forty cents"),
    (100, "USD", 2, "one US dollar only"),
    (1, "USD", 2, "one cent only"),
    (101, "GBP", 2, "one pound sterling and one penny"),
    (202, "GBP", 2, "two pounds sterling and two pence"),
    (2054, "JPY", 0, "two thousand fifty-four yen only"),
    (1, "JPY", 0, "one yen only"),
    (1235, "KWD", 3, "one Kuwaiti dinar and two hundred thirty-five fils"),
    (205440, "NOK", 2, "two thousand fifty-four and 40/100 NOK"),
    (200000, "NOK", 2, "two thousand and 00/100 NOK"),
    (2054, "VND", 0, "two thousand fifty-four VND"),
    (1005, "OMR", 3, "one and 005/1000 OMR"),
    (12345, "UYW", 4, "one and 2345/10000 UYW"),
    (150, "JPY", 2, "one and 50/100 JPY"),
]


@pytest.mark.parametrize(("minor", "english", "thai"), BAHT)
def test_baht(minor: int, english: str, thai: str) -> None:
    assert amount_in_words(minor, "THB", 2, "en") == english
    assert amount_in_words(minor, "THB", 2, "th") == thai


@pytest.mark.parametrize(("minor", "currency", "exponent", "words"), OTHERS)
def test_other_currencies(minor: int, currency: str, exponent: int, words: str) -> None:
    assert amount_in_words(minor, currency, exponent, "en") == words


@pytest.mark.parametrize(
    ("minor", "currency", "exponent", "words"),
    [
        (205440, "USD", 2, "สองพันห้าสิบสี่ดอลลาร์สหรัฐสี่สิบเซนต์"),
        (2054, "JPY", 0, "สองพันห้าสิบสี่เยนถ้วน"),
        (1235, "KWD", 3, "หนึ่งดีนาร์คูเวตสองร้อยสามสิบห้าฟิลส์"),
        (205440, "NOK", 2, "สองพันห้าสิบสี่ กับ 40/100 NOK"),
        (2054, "VND", 0, "สองพันห้าสิบสี่ VND"),
    ],
)
def test_other_currencies_in_thai(minor: int, currency: str, exponent: int, words: str) -> None:
    assert amount_in_words(minor, currency, exponent, "th") == words


@pytest.mark.parametrize(
    ("minor", "exponent"), [(MINOR_MAX + 1, 2), (-MINOR_MAX - 1, 2), (1, -1), (1, 5)]
)
def test_out_of_bounds_is_refused(minor: int, exponent: int) -> None:
    with pytest.raises(ValueError, match="not an amount of money"):
        amount_in_words(minor, "THB", exponent, "en")


@given(st.integers(min_value=0, max_value=MINOR_MAX))
def test_english_words_read_back_as_the_amount(minor: int) -> None:
    assert _read_english(amount_in_words(minor, "THB", 2, "en")) == minor


@given(st.integers(min_value=0, max_value=10**14))
def test_thai_words_are_those_of_the_library_that_spells_decimals(minor: int) -> None:
    decimal = Decimal(minor) / 100
    expected = num2words(decimal, lang="th", to="currency", currency="THB")
    assert amount_in_words(minor, "THB", 2, "th") == expected


@given(st.integers(min_value=0, max_value=99_999_999_999_999))
def test_thai_words_read_back_as_the_amount(minor: int) -> None:
    assert _read_thai(amount_in_words(minor, "THB", 2, "th")) == minor


@given(st.integers(min_value=-MINOR_MAX, max_value=MINOR_MAX), st.sampled_from(sorted(COINS)))
def test_a_negative_amount_is_the_positive_one_with_its_sign(minor: int, currency: str) -> None:
    exponent = {"JPY": 0, "KWD": 3}.get(currency, 2)
    positive = amount_in_words(abs(minor), currency, exponent, "en")
    assert amount_in_words(minor, currency, exponent, "en") == (
        f"minus {positive}" if minor < 0 else positive
    )


SMALL = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13,
    "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
TENS = dict(
    zip(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"],
        range(20, 100, 10),
        strict=True,
    )
)
SCALES = {
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "quadrillion": 10**15,
}


def _read_english(words: str) -> int:
    """The minor units that English words for baht and satang stand for."""
    major, _, minor = words.removesuffix(" only").replace("-", " ").rpartition(" baht")
    return _number(major) * 100 + _number(minor.replace(" and ", "").replace(" satang", ""))


def _number(words: str) -> int:
    """The number that English words stand for."""
    total = group = 0
    for word in words.replace(" satang", "").split():
        if word in SCALES:
            total, group = total + group * SCALES[word], 0
        elif word == "hundred":
            group *= 100
        else:
            group += SMALL.get(word, 0) + TENS.get(word, 0)
    return total + group


THAI_DIGITS = {
    "ศูนย์": 0, "หนึ่ง": 1, "เอ็ด": 1, "สอง": 2, "ยี่": 2, "สาม": 3, "สี่": 4, "ห้า": 5, "หก": 6,
    "เจ็ด": 7, "แปด": 8, "เก้า": 9,
}  # fmt: skip
THAI_PLACES = {"สิบ": 10, "ร้อย": 100, "พัน": 10**3, "หมื่น": 10**4, "แสน": 10**5}


def _read_thai(words: str) -> int:
    """The minor units that Thai words for baht and satang stand for."""
    major, found, minor = words.removesuffix("ถ้วน").rpartition("บาท")
    return _thai_number(major if found else "") * 100 + _thai_number(minor.removesuffix("สตางค์"))


def _thai_number(words: str) -> int:
    """The number that Thai words below a million million stand for."""
    if "ล้าน" in words:
        millions, _, rest = words.partition("ล้าน")
        return _thai_number(millions) * 10**6 + _thai_number(rest)
    total = digit = 0
    while words:
        word = next(w for w in (*THAI_DIGITS, *THAI_PLACES) if words.startswith(w))
        words = words.removeprefix(word)
        if word in THAI_DIGITS:
            digit = THAI_DIGITS[word]
        else:
            total, digit = total + (digit or 1) * THAI_PLACES[word], 0
    return total + digit
