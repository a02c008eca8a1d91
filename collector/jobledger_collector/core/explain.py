"""The arithmetic of one run in words: from Slurm's times to what it costs.

Nothing is computed anew that is stored: the words tell what the charges say,
so that an explanation and an invoice can never differ.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from jobledger_collector.core.card import METER_UNITS, MeterName
from jobledger_collector.core.money import (
    format_cost,
    format_price,
    format_quantity,
)
from jobledger_collector.core.periods import format_period, zone
from jobledger_collector.core.pricing import gpu_kinds
from jobledger_collector.core.record import Flag, Tres

SHOWN_SHA_CHARACTERS: Final = 12

FLAG_SENTENCES: Final[Mapping[str, str]] = {
    Flag.NO_PRICE: "Part of it has no price, so that part is on no invoice until a card prices it.",
    Flag.NO_CARD: "There is no rate card yet; loading one prices it.",
    Flag.UNKNOWN_TIER: "The account's tier is not one of the rate card's tiers.",
    Flag.UNKNOWN_STATE: "Slurm ended it in a state that Jobledger does not know;"
    " it is charged by its times.",
    Flag.MERGED_RUN: "Slurm merged several runs into this record; the times of all are added.",
    Flag.HELD_CHANGE: "A later record with a smaller allocation is held in the quarantine.",
    Flag.ATTRIBUTION_KEPT: "Slurm names another user or account since it ended; the first stands.",
    Flag.OPEN_AFTER_END: "It was seen running later than its end.",
    Flag.NO_MEMORY: "Slurm named no memory for it, so no memory is charged.",
    Flag.SUSPENDED_TOO_LONG: "Slurm counts it suspended for longer than it lasted.",
}


class RunFacts(NamedTuple):
    """What is stored of one run. Times in epoch seconds, 0 unknown; usage in base units."""

    cluster: str
    job_id: int
    submit: int
    revision: int
    state: str
    start: int
    end: int
    suspended_s: int
    elapsed_s: int
    alloc_tres: Tres
    energy_j: int
    user: str
    account: str
    billing_account: str
    partition: str
    qos: str
    reservation: str
    period: int
    flags: tuple[str, ...]


class OwedCharge(NamedTuple):
    """One stored charge with its price; ``sku`` "" when it has none.

    ``kind`` is 1, or -1 for a reversal; ``superseded_by`` is 0 while it stands;
    ``invoice`` is the number of the invoice it is on, "" for none.
    """

    item: str
    segment: int
    segment_start: int
    kind: int
    superseded_by: int
    base_units: int
    quantity_micro: int
    invoice: str
    card: str
    card_version: int
    card_sha256: str
    sku: str
    unit: str
    tier: str
    rule: str
    currency: str
    list_e8: int
    unit_e8: int


class ExplainedCharge(NamedTuple):
    """A charge and its arithmetic as one sentence; ``stands`` unless it was replaced."""

    charge: OwedCharge
    stands: bool
    sentence: str


class AccountPath(NamedTuple):
    """The accounts above a run, topmost first, and its user, as of a time (epoch seconds).

    ``is_late``: the tree was first seen only then, after the run had ended.
    """

    names: tuple[str, ...]
    as_of: int
    is_late: bool


NO_PATH: Final = AccountPath((), 0, is_late=False)
"""Nothing is known of the cluster's accounts."""


class Explanation(NamedTuple):
    """A run explained; costs in 10^-14 of the currency's major unit, what stands only."""

    run: RunFacts
    title: str
    sentences: tuple[str, ...]
    charges: tuple[ExplainedCharge, ...]
    notes: tuple[str, ...]
    list_e14: int
    cost_e14: int
    currency: str
    path: AccountPath


