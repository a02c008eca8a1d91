"""Rate cards in the database: whole documents, added once, never changed."""

from typing import Final, NamedTuple

from sqlalchemy import Connection, insert, select, update
from sqlalchemy import text as sql_text

from jobledger_collector.core.card import RateCard
from jobledger_collector.core.card_schema import parse_card
from jobledger_collector.core.errors import CollectorError
from jobledger_collector.core.node import InvalidDocument
from jobledger_collector.core.rates import RateBook
from jobledger_collector.store.engine import is_sqlite
from jobledger_collector.store.schema import books, rate_cards
from jobledger_collector.store.yaml_nodes import content_sha256, read_nodes

BOOKS_ID: Final = 1
FIRST_TIMEZONE: Final = "UTC"
"""The books' time zone until the first card sets it."""


class CardRefused(CollectorError):
    """A card contradicts what the books already hold; says what to do instead."""


class Books(NamedTuple):
    """What the books are kept in; currency "" until the first card.

    ``generation`` grows with every change of cards or accounts: a process that
    holds them in memory reads them again when it sees another number.
    """

    currency: str
    timezone: str
    generation: int


class StoredCard(NamedTuple):
    """A card as it was loaded; times in epoch seconds, the document as given."""

    card: str
    version: int
    sha256: str
    effective_from: int
    document: str
    loaded_at: int
    loaded_by: str

    @property
    def file(self) -> str:
        """Name for messages about this document."""
        return f"rate card {self.card} v{self.version}"


class LoadedCard(NamedTuple):
    """The card, and whether it is new to the books."""

    card: RateCard
    is_new: bool


def read_card(text: str, file: str) -> RateCard:
    """Return the card of a YAML document; raises InvalidDocument with file and line."""
    document = read_nodes(text, file)
    return parse_card(document, content_sha256(document))


def load_card(conn: Connection, text: str, file: str, now_s: int, person: str) -> LoadedCard:
    """Add a card to the books; the same card again changes nothing.

    The first card sets the books' currency and time zone. Raises CardRefused
    when this version is known with other content, and when its currency, time
    zone or order do not fit the books.
    """
    card = read_card(text, file)
    lock_books(conn)
    stored = stored_cards(conn)
    same = [old for old in stored if (old.card, old.version) == (card.card, card.version)]
    if same:
        _same_content(same[0], card)
        return LoadedCard(card, is_new=False)
    _fits(card, read_books(conn), stored)
    conn.execute(
        insert(rate_cards).values(
            card=card.card,
            version=card.version,
            sha256=card.sha256,
            effective_from=card.effective_from,
            document=text,
            loaded_at=now_s,
            loaded_by=person,
        )
    )
    bump_generation(conn)
    conn.execute(update(books).values(currency=card.currency, timezone=card.timezone))
    return LoadedCard(card, is_new=True)


def load_book(conn: Connection) -> RateBook:
    """Return all cards as a rate book."""
    kept = read_books(conn)
    cards = [read_card(stored.document, stored.file) for stored in stored_cards(conn)]
    return RateBook(cards, kept.currency, kept.timezone)


def stored_cards(conn: Connection) -> list[StoredCard]:
    """Return every card version in the order in which they come into force."""
    rows = conn.execute(select(rate_cards).order_by(rate_cards.c.effective_from))
    return [StoredCard(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


def read_books(conn: Connection) -> Books:
    """Return what the books are kept in; UTC and no currency before the first card."""
    row = conn.execute(select(books.c.currency, books.c.timezone, books.c.generation)).first()
    return Books(*row) if row else Books("", FIRST_TIMEZONE, 0)


def lock_books(conn: Connection) -> None:
    """Wait until nobody writes by the books of now, and keep others waiting.

    The table is locked, not its row: PostgreSQL serves table locks in turn, but
    would let one ingest after another share the row before a change of it.
    """
    if not is_sqlite(conn):  # a writer there is alone already
        conn.execute(sql_text("LOCK TABLE books IN EXCLUSIVE MODE"))


def bump_generation(conn: Connection) -> None:
    """Tell every process that cards or accounts changed, as of this transaction."""
    changed = conn.execute(update(books).values(generation=books.c.generation + 1))
    if not changed.rowcount:
        conn.execute(insert(books).values(id=BOOKS_ID, currency="", timezone=FIRST_TIMEZONE))


def _same_content(old: StoredCard, new: RateCard) -> None:
    if old.sha256 != new.sha256:
        raise CardRefused(
            f"{new.label} is already in the books with other content and never changes:"
            f" give the new prices the next version ({new.version + 1}) and their own"
            " effective_from"
        )


def _fits(card: RateCard, kept: Books, stored: list[StoredCard]) -> None:
    """Refuse a card that the books cannot take; silent when it fits."""
    if kept.currency and (card.currency, card.timezone) != (kept.currency, kept.timezone):
        raise CardRefused(
            f"{card.label} is in {card.currency} and {card.timezone}, but these books are kept in"
            f" {kept.currency} and {kept.timezone}: use those, or a database of its own"
        )
    for old in stored:
        if old.effective_from == card.effective_from:
            raise CardRefused(
                f"{old.card} v{old.version} takes effect at the same instant as {card.label}:"
                " give the new card a later effective_from"
            )
        newer = card.version > old.version
        later = card.effective_from > old.effective_from
        if old.card == card.card and newer != later:
            raise CardRefused(
                f"{card.label} and {old.card} v{old.version} are out of order:"
                " a higher version must take effect later"
            )


__all__ = [
    "Books", "CardRefused", "InvalidDocument", "LoadedCard", "StoredCard", "bump_generation",
    "load_book", "load_card", "lock_books", "read_books", "read_card", "stored_cards",
]  # fmt: skip
