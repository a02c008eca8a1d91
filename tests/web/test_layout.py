"""Where each text of a document stands: on the paper, and on no other text."""

from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from jobledger_web import render
from jobledger_web.documents.figures import grouped
from jobledger_web.documents.page import page_of
from jobledger_web.documents.shape import read_document
from jobledger_web.documents.words import Language
from tests.web.paper import Json, a_document, example_document, read

PAGE_WIDTH_PX = 210 / 25.4 * 96
PAGE_HEIGHT_PX = 297 / 25.4 * 96
MARGIN_PX = 17 / 25.4 * 96


@pytest.fixture
def example() -> Json:
    return example_document()


class Box(Protocol):
    """A piece of one line of text as it stands on the paper, in px."""

    text: str
    position_x: float
    position_y: float
    width: float
    height: float


def boxes_of(document: Json, language: Language) -> list[list[Box]]:
    """The text boxes that are seen, by page."""
    sheets = render.compose(page_of(read_document(document), language)).pages
    return [
        [
            box
            for box in sheet._page_box.descendants()  # noqa: SLF001 - no public way to them
            if type(box).__name__ == "TextBox"
            and box.text.strip()
            and box.style["visibility"] == "visible"
        ]
        for sheet in sheets
    ]


def hostile(example: Json) -> Json:
    """A document whose every text is as long as it can be, in one word."""
    document = a_document(example, lines=4, jobs=4)
    for party in ("seller", "buyer"):
        for name in document[party]:
            document[party][name] = "W" * 500
    document["seller"]["address"] = "\n".join(["x" * 300] * 30)
    document |= {"number": "N" * 60, "tier": "t" * 200, "generator": "g" * 400}
    document["lines"][0]["name"] = {"en": "W" * 500, "th": "ที่" * 150}
    document["lines"][1] |= {"sku": "s" * 300, "quantity": "99999999999.123456"}
    document["lines"][2] |= {"list_price": "99999999.12345678", "unit": "u" * 30}
    document["annex"]["jobs"][0] |= {"user": "u" * 400, "project": "p" * 400, "cluster": "c" * 60}
    document["notes"] = [{"en": "n" * 600, "th": ""}]
    return document


@pytest.mark.parametrize("language", ["en", "th"])
@pytest.mark.parametrize("size", ["example", "3", "25", "40 and 100 jobs", "hostile"])
def test_every_text_is_on_the_paper_and_covers_no_other(
    example: Json, language: Language, size: str
) -> None:
    sizes: dict[str, Callable[[], Json]] = {
        "example": lambda: example,
        "3": lambda: a_document(example, lines=3, jobs=3),
        "25": lambda: a_document(example, lines=25, jobs=30, prior=2),
        "40 and 100 jobs": lambda: a_document(example, lines=40, jobs=100, prior=3),
        "hostile": lambda: hostile(example),
    }
    document = sizes[size]()
    for number, boxes in enumerate(boxes_of(document, language), start=1):
        for box in boxes:
            assert box.position_x >= MARGIN_PX - 1, (number, box.text)
            assert box.position_x + box.width <= PAGE_WIDTH_PX - MARGIN_PX + 1, (number, box.text)
            assert box.position_y >= 0, (number, box.text)
            assert box.position_y + box.height <= PAGE_HEIGHT_PX, (number, box.text)
        assert list(_covered(boxes)) == [], number


def _covered(boxes: list[Box]) -> Iterator[tuple[str, str]]:
    """The texts that stand on each other."""
    ordered = sorted(boxes, key=lambda box: box.position_y)
    for index, one in enumerate(ordered):
        for other in ordered[index + 1 :]:
            if other.position_y >= one.position_y + one.height:
                break
            if _cover(one, other):
                yield one.text, other.text


def _cover(one: Box, other: Box) -> bool:
    """Whether two text boxes share ink: more than the slack of a line's height."""
    across = min(one.position_x + one.width, other.position_x + other.width) - max(
        one.position_x, other.position_x
    )
    down = min(one.position_y + one.height, other.position_y + other.height) - max(
        one.position_y, other.position_y
    )
    return across > 1 and down > 0.4 * min(one.height, other.height)


def test_amounts_end_in_line_at_the_margin(example: Json) -> None:
    document = a_document(example, lines=9, jobs=0)
    amounts = {grouped(line["net"], 2) for line in document["lines"][1:]}
    rights = [
        box.position_x + box.width
        for box in boxes_of(document, "en")[0]
        if box.text.strip() in amounts
    ]
    assert len(rights) == 8
    assert all(abs(right - (PAGE_WIDTH_PX - MARGIN_PX)) < 1 for right in rights)


def test_long_documents_repeat_their_heads_and_count_their_pages(example: Json) -> None:
    pages = read(render.draw(a_document(example, lines=20, jobs=60), "en")).pages
    texts = [page.extract_text() for page in pages]
    assert len(pages) == 4
    for number, text in enumerate(texts, start=1):
        assert f"Page {number} of 4" in text
        assert "Invoice INV-2026-000017" in text
    assert [i for i, text in enumerate(texts) if "Unit price Discount Amount" in text] == [0, 1]
    assert [i for i, text in enumerate(texts) if "Core-hours GPU-hours Cost" in text] == [2, 3]
    assert sum(text.count("physics-md") for text in texts) == 60
