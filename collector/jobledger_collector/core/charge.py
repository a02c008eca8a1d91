"""What a run owes: exact quantities at named prices. Pure, integers only.

A charge's cost is never stored. It is quantity x price, both integers, so any
sum over any rows is exact on every database: sum the quantities of equal
prices, multiply once, round once per invoice line.
"""

from typing import NamedTuple

MICRO = 1_000_000
"""A quantity is held in millionths of its unit (6 decimal places)."""
PRICE_SCALE = 100_000_000
"""A price is held in hundred-millionths of the currency's major unit (8 dp)."""
COST_SCALE = MICRO * PRICE_SCALE
"""quantity_micro x price_e8 is a cost in 10^-14 of the major unit, exactly."""

NO_PRICE = 0
"""``price_id`` of a charge that no SKU matched: flagged, never free."""


class Price(NamedTuple):
    """One price as it was chosen: immutable, interned, and fully explained.

    Units: ``list_e8`` and ``unit_e8`` are 10^-8 of the currency's major unit
    per ``unit`` (for example Core-Hours).
    """

    card: str
    card_version: int
    card_sha256: str
    sku: str
    meter: str
    unit: str
    tier: str
    rule: str
    """Which rule chose it: "tier mu", "override project-x for user alice"."""
    currency: str
    list_e8: int
    unit_e8: int


class Charge(NamedTuple):
    """One metered item of one run over one segment of time.

    ``item`` is the meter, with its kind where it has one ("cpu", "gpu:a100"):
    the database lets each item of each segment of a run be owed once.
    ``base_units`` is in the meter's base unit (core-seconds, MiB-seconds,
    joules ...); ``quantity_micro`` in millionths of the price's unit.
    """

    item: str
    segment: int
    segment_start: int
    base_units: int
    quantity_micro: int
    price: Price | None
