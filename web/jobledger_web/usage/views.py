"""Jobs with their costs: the month's page, its CSV, one job with its arithmetic."""

from typing import Final, NamedTuple

from flask import Blueprint, Response, abort, render_template, url_for
from flask_babel import gettext

from jobledger_collector.store.usage_views import Sort
from jobledger_web import charts
from jobledger_web.access import Permission, requires
from jobledger_web.language import formats
from jobledger_web.ledger import BIGGEST_ID, DayCost, ledger
from jobledger_web.streams import csv_response
from jobledger_web.usage import words
from jobledger_web.usage.facts import facts
from jobledger_web.usage.selection import STATES, Selection, month_text, read_selection

area = Blueprint("usage", __name__)

COLUMNS: Final = (
    Sort.JOB_ID, Sort.STATE, Sort.USER, Sort.ACCOUNT, Sort.END, Sort.CPU, Sort.GPU, Sort.COST,
)  # fmt: skip
TEXT_COLUMNS: Final = frozenset({Sort.STATE, Sort.USER, Sort.ACCOUNT})
"""Columns that one sorts upwards first; of figures one wants the largest."""


class Heading(NamedTuple):
    """A column's heading: where it leads, and what it says of the order now."""

    column: Sort
    label: str
    href: str
    aria_sort: str | None
    is_number: bool


@area.get("/")
@requires(Permission.USAGE_READ)
def index() -> str:
    """The first page: the newest month."""
    return usage()


@area.get("/usage")
@requires(Permission.USAGE_READ)
def usage() -> str:
    """A month's totals, accounts and jobs."""
    with ledger() as books:
        months = books.months()
        selection = read_selection(_newest(months))
        try:
            page = books.page(
                selection.wanted,
                selection.sort,
                descending=selection.descending,
                at=selection.at,
            )
        except ValueError as error:
            abort(400, str(error))
        totals = books.totals(selection.wanted)
        accounts = books.by_account(selection.wanted)
        days = books.days(selection.wanted, books.books().timezone)
        clusters = books.clusters()
    return render_template(
        "usage/usage.html",
        selection=selection,
        months=[(month_text(period), period, runs) for period, runs in months],
        month=month_text(selection.wanted.period),
        page=page,
        totals=totals,
        accounts=accounts,
        most=max((sums.cost_e14 for _, sums in accounts), default=0),
        days=days,
        bars=_bars(days),
        clusters=clusters,
        states=STATES,
        headings=_headings(selection),
    )


def _newest(months: list[tuple[int, int]]) -> int | None:
    """The month to show when none is asked for: the newest that has ended jobs."""
    return next((period for period, _ in months if period), None)


def _bars(days: list[DayCost]) -> list[charts.Bar]:
    fmt = formats()
    labels = [f"{fmt.day(one.day)}: {fmt.total(one.cost_e14)} {fmt.currency}" for one in days]
    return charts.columns([one.cost_e14 for one in days], labels)


def _headings(selection: Selection) -> list[Heading]:
    labels = {
        Sort.JOB_ID: gettext("Job"),
        Sort.STATE: gettext("State"),
        Sort.USER: gettext("User"),
        Sort.ACCOUNT: gettext("Account"),
        Sort.END: gettext("End"),
        Sort.CPU: gettext("Core-hours"),
        Sort.GPU: gettext("GPU-hours"),
        Sort.COST: gettext("Cost"),
    }
    return [_heading(selection, column, labels[column]) for column in COLUMNS]


def _heading(selection: Selection, column: Sort, label: str) -> Heading:
    is_sorted = selection.sort is column
    descending = not selection.descending if is_sorted else column not in TEXT_COLUMNS
    arguments = selection.arguments(
        sort=None if column is Sort.END else column.value, order=None if descending else "up"
    )
    state = ("descending" if selection.descending else "ascending") if is_sorted else None
    is_number = column in {Sort.CPU, Sort.GPU, Sort.COST}
    return Heading(column, label, url_for("usage.usage", **arguments), state, is_number)  # type: ignore[arg-type]


@area.get("/usage.csv")
@requires(Permission.USAGE_READ)
def usage_csv() -> Response:
    """The same selection as CSV, all of it."""
    with ledger() as books:
        wanted = read_selection(_newest(books.months())).wanted
    month = month_text(wanted.period)
    return csv_response(f"jobs-{month}.csv", lambda books: books.jobs_csv(wanted))


@area.get(f"/jobs/<cluster>/<int(max={BIGGEST_ID}):job_id>/<int(max={BIGGEST_ID}):submit>")
@requires(Permission.USAGE_READ)
def job(cluster: str, job_id: int, submit: int) -> str:
    """One job run: its record, its cost in words, its charges and its past."""
    with ledger() as books:
        found = books.run(cluster, job_id, submit)
    if found is None:
        abort(404)
    fmt = formats()
    charges = found.explanation.charges
    standing = [one.charge for one in charges if one.stands]
    return render_template(
        "usage/job.html",
        run=found.run,
        cost_e14=found.explanation.cost_e14,
        list_e14=found.explanation.list_e14,
        sentences=words.sentences(found.run, fmt),
        sums=[(charge.item, words.arithmetic(charge, fmt)) for charge in standing],
        standing=standing,
        replaced=[one.charge for one in charges if not one.stands],
        facts=facts(found.run, fmt),
        history=words.history(found.run, found.revisions, fmt),
        open_invoices=found.open_invoices,
        tres_text=words.tres_text,
    )
