"""From what is owed to the lines of an invoice: every rounding, in one place.

Pure. A line is (SKU, unit price, list price, prior period): its amounts are
rounded once, HALF_UP, from exact sums. The subtotal is the sum of the lines;
tax is rounded once, on the subtotal; the total is their sum. Nothing printed is
ever rounded again, so what is printed adds up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from jobledger_collector.core.card import MeterName
from jobledger_collector.core.document import Kind
from jobledger_collector.core.money import cost_to_minor, minor_to_cost, tax_on

_METERS: Final = {meter.value: index for index, meter in enumerate(MeterName)}


class ChargeSum(NamedTuple):
    """All charges of one price on one document, summed.

    ``quantity_micro`` in millionths of ``unit`` (negative where reversals
    prevail); prices in 10^-8 of the currency's major unit.
    """

    price_id: int
    sku: str
    meter: str
    unit: str
    list_e8: int
    unit_e8: int
    prior_period: bool
    quantity_micro: int


class Line(NamedTuple):
    """One line of a document: ``list_minor - discount_minor = net_minor``.

    ``price_ids`` are all the prices that it sums (equal in SKU and in both
    figures; the card versions or rules that chose them may differ).
    """

    line: int
    price_ids: tuple[int, ...]
    sku: str
    meter: str
    unit: str
    list_e8: int
    unit_e8: int
    prior_period: bool
    quantity_micro: int
    list_minor: int
    discount_minor: int
    net_minor: int


@dataclass(frozen=True, slots=True)
class Bill:
    """The lines of a document and what they come to, in minor units.

    ``subtotal_minor + tax_minor = total_minor``; the subtotal is the sum of the
    lines' nets.
    """

    lines: tuple[Line, ...]
    list_minor: int
    discount_minor: int
    subtotal_minor: int
    tax_minor: int
    total_minor: int


def make_lines(sums: Iterable[ChargeSum], exponent: int) -> tuple[Line, ...]:
    """Lines of a document: this period's first, then those of earlier periods.

    ``exponent`` is the currency's number of decimals. A line at price 0 is kept,
    so that the payer sees what was given; one whose quantity came to 0 (a charge
    and its reversal) has nothing to show and is left out.
    """
    grouped = (list(group) for _, group in groupby(sorted(sums, key=_place), key=_place))
    summed = ((group, sum(one.quantity_micro for one in group)) for group in grouped)
    shown = ((group, quantity) for group, quantity in summed if quantity)
    return tuple(
        _line(number, group, quantity, exponent)
        for number, (group, quantity) in enumerate(shown, 1)
    )


def _place(one: ChargeSum) -> tuple[bool, int, str, str, str, int, int]:
    """Where a sum stands among the lines; equal places make one line."""
    order = _METERS.get(one.meter, len(_METERS))
    return one.prior_period, order, one.meter, one.sku, one.unit, one.unit_e8, one.list_e8


def _line(number: int, group: Sequence[ChargeSum], quantity_micro: int, exponent: int) -> Line:
    first = group[0]
    list_minor = cost_to_minor(quantity_micro * first.list_e8, exponent)
    net_minor = cost_to_minor(quantity_micro * first.unit_e8, exponent)
    return Line(
        line=number,
        price_ids=tuple(sorted({one.price_id for one in group})),
        sku=first.sku,
        meter=first.meter,
        unit=first.unit,
        list_e8=first.list_e8,
        unit_e8=first.unit_e8,
        prior_period=first.prior_period,
        quantity_micro=quantity_micro,
        list_minor=list_minor,
        discount_minor=list_minor - net_minor,
        net_minor=net_minor,
    )


def make_bill(sums: Iterable[ChargeSum], exponent: int, tax_percent_e8: int) -> Bill:
    """The bill for these charges, taxed once on the document.

    ``tax_percent_e8`` is the payer's rate in 10^-8 percent.
    """
    lines = make_lines(sums, exponent)
    subtotal_minor = sum(line.net_minor for line in lines)
    tax_minor = tax_on(subtotal_minor, tax_percent_e8)
    return Bill(
        lines=lines,
        list_minor=sum(line.list_minor for line in lines),
        discount_minor=sum(line.discount_minor for line in lines),
        subtotal_minor=subtotal_minor,
        tax_minor=tax_minor,
        total_minor=subtotal_minor + tax_minor,
    )


def decide(bill: Bill) -> Kind | None:
    """Which document a bill becomes; None when it is carried forward.

    Carried is what comes to less than zero or has nothing to show: it waits for
    the usage of the next period. A total of zero makes a statement.
    """
    if not bill.lines or bill.subtotal_minor < 0:
        return None
    return "invoice" if bill.total_minor else "statement"


def apportion(net_minor: int, costs_e14: Sequence[int], exponent: int) -> list[int]:
    """Share a line's net among the exact costs that it was rounded from.

    Largest remainder: each share is its cost rounded down or up to a minor
    unit, and the shares are the net. Mirrored for a credit; ties go to the
    first. Raises ValueError when the costs do not round to ``net_minor``.
    """
    if cost_to_minor(sum(costs_e14), exponent) != net_minor:
        raise ValueError(f"{len(costs_e14)} costs do not come to {net_minor} minor units")
    sign = -1 if sum(costs_e14) < 0 else 1
    unit_e14 = minor_to_cost(1, exponent)
    shares, remainders = [], []
    for index, cost_e14 in enumerate(costs_e14):
        share, remainder = divmod(sign * cost_e14, unit_e14)
        shares.append(share)
        remainders.append((-remainder, index))
    for _, index in sorted(remainders)[: sign * net_minor - sum(shares)]:
        shares[index] += 1
    return [sign * share for share in shares]
