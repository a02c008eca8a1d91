"""A rate card: one immutable version of what everything costs, and for whom.

Prices are 10^-8 of the currency's major unit per unit of the meter. The types
here are trusted: ``card_schema.parse_card`` is the only way in from a document.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple


class MeterName(StrEnum):
    """What can be sold: the resources that Slurm counts for a run."""

    CPU = "cpu"
    GPU = "gpu"
    MEM = "mem"
    NODE = "node"
    ENERGY = "energy"
    BILLING = "billing"


class MeterUnit(NamedTuple):
    """The unit that a meter is sold in and how it is counted."""

    unit: str
    base_unit: str
    base_per_unit: int


METER_UNITS: Final[Mapping[MeterName, MeterUnit]] = {
    MeterName.CPU: MeterUnit("Core-Hours", "core-seconds", 3_600),
    MeterName.GPU: MeterUnit("GPU-Hours", "GPU-seconds", 3_600),
    MeterName.MEM: MeterUnit("GiB-Hours", "MiB-seconds", 3_600 * 1_024),
    MeterName.NODE: MeterUnit("Node-Hours", "node-seconds", 3_600),
    MeterName.ENERGY: MeterUnit("kWh", "joules", 3_600_000),
    MeterName.BILLING: MeterUnit("Billing-Hours", "billing-seconds", 3_600),
}


class MatchKey(StrEnum):
    """What a SKU may ask of a run."""

    CLUSTER = "cluster"
    PARTITION = "partition"
    QOS = "qos"
    RESERVATION = "reservation"
    GPU_TYPE = "gpu_type"


Match = Mapping[MatchKey, frozenset[str]]
"""A run matches when it has, for each key, one of the values; {} is any run."""
Circumstances = Mapping[MatchKey, str]
"""What a run was: a value for each MatchKey."""


class Text2(NamedTuple):
    """A text in English and in Thai."""

    en: str
    th: str


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter that the card sells; free or charged while a run is suspended."""

    name: MeterName
    charged_while_suspended: bool


@dataclass(frozen=True, slots=True)
class Sku:
    """One thing for sale: which runs it is for, its list price, a price by tier."""

    id: str
    meter: MeterName
    match: Match
    list_e8: int
    price_e8: Mapping[str, int]
    name: Text2

    def matches(self, run: Circumstances) -> bool:
        """Tell whether this SKU is for such a run."""
        return all(run[key] in values for key, values in self.match.items())


class Scope(StrEnum):
    """Whom an override is for, the narrowest first: that one wins."""

    USER = "user"
    PROJECT = "project"
    ACCOUNT = "account"


class FixedPrice(NamedTuple):
    """The override is a price of its own."""

    unit_e8: int


class Factor(NamedTuple):
    """The override multiplies the tier's price by factor_e8 / 10^8."""

    factor_e8: int


class OtherTier(NamedTuple):
    """The override gives the price of another tier."""

    tier: str


ANY_SKU: Final = "*"
NO_END: Final = 1 << 62
"""``until_s`` of an override without an end."""


@dataclass(frozen=True, slots=True)
class Override:
    """A price by agreement: for one user, project or account, from one instant to another.

    ``sku`` may be ANY_SKU. Holds for service in [from_s, until_s), epoch seconds.
    """

    id: str
    scope: Scope
    who: str
    sku: str
    terms: FixedPrice | Factor | OtherTier
    from_s: int
    until_s: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tax:
    """The tax line of documents: its label, and 10^-8 percent by tier."""

    label: Text2
    rate_percent_e8: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RateCard:
    """One version of a card, in force from ``effective_from`` until the next one's.

    ``effective_from`` is in epoch seconds. ``skus`` are by meter, the most
    specific match first, so that the first one that matches a run prices it.
    """

    card: str
    version: int
    sha256: str
    effective_from: int
    currency: str
    timezone: str
    tiers: tuple[str, ...]
    default_tier: str
    tax: Tax
    meters: Mapping[MeterName, Meter]
    skus: Mapping[MeterName, tuple[Sku, ...]]
    overrides: tuple[Override, ...]

    @property
    def label(self) -> str:
        """The card's name and version, for people."""
        return f"{self.card} v{self.version}"

    def sku_for(self, meter: MeterName, run: Circumstances) -> Sku | None:
        """Return the SKU that prices such a run on this meter, None when none matches."""
        return next((sku for sku in self.skus[meter] if sku.matches(run)), None)

    def tier_of(self, tier: str) -> str:
        """Return the tier to price by: the given one, or the default for ""."""
        return tier or self.default_tier

    def sku_named(self, sku_id: str) -> Sku | None:
        """Return the SKU of this id, None when the card has none."""
        return next((sku for skus in self.skus.values() for sku in skus if sku.id == sku_id), None)
