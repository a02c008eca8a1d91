"""The letters of a document: the shipped font, and Thai that reads back."""

import io
from pathlib import Path

import pytest

from jobledger_web import render
from jobledger_web.documents.typeface import font_bytes, thai_texts
from jobledger_web.documents.words import Language
from tests.web.paper import Json, example_document, read, text_of

# Words with every tone mark, sara am with and without one, letters that lose
# their foot, letters with an ascender, and marks in two storeys.
THAI_WORDS = (
    "น้ำ ค่ำ ก่ำ ล้ำ จำนวน สำนักงาน บาท ปี่ ป้า ฝั่ง ฟ้า ปิ่น ฎีกา กฎุมพี ญาติ กตัญญู ฐานฐุ "
    "วุฒิ จุฬาฯ ฬู ที่ตั้ง ผู้ซื้อ เนื้อที่ ๑๒๓ ฿ ครุฑ ฤๅษี เก๊ก จ๋า ศูนย์ การณ์ ป่ำ ฝ้ำ"
)


@pytest.fixture
def example() -> Json:
    return example_document()


@pytest.mark.parametrize("language", ["en", "th"])
def test_the_shipped_font_and_no_other_is_embedded(example: Json, language: Language) -> None:
    embedded, absent = set(), set()
    for page in read(render.draw(example, language)).pages:
        page_embedded, page_absent = page._get_fonts()  # noqa: SLF001 - what its readers use
        embedded |= page_embedded
        absent |= page_absent
    assert {name.split("+")[1] for name in embedded} == {
        "Jobledger-Sarabun",
        "Jobledger-Sarabun-Semi-Bold",
    }
    assert absent == set()


@pytest.mark.parametrize("word", THAI_WORDS.split())
def test_thai_reads_back_as_it_was_written(thai_page: str, word: str) -> None:
    assert word in thai_page


@pytest.fixture(scope="module")
def thai_page() -> str:
    """The text of a page whose notes are THAI_WORDS, in both weights of the font.

    Without spaces: where a mark is raised in its second storey, readers see one.
    """
    document = example_document()
    document["notes"] = [{"en": word, "th": word} for word in THAI_WORDS.split()]
    document["seller"]["name_th"] = THAI_WORDS
    return text_of(render.draw(document, "th")).replace(" ", "")


def test_both_weights_have_the_same_glyphs_in_the_same_order() -> None:
    # thai_texts() is read from one of them and used for both.
    fonts = pytest.importorskip("fontTools.ttLib")
    regular, bold = (
        fonts.TTFont(io.BytesIO(font_bytes(weight))) for weight in ("Regular", "SemiBold")
    )
    assert regular.getGlyphOrder() == bold.getGlyphOrder()
    assert {*"กขคงาำฯ๙ฬ"} <= set(thai_texts().values())
    codes = set(regular.getBestCmap())
    assert {ord("฿"), ord("−"), ord("–"), ord("…"), ord("·")} <= codes


def test_the_font_licence_is_shipped() -> None:
    licence = Path(render.__file__).parent / "documents" / "fonts" / "OFL.txt"
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence.read_text(encoding="utf-8")
