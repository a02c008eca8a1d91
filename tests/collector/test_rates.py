"""The rate book: which version is in force when."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_collector.core.rates import NO_RATES, RateBook
from tests.collector.cards import a_card, an_override

FIRST, SECOND, THIRD = 1_000_000, 2_000_000, 3_000_000


def a_book() -> RateBook:
    cards = [a_card(version=n, effective_from=at) for n, at in enumerate((FIRST, SECOND, THIRD), 1)]
    return RateBook(reversed(cards))


@pytest.mark.parametrize(
    ("instant", "version"),
    [(FIRST - 1, None), (FIRST, 1), (SECOND - 1, 1), (SECOND, 2), (THIRD, 3), (10**12, 3)],
)
def test_a_version_holds_until_the_next_one(instant: int, version: int | None) -> None:
    card = a_book().at(instant)
    assert (card.version if card else None) == version


def test_two_versions_cannot_start_at_one_instant() -> None:
    with pytest.raises(ValueError, match="same instant"):
        RateBook([a_card(version=1), a_card(version=2)])


def test_an_empty_book_knows_nothing() -> None:
    assert NO_RATES.at(FIRST) is None
    assert NO_RATES.cuts_within(0, 10**12) == []


@pytest.mark.parametrize(
    ("start", "end", "cuts"),
    [
        (FIRST, SECOND, []),  # the end is not within
        (FIRST, SECOND + 1, [SECOND]),
        (SECOND, THIRD, []),  # nor is the start
        (0, 10**9, [FIRST, SECOND, THIRD]),
    ],
)
def test_prices_change_where_versions_do(start: int, end: int, cuts: list[int]) -> None:
    assert a_book().cuts_within(start, end) == cuts


def test_prices_change_where_agreements_begin_and_end() -> None:
    agreed = an_override(from_s=1_500_000, until_s=1_600_000)
    book = RateBook([replace(a_card(effective_from=FIRST), overrides=(agreed,))])
    assert book.cuts_within(FIRST, THIRD) == [1_500_000, 1_600_000]


@given(
    st.lists(st.integers(1, 10**10), unique=True, min_size=1, max_size=8), st.integers(0, 10**10)
)
def test_the_version_in_force_is_the_latest_that_began(starts: list[int], instant: int) -> None:
    book = RateBook([a_card(version=n, effective_from=at) for n, at in enumerate(starts, 1)])
    card = book.at(instant)
    begun = [at for at in starts if at <= instant]
    assert (card.effective_from if card else None) == max(begun, default=None)
