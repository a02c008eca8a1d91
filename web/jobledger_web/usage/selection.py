"""The query string of the usage page <-> a typed selection of jobs."""

from typing import TYPE_CHECKING, Final, NamedTuple

from flask import abort, request

from jobledger_collector.core.periods import OPEN, parse_period
from jobledger_collector.store.usage_views import Cursor, JobFilter, Sort

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

STATES: Final = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PENDING", "PREEMPTED", "REQUEUED", "RESIZING", "RUNNING", "SUSPENDED", "TIMEOUT",
)  # fmt: skip
"""Slurm's own names for the state of a job."""
ALL_MONTHS: Final = "all"
OPEN_RUNS: Final = "open"
TEXT_FIELDS: Final = ("cluster", "payer", "account", "user", "state")
KNOWN_FIELDS: Final = frozenset({"month", "sort", "order", "at", *TEXT_FIELDS})


class Selection(NamedTuple):
    """Which jobs, in which order, from where."""

    wanted: JobFilter
    sort: Sort
    descending: bool
    at: Cursor | None

    def arguments(self, **changes: str | None) -> dict[str, str]:
        """The query string of this selection with ``changes``, without its place."""
        given: dict[str, str | None] = {
            "month": month_text(self.wanted.period),
            "cluster": self.wanted.cluster,
            "payer": self.wanted.billing_account,
            "account": self.wanted.account,
            "user": self.wanted.user,
            "state": self.wanted.state,
            "sort": None if self.sort is Sort.END else self.sort.value,
            "order": None if self.descending else "up",
            **changes,
        }
        return {name: value for name, value in given.items() if value}


def month_text(period: int | None) -> str:
    """A period as the page writes it: ``2026-10``, ``open`` or ``all``."""
    if period is None:
        return ALL_MONTHS
    if period == OPEN:
        return OPEN_RUNS
    return f"{period // 100:04}-{period % 100:02}"


def read_selection(newest: int | None) -> Selection:
    """The request's selection; ``newest`` is the month shown when none is asked for.

    Answers 400 to what the page never asks for.
    """
    asked = request.args
    if set(asked) - KNOWN_FIELDS:
        abort(400, "The page knows no such field.")
    texts = {name: asked.get(name, "").strip() or None for name in TEXT_FIELDS}
    try:
        period = _period(asked.get("month", ""), newest)
        sort = Sort(asked.get("sort", Sort.END))
        at = Cursor.parse(asked["at"]) if asked.get("at") else None
    except ValueError as error:
        abort(400, str(error))
    return Selection(
        JobFilter(
            period=period,
            cluster=texts["cluster"],
            account=texts["account"],
            billing_account=texts["payer"],
            user=texts["user"],
            state=texts["state"],
        ),
        sort,
        _descending(asked),
        at,
    )


def _descending(asked: "MultiDict[str, str]") -> bool:
    order = asked.get("order", "down")
    if order not in {"up", "down"}:
        abort(400, "The order is either up or down.")
    return order == "down"


def _period(text: str, newest: int | None) -> int | None:
    if text == ALL_MONTHS:
        return None
    if text == OPEN_RUNS:
        return OPEN
    return parse_period(text) if text else newest
