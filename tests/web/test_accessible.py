"""Anybody can use the pages: labels, captions, headings, contrast."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.web.conftest import SignIn

CSS = (
    Path(__file__).resolve().parents[2] / "web" / "jobledger_web" / "static" / "app.css"
).read_text("utf-8")
PAGES = (
    "/login", "/usage?month=all", "/invoices", "/invoices/INV-2026-000001", "/rates",
    "/quarantine", "/agents", "/password", "/nowhere",
)  # fmt: skip
AA_TEXT = 4.5
VOID = frozenset({"input", "meta", "link", "br", "rect", "path"})


class Outline(HTMLParser):
    """What a screen reader would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.unlabelled: list[str] = []
        self.headings: list[int] = []
        self.tables = self.captions = 0
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.lang = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.lang = self.lang or given.get("lang") or ""
        if tag in {"input", "select"} and given.get("type") != "hidden":
            is_labelled = "label" in self.open or "aria-label" in given or "aria-hidden" in given
            if not is_labelled:
                self.unlabelled.append(str(given.get("name")))
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if given.get("id"):
            self.ids.append(str(given["id"]))
        for name in ("aria-labelledby", "aria-describedby"):
            if given.get(name):
                self.refers.append(str(given[name]))
        if tag == "a" and str(given.get("href", "")).startswith("#"):
            self.refers.append(str(given["href"])[1:])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_well_formed_labelled_and_outlined(sign_in: SignIn, page: str) -> None:
    outline = Outline(sign_in("ada").get(page).text if page != "/login" else "")
    if page == "/login":
        outline = Outline(sign_in("ada").application.test_client().get(page).text)
    assert outline.open == [], "every element is closed"
    assert outline.unlabelled == []
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(outline.headings, outline.headings[1:], strict=False))
    assert outline.tables == outline.captions
    assert len(set(outline.ids)) == len(outline.ids)
    assert set(outline.refers) <= set(outline.ids)
    assert outline.lang == "en"


def colours(scheme: str) -> dict[str, str]:
    """The custom properties of a colour scheme."""
    light, _, rest = CSS.partition("@media (prefers-color-scheme: dark)")
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    if scheme == "dark":
        found |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", rest.partition("\n}\n")[0]))
    return found


def luminance(colour: str) -> float:
    def linear(part: int) -> float:
        value = part / 255
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_measured_as_the_standard_does() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        *((ink, ground) for ink in ("ink", "quiet", "accent") for ground in ("paper", "sheet")),
        ("ink", "sunk"), ("quiet", "sunk"), ("ink", "accent-wash"), ("quiet", "accent-wash"),
        ("accent", "accent-wash"), ("accent-ink", "accent"), ("bad", "sheet"), ("warn", "sheet"),
        ("ink", "bad-wash"), ("ink", "warn-wash"),
    ],
)  # fmt: skip
def test_text_can_be_read(scheme: str, ink: str, ground: str) -> None:
    palette = colours(scheme)
    assert contrast(palette[ink], palette[ground]) >= AA_TEXT


def test_focus_is_always_seen() -> None:
    assert ":focus-visible { outline: 2px solid" in CSS
    assert "outline: none" not in CSS
    assert "outline: 0" not in CSS
