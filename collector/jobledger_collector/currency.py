"""How many decimals a currency has: ISO 4217, by the package that keeps it.

Not by CLDR, which differs from ISO for a dozen currencies (LAK, IQD, ...).
"""

from functools import lru_cache
from typing import Final

import iso4217

from jobledger_collector.core.errors import ConfigInvalid

PLACES_WITHOUT_CURRENCY: Final = 2
"""Decimals that costs show before the first rate card: there are only zeros."""


@lru_cache(maxsize=64)
def exponent_of(currency: str) -> int:
    """Decimals of a currency by its ISO 4217 code: THB 2, JPY 0, KWD 3.

    Raises ConfigInvalid for a code that is none, or that has no minor unit
    (gold, testing codes).
    """
    try:
        exponent = iso4217.Currency(currency).exponent
    except ValueError:
        exponent = None
    if exponent is None:
        raise ConfigInvalid(
            f'"{currency}" is not a currency of ISO 4217: give the rate card one such as THB or EUR'
        )
    return int(exponent)


def shown_places(currency: str) -> int:
    """Decimals that an exact cost shows at least; ``currency`` "" before the first card."""
    return exponent_of(currency) if currency else PLACES_WITHOUT_CURRENCY
