"""Price again after a change of the books, and say what that did."""

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.output import say
from jobledger_collector.core.money import format_cost
from jobledger_collector.rerating import Rerated, rerate
from jobledger_collector.store.books import load_books
from jobledger_collector.store.handles import Connection

PROGRESS_RUNS = 50_000
"""Runs between two lines of progress."""


def reprice(conn: Connection, context: Context, *, ended_after: int) -> None:
    """Price again every run that ended after an instant and tell a person about it."""
    books = load_books(conn)
    done = rerate(conn, books, ended_after, lambda sums: _progress(sums, context))
    if not done.runs:
        say(context.out, "No run had to be priced again.")
        return
    currency = books.rates.currency
    say(
        context.out,
        f"Priced {done.runs} runs again: {done.changed} changed"
        f" ({format_cost(done.before_e14, 2)} -> {format_cost(done.after_e14, 2)} {currency}),"
        f" {done.invoiced} with invoiced items left as billed,"
        f" {done.unpriced} with items that have no price.",
    )


def _progress(sums: Rerated, context: Context) -> None:
    if sums.runs % PROGRESS_RUNS == 0:
        say(context.err, f"priced {sums.runs} runs again ...")
