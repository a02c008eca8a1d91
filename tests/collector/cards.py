"""Cards, runs and agreements for tests of rates and pricing."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from jobledger_collector.core.card import NO_END, Factor, Override, RateCard, Scope
from jobledger_collector.core.record import JobRecord, Rejected, Tres, Usage
from jobledger_collector.core.usage import measure
from jobledger_collector.store.cards import read_card

RATES: Final = Path(__file__).parents[2] / "packaging" / "rates"
MAHIDOL: Final = read_card((RATES / "mahidol.yaml").read_text("utf-8"), "mahidol.yaml")
EXTENDED: Final = read_card((RATES / "extended.yaml").read_text("utf-8"), "extended.yaml")
EPOCH: Final = 1_000_000
PLAIN: Final[Tres] = (("cpu", 2), ("mem", 4096), ("node", 1))


def a_card(card: RateCard = MAHIDOL, **over: Any) -> RateCard:  # noqa: ANN401 - any field
    """The sample card, in force from EPOCH unless said otherwise."""
    return replace(card, **{"effective_from": EPOCH, **over})


def an_override(**over: Any) -> Override:  # noqa: ANN401 - any field
    """An agreement of half price for everything that user alice runs."""
    half: dict[str, Any] = {
        "id": "half", "scope": Scope.USER, "who": "alice", "sku": "*",
        "terms": Factor(50_000_000), "from_s": 0, "until_s": NO_END, "reason": "agreed",
    }  # fmt: skip
    return Override(**{**half, **over})


def a_run(**over: Any) -> JobRecord:  # noqa: ANN401 - any field
    """An hour of alice's on two cores, ended; any field can be said otherwise."""
    empty = {name: "" if kind is str else 0 for name, kind in JobRecord.__annotations__.items()}
    usual = {
        "cluster": "alpha", "job_id": 1, "submit": 2_000_000, "start": 2_000_000,
        "end": 2_003_600, "state": "COMPLETED", "alloc_tres": PLAIN, "req_tres": (),
        "user": "alice", "account": "phys", "partition": "cpu", "qos": "normal", "energy_j": -1,
    }  # fmt: skip
    return JobRecord(**{**empty, **usual, **over})


def used_by(run: JobRecord) -> Usage:
    """What a run used; the run must be one that can be measured."""
    usage = measure(run)
    if isinstance(usage, Rejected):
        raise TypeError(usage.reason)
    return usage
