"""What the books say now, and a promise that it stays so for this transaction."""

from typing import NamedTuple

from sqlalchemy import Connection, select, text

from jobledger_collector.core.accounts import AccountBook
from jobledger_collector.core.rates import RateBook
from jobledger_collector.store.accounts import load_account_book
from jobledger_collector.store.cards import load_book, read_books
from jobledger_collector.store.engine import is_sqlite
from jobledger_collector.store.schema import books


class BooksInForce(NamedTuple):
    """All rates and accounts of one generation of the books."""

    generation: int
    rates: RateBook
    accounts: AccountBook


def load_books(conn: Connection) -> BooksInForce:
    """Return the rates and accounts of now."""
    generation = read_books(conn).generation
    return BooksInForce(generation, load_book(conn), load_account_book(conn))


def read_generation(conn: Connection) -> int:
    """Return the books' generation as it is; it may change at once. 0 before the first card."""
    return read_books(conn).generation


def hold_generation(conn: Connection) -> int:
    """Return the books' generation and keep it from changing until the transaction ends.

    A rate card that is loaded meanwhile waits, and then finds and prices again
    what this transaction stored; without the lock it could miss it. Readers do
    not wait for each other. 0 before the first card.
    """
    if is_sqlite(conn):  # a writer there is alone already
        return read_books(conn).generation
    statement = select(books.c.generation).with_for_update(read=True)
    generation = conn.execute(statement).scalar_one_or_none()
    if generation is None:
        conn.execute(text("LOCK TABLE books IN SHARE MODE"))
        generation = conn.execute(statement).scalar_one_or_none()
    return generation or 0