def explain(
    run: RunFacts, charges: Sequence[OwedCharge], timezone: str, path: AccountPath = NO_PATH
) -> Explanation:
    """Explain a run by its stored charges, with times in the books' time zone."""
    standing = [charge for charge in charges if _stands(charge)]
    cut = any(charge.segment for charge in charges)
    explained = [_explained(run, charge, timezone, cut=cut) for charge in charges]
    priced = [charge for charge in standing if charge.sku]
    currency = next((charge.currency for charge in priced), "")
    list_e14 = sum(charge.quantity_micro * charge.list_e8 for charge in priced)
    cost_e14 = sum(charge.quantity_micro * charge.unit_e8 for charge in priced)
    return Explanation(
        run=run,
        title=f"{run.cluster}/{run.job_id}, submitted {local_time(run.submit, timezone)}"
        f" ({timezone}), revision {run.revision}",
        sentences=(
            _who(run),
            _under(path, timezone),
            _when(run, timezone),
            _held(run),
            _outcome(run, priced, currency, (list_e14, cost_e14)),
        ),
        charges=tuple(explained),
        notes=tuple(FLAG_SENTENCES.get(flag, flag) for flag in run.flags),
        list_e14=list_e14,
        cost_e14=cost_e14,
        currency=currency,
        path=path,
    )


def as_text(explanation: Explanation) -> str:
    """Return an explanation as lines for a person."""
    lines = [explanation.title, *(f"  {said}" for said in explanation.sentences if said)]
    standing = [charge for charge in explanation.charges if charge.stands]
    lines += [f"  {n}. {charge.sentence}" for n, charge in enumerate(standing, start=1)]
    replaced = [charge for charge in explanation.charges if not charge.stands]
    if replaced:
        lines.append("  Charges that were replaced since, with the reversals of invoiced ones:")
    lines += [f"  - {charge.sentence}" for charge in replaced]
    lines += [f"  Note: {note}" for note in explanation.notes]
    return "\n".join(lines)


def as_json(explanation: Explanation) -> dict[str, object]:
    """Return an explanation as plain values: decimals as text, times in epoch seconds."""
    run = explanation.run
    return {
        **run._asdict(),
        "alloc_tres": dict(run.alloc_tres),
        "flags": list(run.flags),
        "period": format_period(run.period),
        "sentences": [said for said in explanation.sentences if said],
        "notes": list(explanation.notes),
        "charges": [_charge_json(explained) for explained in explanation.charges],
        "list_cost": format_cost(explanation.list_e14),
        "cost": format_cost(explanation.cost_e14),
        "currency": explanation.currency,
        "account_path": list(explanation.path.names),
        "account_path_as_of": explanation.path.as_of,
    }


def local_time(epoch_s: int, timezone: str) -> str:
    """Write an instant as local date and time to the second."""
    return dt.datetime.fromtimestamp(epoch_s, zone(timezone)).strftime("%Y-%m-%d %H:%M:%S")


def _stands(charge: OwedCharge) -> bool:
    return charge.superseded_by == 0


def _under(path: AccountPath, timezone: str) -> str:
    if not path.names:
        return ""
    when = local_time(path.as_of, timezone)
    how = f"first seen {when}, later" if path.is_late else f"as it was at {when}"
    return f"In the account tree: {' > '.join(path.names)} ({how})."


def _who(run: RunFacts) -> str:
    where = [f"partition {run.partition}", f"QOS {run.qos}", f"reservation {run.reservation}"]
    named = [text for text in where if not text.endswith(" ")]
    return (
        f"Run of user {run.user or '(unknown)'} under the Slurm account"
        f" {run.account or '(none)'}, paid by the billing account {run.billing_account};"
        f" {', '.join([*named, f'state {run.state}'])}."
    )


def _when(run: RunFacts, timezone: str) -> str:
    if not run.start:
        return "It never started." if run.end else "It has not started."
    start = max(run.start, run.submit)
    since = f"It started {local_time(start, timezone)}"
    if run.start < run.submit:
        since += " (its submit time: the seconds before belong to the record before a resize)"
    if not run.end:
        return f"{since} and had not ended when last seen."
    wall_s = run.end - start
    times = f"{since} and ended {local_time(run.end, timezone)}: {wall_s} s"
    if run.suspended_s:
        times += (
            f", less {run.suspended_s} s suspended, leaves {max(0, wall_s - run.suspended_s)} s"
        )
    if Flag.MERGED_RUN in run.flags:
        times += f"; with the runs that Slurm merged into this record, {run.elapsed_s} s"
    return times + f". It belongs to {format_period(run.period)}."


