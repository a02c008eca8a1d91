"""The rate book: all card versions in order, and which is in force when."""

import itertools
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

from jobledger_collector.core.card import NO_END, RateCard
from jobledger_collector.core.charge import Price

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
    flags: tuple[str, ...]


class PlanKey(NamedTuple):
    """What makes runs alike for pricing: all that a card can look at."""

    stretch: int
    cluster: str
    user: str
    project: str
    billing_account: str
    tier: str
    partition: str
    qos: str
    reservation: str
    tres: tuple[tuple[str, int], ...]


class RateBook:
    """Card versions by the instant from which each is in force.

    Each version ends where the next begins, so there is no gap and no overlap
    after the first one's start. Immutable once built.
    """

    __slots__ = ("_cuts", "_starts", "cards", "currency", "plans", "timezone")

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
        self._cuts = sorted(_cuts(self.cards))
        self.currency = currency or (self.cards[0].currency if self.cards else "")
        self.timezone = timezone
        self.plans: dict[PlanKey, Plan] = {}
        """What ``pricing`` resolved before; only a memory, never an input."""

    def at(self, epoch_s: int) -> RateCard | None:
        """Return the version in force at an instant, None before the first."""
        index = bisect_right(self._starts, epoch_s)
        return self.cards[index - 1] if index else None

    def remember(self, key: PlanKey, plan: Plan) -> None:
        """Keep a plan for the next run alike."""
        if len(self.plans) >= MAX_PLANS:
            self.plans.clear()
        self.plans[key] = plan

    def earliest(self) -> RateCard | None:
        """Return the first version of all, None when there is no card."""
        return self.cards[0] if self.cards else None

    def stretch(self, epoch_s: int) -> int:
        """Number the stretches of time between cuts: in one, prices do not change."""
        return bisect_right(self._cuts, epoch_s)

    def cuts_within(self, start: int, end: int) -> list[int]:
        """Return the instants strictly inside a span at which a price may change."""
        return self._cuts[bisect_right(self._cuts, start) : bisect_right(self._cuts, end - 1)]


def _cuts(cards: Iterable[RateCard]) -> set[int]:
    """Starts of versions, and of agreements and their ends, which also change prices."""
    instants = set()
    for card in cards:
        instants.add(card.effective_from)
        for override in card.overrides:
            instants.update((override.from_s, override.until_s))
    return instants - {0, NO_END}


NO_RATES: Final = RateBook(())
