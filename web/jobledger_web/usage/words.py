"""One run in words: sentences a person can check, from the stored figures alone."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from flask_babel import gettext, ngettext

from jobledger_collector.core.card import METER_UNITS, MeterName
from jobledger_collector.core.explain import OwedCharge
from jobledger_collector.core.record import Flag
from jobledger_collector.store.run_views import RevisionRow
from jobledger_web.formats import Formats

UNKNOWN: Final = -1
NOT_SHOWN: Final = frozenset({"digest", "observed", "revision", "period"})
"""Columns of a revision that say nothing to a person."""
TIMES: Final = frozenset({"submit", "eligible", "start", "end"})


class Change(NamedTuple):
    """One field that a revision changed, as text."""

    field: str
    before: str
    after: str


class Revision(NamedTuple):
    """One earlier revision, and what the next one changed in it."""

    number: int
    replaced_at: int
    changes: list[Change]


def sentences(run: Mapping[str, Any], fmt: Formats) -> list[str]:
    """The run's life: when, how long, on what, for whom."""
    return [*_times(run, fmt), *_resources(run), *_flags(run)]


def _times(run: Mapping[str, Any], fmt: Formats) -> Iterator[str]:
    submitted = fmt.moment(run["submit"])
    if not run["start"]:
        never = gettext("Submitted %(at)s; it never started, so it used nothing.", at=submitted)
        not_yet = gettext("Submitted %(at)s; it has not started.", at=submitted)
        yield never if run["end"] else not_yet
        return
    began = max(run["start"], run["submit"])
    yield gettext(
        "Submitted %(submit)s, started %(start)s after waiting %(wait)s.",
        submit=submitted,
        start=fmt.moment(began),
        wait=fmt.duration(began - run["submit"]),
    )
    if not run["end"]:
        yield gettext("It has not ended; it is charged when it ends.")
        return
    yield gettext(
        "Ended %(end)s: %(wall)s by the clock.",
        end=fmt.moment(run["end"]),
        wall=fmt.duration(run["end"] - began),
    )
    if run["suspended_s"]:
        yield gettext(
            "It was suspended for %(suspended)s, which leaves %(active)s of use.",
            suspended=fmt.duration(run["suspended_s"]),
            active=fmt.duration(run["elapsed_s"]),
        )


def _resources(run: Mapping[str, Any]) -> Iterator[str]:
    if run["alloc_tres"]:
        yield gettext("It held %(tres)s.", tres=tres_text(run["alloc_tres"]))
    if run["billing_account"] and run["billing_account"] != run["account"]:
        yield gettext(
            "It ran under the Slurm account %(account)s, which %(payer)s pays for.",
            account=run["account"] or "–",
            payer=run["billing_account"],
        )


def flag_sentences() -> dict[str, str]:
    """What each flag of a run means to a person."""
    return {
        Flag.NO_PRICE: gettext(
            "Part of it matches no price: that part is on no invoice until a rate card covers it."
        ),
        Flag.NO_CARD: gettext("There is no rate card yet; loading one prices it."),
        Flag.UNKNOWN_TIER: gettext("The payer’s tier is not one of the rate card’s tiers."),
        Flag.UNKNOWN_STATE: gettext(
            "Slurm ended it in a state that is not known here; it is charged by its times."
        ),
        Flag.MERGED_RUN: gettext(
            "Slurm merged several runs into this record; the times of all are added."
        ),
        Flag.HELD_CHANGE: gettext(
            "A later record with a smaller allocation is held in the quarantine."
        ),
        Flag.ATTRIBUTION_KEPT: gettext(
            "Slurm names another user or account since it ended; the first stands."
        ),
        Flag.OPEN_AFTER_END: gettext("It was seen running later than its end."),
        Flag.NO_MEMORY: gettext("Slurm named no memory for it, so no memory is charged."),
        Flag.SUSPENDED_TOO_LONG: gettext("Slurm counts it suspended for longer than it lasted."),
    }


def _flags(run: Mapping[str, Any]) -> Iterator[str]:
    known = flag_sentences()
    for flag in run["flags"].split(","):
        if flag:
            yield known.get(flag, flag)


def tres_text(canonical: str) -> str:
    """``cpu=2,gres/gpu:a100=1,mem=4000`` as a person says it."""
    parts = canonical.split(",")
    if any(part.startswith("gres/gpu:") for part in parts):
        parts = [part for part in parts if not part.startswith("gres/gpu=")]  # their sum
    return ", ".join(_resource(part) for part in parts)


def _resource(part: str) -> str:
    name, _, count = part.partition("=")
    number = int(count) if count.isdecimal() else 0
    match name:
        case "cpu":
            return ngettext("%(num)s core", "%(num)s cores", number)
        case "node":
            return ngettext("%(num)s node", "%(num)s nodes", number)
        case "mem":
            return gettext("%(count)s MiB of memory", count=f"{number:,}")
        case "billing":
            return ngettext("%(num)s billing unit", "%(num)s billing units", number)
        case "gres/gpu":
            return ngettext("%(num)s GPU", "%(num)s GPUs", number)
    if name.startswith("gres/gpu:"):
        kind = name.removeprefix("gres/gpu:")
        return ngettext(
            "%(num)s GPU of type %(kind)s", "%(num)s GPUs of type %(kind)s", number, kind=kind
        )
    return f"{name} {count}"


def arithmetic(charge: OwedCharge, fmt: Formats) -> str:
    """One charge as the sum that anybody can check with a pocket calculator."""
    meter = METER_UNITS[MeterName(charge.item.partition(":")[0])]
    figures = {
        "base": fmt.count(charge.base_units),
        "base_unit": meter.base_unit,
        "per": fmt.count(meter.base_per_unit),
        "quantity": fmt.quantity(charge.quantity_micro),
        "unit": meter.unit,
    }
    if not charge.sku:
        return gettext(
            "%(base)s %(base_unit)s ÷ %(per)s = %(quantity)s %(unit)s: no price matches, so it is"
            " not charged.",
            **figures,
        )
    return gettext(
        "%(base)s %(base_unit)s ÷ %(per)s = %(quantity)s %(unit)s × %(price)s = %(cost)s"
        " %(currency)s",
        **figures,
        price=fmt.price(charge.unit_e8),
        cost=fmt.exact(charge.quantity_micro * charge.unit_e8),
        currency=charge.currency,
    )


def history(run: Mapping[str, Any], earlier: list[RevisionRow], fmt: Formats) -> list[Revision]:
    """What each revision changed, newest first; ``earlier`` is newest first too."""
    found = []
    after: Mapping[str, Any] = run
    for row in earlier:
        before = _record(row.record)
        found.append(Revision(row.revision, row.replaced_at, _changes(before, after, fmt)))
        after = before
    return found


def _record(text: str) -> dict[str, Any]:
    record = json.loads(text)
    return record if isinstance(record, dict) else {}


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], fmt: Formats) -> list[Change]:
    return [
        Change(field, _shown(field, before[field], fmt), _shown(field, after[field], fmt))
        for field in before
        if field in after and field not in NOT_SHOWN and str(before[field]) != str(after[field])
    ]


def _shown(field: str, value: object, fmt: Formats) -> str:
    if field in TIMES and isinstance(value, int):
        return fmt.moment(value)
    return "–" if value in {"", UNKNOWN, None} else str(value)