def _held(run: RunFacts) -> str:
    held = ", ".join(f"{name}={count}" for name, count in run.alloc_tres)
    energy = f"; energy {run.energy_j} J" if run.energy_j > 0 else ""
    return f"It held {held} (memory in MiB){energy}." if held and run.start else ""


def _outcome(
    run: RunFacts, priced: Sequence[OwedCharge], currency: str, costs: tuple[int, int]
) -> str:
    if not run.end:
        return "Nothing is owed until it has ended."
    if not run.elapsed_s and not priced:
        return "It used nothing, so nothing is owed."
    if not priced:
        return "Nothing that it used has a price, so nothing is owed."
    list_cost, cost = (format_cost(value) for value in costs)
    return f"It costs {cost} {currency} (at list prices {list_cost} {currency}), exactly:"


def _explained(run: RunFacts, charge: OwedCharge, timezone: str, *, cut: bool) -> ExplainedCharge:
    meter = METER_UNITS[MeterName(charge.item.partition(":")[0])]
    base = f"{_factors(run, charge)}{charge.base_units} {meter.base_unit}"
    quantity = (
        f"{base} ÷ {meter.base_per_unit} = {format_quantity(charge.quantity_micro)} {meter.unit}"
    )
    from_when = ""
    if cut:
        from_when = f" (from {local_time(charge.segment_start, timezone)})"
    sentence = f"{charge.item}{from_when}: {quantity}{_priced(charge)}{_fate(charge)}."
    return ExplainedCharge(charge, _stands(charge), sentence)


def _factors(run: RunFacts, charge: OwedCharge) -> str:
    """Return "2 × 3600 s = " where the base units are just that, else ""."""
    held = dict(run.alloc_tres)
    meter, _, kind = charge.item.partition(":")
    count = dict(gpu_kinds(run.alloc_tres)).get(kind, 0) if meter == "gpu" else held.get(meter, 0)
    wall_s = run.end - max(run.start, run.submit)
    for seconds in (max(0, wall_s - run.suspended_s), wall_s):
        if count and count * seconds == charge.base_units:
            return f"{count} × {seconds} s = "
    return ""


def _priced(charge: OwedCharge) -> str:
    if not charge.sku:
        return ", which has no price"
    cost = format_cost(charge.quantity_micro * charge.unit_e8)
    list_cost = format_cost(charge.quantity_micro * charge.list_e8)
    return (
        f" × {format_price(charge.unit_e8)} {charge.currency} = {cost} {charge.currency}"
        f" (list price {format_price(charge.list_e8)}: {list_cost});"
        f" SKU {charge.sku} of {charge.card} v{charge.card_version}"
        f" [{charge.card_sha256[:SHOWN_SHA_CHARACTERS]}], {charge.rule}"
    )


def _fate(charge: OwedCharge) -> str:
    fate = f"; on invoice {charge.invoice}" if charge.invoice else "; not yet invoiced"
    if charge.kind < 0:
        return f"; reversal of an invoiced charge{fate}"
    if charge.superseded_by:
        return f"; replaced by change {charge.superseded_by}" + (fate if charge.invoice else "")
    return fate


def _charge_json(explained: ExplainedCharge) -> dict[str, object]:
    charge = explained.charge
    return {
        **charge._asdict(),
        "quantity": format_quantity(charge.quantity_micro),
        "list_price": format_price(charge.list_e8) if charge.sku else None,
        "price": format_price(charge.unit_e8) if charge.sku else None,
        "list_cost": format_cost(charge.quantity_micro * charge.list_e8),
        "cost": format_cost(charge.quantity_micro * charge.unit_e8),
        "stands": explained.stands,
        "sentence": explained.sentence,
    }
