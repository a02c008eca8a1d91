"""English and Thai: nothing untranslated, nothing stale, no placeholder lost."""

import html
import io
import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from flask import Flask
from flask.testing import FlaskClient

from tests.web.conftest import SignIn, token

WEB = Path(__file__).resolve().parents[2] / "web"
PACKAGE = WEB / "jobledger_web"
THAI = PACKAGE / "translations" / "th" / "LC_MESSAGES"
METHODS = [("**.py", "python"), ("**/templates/**.html", "jinja2")]
KEYWORDS: dict[str, tuple[int, ...] | None] = {
    "_": None, "gettext": None, "lazy_gettext": None, "ngettext": (1, 2),
}  # fmt: skip
SAME_IN_BOTH = {
    "%(base)s %(base_unit)s ÷ %(per)s = %(quantity)s %(unit)s × %(price)s = %(cost)s %(currency)s"
}
"""Arithmetic reads alike in every language."""


@pytest.fixture(scope="module")
def thai() -> Catalog:
    with (THAI / "messages.po").open("rb") as stream:
        return read_po(stream, locale="th")


def texts(value: str | tuple[str, ...] | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def messages(catalog: Catalog) -> list[Message]:
    return [message for message in catalog if message.id]


def test_every_text_of_the_source_is_in_the_catalogue(thai: Catalog) -> None:
    found = {
        texts(message)[0]
        for _, _, message, _, _ in extract_from_dir(str(PACKAGE), METHODS, {}, KEYWORDS)
    }
    known = {texts(message.id)[0] for message in messages(thai)}
    assert len(found) > 200
    assert found - known == set(), "translate these"
    assert known - found == set(), "these are said nowhere any more"


def test_every_text_has_thai(thai: Catalog) -> None:
    for message in messages(thai):
        assert not message.fuzzy, message.id
        for text in texts(message.string):
            assert text.strip(), message.id
            is_thai = re.search(r"[\u0e00-\u0e7f]", text)
            assert is_thai or texts(message.id)[0] in SAME_IN_BOTH, message.id


def test_no_placeholder_is_lost_or_made_up(thai: Catalog) -> None:
    for message in messages(thai):
        named = set(re.findall(r"%\(\w+\)s", " ".join(texts(message.id))))
        for text in texts(message.string):
            assert set(re.findall(r"%\(\w+\)s", text)) == named, message.id


def test_the_compiled_catalogue_is_that_of_the_source(thai: Catalog) -> None:
    compiled = io.BytesIO()
    write_mo(compiled, thai)
    assert (THAI / "messages.mo").read_bytes() == compiled.getvalue(), (
        "run: pybabel compile -d web/jobledger_web/translations"
    )


PAGES = ("/usage?month=all", "/invoices", "/rates", "/quarantine", "/agents", "/password")


@pytest.mark.parametrize("page", PAGES)
def test_a_thai_page_says_nothing_in_english(sign_in: SignIn, thai: Catalog, page: str) -> None:
    browser = sign_in("ada")
    browser.set_cookie("jobledger-language", "th")
    text = browser.get(page).text
    assert '<html lang="th">' in text
    words = html.unescape(re.sub(r"<[^>]+>", "\n", text))
    lines = {line.strip() for line in words.splitlines() if line.strip()}
    english = {texts(message.id)[0] for message in messages(thai) if " " in message.id}
    assert lines & english == set()
    assert re.search(r"[\u0e00-\u0e7f]", words)


def test_dates_count_years_of_the_buddhist_era_in_thai(sign_in: SignIn) -> None:
    browser = sign_in("ada")
    assert "November 2026" in browser.get("/usage").text
    browser.set_cookie("jobledger-language", "th")
    assert "พฤศจิกายน 2569" in browser.get("/usage").text


@pytest.mark.parametrize(
    ("asked", "language"),
    [("th-TH,th;q=0.9,en;q=0.5", "th"), ("en-GB", "en"), ("de", "en"), ("", "en"), ("*", "en"),
     ("th;q=broken", "en"), ("xx-" + "y" * 300, "en")],
)  # fmt: skip
def test_the_browser_may_choose(client: FlaskClient, asked: str, language: str) -> None:
    page = client.get("/login", headers={"Accept-Language": asked}).text
    assert f'<html lang="{language}">' in page


def test_the_visitor_may_choose_and_stays_on_the_page(app: Flask) -> None:
    browser = app.test_client()
    data = {"csrf": token(browser, "/login"), "language": "th", "next": "/login?next=/rates"}
    answer = browser.post("/language", data=data)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login?next=/rates")
    assert "เข้าสู่ระบบ" in browser.get("/login").text


@pytest.mark.parametrize("language", ["", "fr", "../th", "EN"])
def test_only_these_two_languages(app: Flask, language: str) -> None:
    browser = app.test_client()
    data = {"csrf": token(browser, "/login"), "language": language}
    assert browser.post("/language", data=data).status_code == 400
    browser.set_cookie("jobledger-language", "../../etc")
    assert browser.get("/login").status_code == 200
