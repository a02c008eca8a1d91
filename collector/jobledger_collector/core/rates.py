"""The rate book: all card versions in order, and which is in force when."""

import itertools
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

from jobledger_collector.core.card import NO_END, MatchKey, RateCard, Scope
from jobledger_collector.core.charge import Price
from jobledger_collector.core.record import Flag

UNNAMED: Final = "\0"
"""Stands for every name that no card mentions: no name of Slurm's holds it, and
"" is a name, of runs without a QOS or reservation."""
MAX_PLANS = 100_000
"""Plans remembered by one book; beyond it the memory starts anew."""


class PlannedItem(NamedTuple):
    """One item that a kind of run owes: so many base units a second, at this price.

    ``held`` is in the meter's base unit (cores, GPUs, MiB ...); 1 for energy,
    which Slurm counts itself. ``price`` is None when no SKU matches.
    """

    item: str
    held: int
    base_per_unit: int
    charged_while_suspended: bool
    price: Price | None


class Plan(NamedTuple):
    """How runs that are alike are priced at one time.

    ``flags`` say why an item has no price.
    """

    items: tuple[PlannedItem, ...]
    energy: PlannedItem | None
    flags: tuple[Flag, ...]


class PlanKey(NamedTuple):
    """What makes runs alike for pricing: all that the cards look at.

    A name that no card mentions is UNNAMED here, so that a thousand users without
    an agreement are one.
    """

    stretch: int
    cluster: str
    partition: str
    qos: str
    reservation: str
    user: str
    project: str
    billing_account: str
    tier: str
    tres: tuple[tuple[str, int], ...]


class Mentioned(NamedTuple):
    """The names that any card mentions, by what they name."""

    clusters: frozenset[str]
    partitions: frozenset[str]
    qos: frozenset[str]
    reservations: frozenset[str]
    users: frozenset[str]
    projects: frozenset[str]
    accounts: frozenset[str]


class RateBook:
    """Card versions by the instant from which each is in force.

    Each version ends where the next begins, so there is no gap and no overlap
    after the first one's start. Immutable once built.
    """

    __slots__ = (
        "_prices",
        "_starts",
        "cards",
        "currency",
        "cuts",
        "mentioned",
        "plans",
        "timezone",
    )

    def __init__(
        self, cards: Iterable[RateCard], currency: str = "", timezone: str = "UTC"
    ) -> None:
        """Order the cards; raises ValueError when two start at one instant.

        ``currency`` and ``timezone`` are the books', which the first card set.
        """
        self.cards = tuple(sorted(cards, key=lambda card: card.effective_from))
        self._starts = [card.effective_from for card in self.cards]
        for earlier, later in itertools.pairwise(self.cards):
            if earlier.effective_from == later.effective_from:
                message = f"{earlier.label} and {later.label} take effect at the same instant"
                raise ValueError(message)
        self.cuts = sorted(_cuts(self.cards))
        self.mentioned = _mentioned(self.cards)
        self.currency = currency or (self.cards[0].currency if self.cards else "")
        self.timezone = timezone
        self.plans: dict[tuple[object, ...], Plan] = {}
        """What ``pricing`` resolved before; only a memory, never an input."""
        self._prices: dict[Price, Price] = {}

    def at(self, epoch_s: int) -> RateCard | None:
        """Return the version in force at an instant, None before the first."""
        index = bisect_right(self._starts, epoch_s)
        return self.cards[index - 1] if index else None

    def shared(self, price: Price) -> Price:
        """Return the one object that stands for all prices equal to this one."""
        return self._prices.setdefault(price, price)

    def remember(self, key: PlanKey, plan: Plan) -> None:
        """Keep a plan for the next run alike."""
        if len(self.plans) >= MAX_PLANS:
            self.plans.clear()
        self.plans[key] = plan

    def earliest(self) -> RateCard | None:
        """Return the first version of all, None when there is no card."""
        return self.cards[0] if self.cards else None

    def cuts_within(self, start: int, end: int) -> list[int]:
        """Return the instants strictly inside a span at which a price may change."""
        return self.cuts[bisect_right(self.cuts, start) : bisect_right(self.cuts, end - 1)]


def _cuts(cards: Iterable[RateCard]) -> set[int]:
    """Starts of versions, and of agreements and their ends, which also change prices."""
    instants = set()
    for card in cards:
        instants.add(card.effective_from)
        for override in card.overrides:
            instants.update((override.from_s, override.until_s))
    return instants - {0, NO_END}


def _mentioned(cards: Iterable[RateCard]) -> Mentioned:
    matched: dict[MatchKey, set[str]] = {key: set() for key in MatchKey}
    agreed: dict[Scope, set[str]] = {scope: set() for scope in Scope}
    for card in cards:
        for sku in itertools.chain.from_iterable(card.skus.values()):
            for key, values in sku.match.items():
                matched[key] |= values
        for override in card.overrides:
            agreed[override.scope].add(override.who)
    return Mentioned(
        clusters=frozenset(matched[MatchKey.CLUSTER]),
        partitions=frozenset(matched[MatchKey.PARTITION]),
        qos=frozenset(matched[MatchKey.QOS]),
        reservations=frozenset(matched[MatchKey.RESERVATION]),
        users=frozenset(agreed[Scope.USER]),
        projects=frozenset(agreed[Scope.PROJECT]),
        accounts=frozenset(agreed[Scope.ACCOUNT]),
    )


NO_RATES: Final = RateBook(())
