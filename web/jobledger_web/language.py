"""The page's language and how it writes figures: chosen once a request."""

from typing import Final

from babel import Locale
from flask import Flask, g, request
from flask_babel import Babel, get_locale

from jobledger_collector.core.periods import zone
from jobledger_collector.store.cards import read_books
from jobledger_web.database import reading
from jobledger_web.formats import Formats

LANGUAGES: Final = ("en", "th")
NAMES: Final = {"en": "English", "th": "ไทย"}
COOKIE: Final = "jobledger-language"
COOKIE_MAX_AGE_S: Final = 365 * 24 * 3600


def speak(app: Flask) -> None:
    """Choose a language for every request of ``app``."""
    Babel(
        app,
        locale_selector=chosen,
        default_locale="en",
        default_translation_directories="translations",
    )


def chosen() -> str:
    """The visitor's language: what they chose here, else what their browser prefers."""
    cookie = request.cookies.get(COOKIE, "")
    if cookie in LANGUAGES:
        return cookie
    return request.accept_languages.best_match(LANGUAGES, default="en") or "en"


def formats() -> Formats:
    """How this request's page writes figures, money and times."""
    if "formats" not in g:
        with reading() as conn:
            books = read_books(conn)
        locale: Locale = get_locale() or Locale.parse("en")
        g.formats = Formats(locale, zone(books.timezone), books.currency)
    found: Formats = g.formats
    return found


def is_thai() -> bool:
    """Say whether this request's page is in Thai."""
    return chosen() == "th"
