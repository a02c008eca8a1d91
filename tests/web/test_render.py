"""An invoice on paper: what stands on it, where, in which letters, and what is refused."""

import copy
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pypdf import PdfReader
from weasyprint.urls import URLFetcherResponse

from jobledger_web import render
from jobledger_web.documents.figures import date_range, figure, grouped, long_date, minor_of
from jobledger_web.documents.page import page_of
from jobledger_web.documents.shape import (
    LIST_MAX,
    MARKS_MAX,
    TEXT_MAX_CHARS,
    TEXT_MAX_LINES,
    DocumentUnfit,
    printable,
    read_document,
)
from jobledger_web.documents.texts import TEXTS
from jobledger_web.documents.typeface import font_bytes, thai_texts
from jobledger_web.documents.words import Language

Json = dict[str, Any]

EXAMPLE = Path(__file__).parents[1] / "data" / "document-example.json"
PAGE_WIDTH_PX = 210 / 25.4 * 96
PAGE_HEIGHT_PX = 297 / 25.4 * 96
MARGIN_PX = 17 / 25.4 * 96

# Words with every tone mark, sara am with and without one, letters that lose
# their foot, letters with an ascender, and marks in two storeys.
THAI_WORDS = (
    "น้ำ ค่ำ ก่ำ ล้ำ จำนวน สำนักงาน บาท ปี่ ป้า ฝั่ง ฟ้า ปิ่น ฎีกา กฎุมพี ญาติ กตัญญู ฐานฐุ "
    "วุฒิ จุฬาฯ ฬู ที่ตั้ง ผู้ซื้อ เนื้อที่ ๑๒๓ ฿ ครุฑ ฤๅษี เก๊ก จ๋า ศูนย์ การณ์ ป่ำ ฝ้ำ"
)


@pytest.fixture
def example() -> Json:
    document: Json = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    return document


def read(pdf: bytes) -> PdfReader:
    return PdfReader(io.BytesIO(pdf))


def text_of(pdf: bytes) -> str:
    """All text of a PDF, with every stretch of white space as one space."""
    return " ".join(" ".join(page.extract_text() for page in read(pdf).pages).split())


def money(minor: int) -> str:
    return f"{'-' if minor < 0 else ''}{abs(minor) // 100}.{abs(minor) % 100:02d}"


def a_document(example: Json, *, lines: int, jobs: int, prior: int = 0) -> Json:
    """The example with that many lines, the last ``prior`` of an earlier period, and jobs."""
    document = copy.deepcopy(example)
    models = document["lines"]
    document["lines"] = [
        copy.deepcopy(models[i % 4])
        | {
            "line": i + 1,
            "quantity": f"{(i * 7919) % 99991}.{i % 9}",
            "list_amount": money(i * 100_003),
            "discount": money(i * 50_001),
            "net": money(i * 50_002),
            "prior_period": i >= lines - prior,
        }
        for i in range(lines)
    ]
    subtotal = sum(i * 50_002 for i in range(lines))
    document["totals"] = {
        "list_amount": money(sum(i * 100_003 for i in range(lines))),
        "discount": money(sum(i * 50_001 for i in range(lines))),
        "subtotal": money(subtotal),
        "tax": "0.00",
        "total": money(subtotal),
    }
    document["tax"] |= {"rate_percent": "0", "base": money(subtotal), "amount": "0.00"}
    model = document["annex"]["jobs"][0]
    document["annex"] = {
        "jobs": [model | {"job_id": 1000 + i, "cost": "1.00"} for i in range(jobs)],
        "jobs_total": jobs + 3,
        "others_jobs": 3,
        "others_cost": money(subtotal - 100 * jobs),
    }
    return document


# ------------------------------------------------------------------ what it says

ENGLISH = [
    "Invoice INV-2026-000017",
    "Example University Computing Centre 999 Phutthamonthon 4 Road, Salaya",
    "Tax ID 0994000158378",
    "Head office (00000)",
    "BILL TO Department of Physics, Faculty of Science 272 Rama VI Road",
    "Tax ID 0994000158379",
    "Attention Assoc. Prof. Somchai Jaidee",
    "Issue date 2 November 2026",
    "Due date 2 December 2026",
    "Billing period 1–31 October 2026",
    "Billing account physics",
    "Rate tier mu",
    "Amount due Payable by 2 December 2026 THB 4,634.48",
    "1 CPU core time cpu-std 1,284.513889 Core-Hours 5.00 1.00 5,138.06 1,284.51",
    "2 GPU time, NVIDIA A100 gpu-a100 96.25 GPU-Hours 100.00 5.00 9,143.75 481.25",
    "4 Login node time node-login 12.00 Node-Hours 1.50 0.00 18.00 0.00",
    "Earlier periods: late usage and corrections 5 CPU core time cpu-std −3.50 Core-Hours",
    "At list prices 26,324.18",
    "Discount −21,992.89",
    "Subtotal 4,331.29",
    "VAT 7% 303.19",
    "Total THB 4,634.48",
    "Four thousand six hundred thirty-four baht and forty-eight satang",
    "Bank Siam Commercial Bank",
    "Account number 123-4-56789-0",
    "Please quote INV-2026-000017 with your payment.",
    "Rate card mahidol, version 3 sha256 9f2c4e7ad0b1…",
    "Page 1 of 2",
    "Annex: jobs The 61 job runs behind this document",
    "alpha 1041 alice physics-md 2026-10-30 23:41 812.50 96.25 2,500.00",
    "beta 88 สมชาย physics 2026-10-02 18:22 72.013889 0.00 300.10",
    "alpha 903 alice physics-md earlier period 2026-09-28 11:00 −3.50 0.00 −3.50",
    "57 further job runs: see the CSV of this document 333.58",
    "Page 2 of 2",
]

THAI = [
    "ใบแจ้งหนี้ INV-2026-000017",
    "ศูนย์คอมพิวเตอร์ มหาวิทยาลัยตัวอย่าง 999 ถนนพุทธมณฑลสาย 4 ตำบลศาลายา",
    "เลขประจำตัวผู้เสียภาษี 0994000158378",
    "สำนักงานใหญ่ (00000)",
    "เรียกเก็บจาก ภาควิชาฟิสิกส์ คณะวิทยาศาสตร์",
    "วันที่ออก 2 พฤศจิกายน พ.ศ. 2569",
    "วันครบกำหนดชำระ 2 ธันวาคม พ.ศ. 2569",
    "รอบการใช้บริการ 1–31 ตุลาคม พ.ศ. 2569",
    "ยอดที่ต้องชำระ โปรดชำระภายใน 2 ธันวาคม พ.ศ. 2569 4,634.48 บาท",
    "1 เวลาใช้งานแกนประมวลผล cpu-std 1,284.513889 แกน-ชั่วโมง 5.00 1.00 5,138.06 1,284.51",
    "รวมตามราคาเต็ม 26,324.18",
    "ส่วนลด −21,992.89",
    "รวมเป็นเงิน 4,331.29",
    "ภาษีมูลค่าเพิ่ม 7% 303.19",
    "จำนวนเงินรวมทั้งสิ้น 4,634.48 บาท",
    "สี่พันหกร้อยสามสิบสี่บาทสี่สิบแปดสตางค์",
    "ธนาคาร ธนาคารไทยพาณิชย์",
    "ประกาศอัตราค่าบริการ mahidol ฉบับที่ 3 sha256 9f2c4e7ad0b1…",
    "หน้า 1 จาก 2",
    "ภาคผนวก: รายการงาน",
    "alpha 1041 alice physics-md 30/10/2569 23:41 812.50 96.25 2,500.00",
    "งานอื่นอีก 57 งาน: ดูในไฟล์ CSV ของเอกสารนี้ 333.58",
]


@pytest.mark.parametrize(("language", "said"), [("en", ENGLISH), ("th", THAI)])
def test_the_page_says(example: Json, language: Language, said: list[str]) -> None:
    # White space alone may differ: a line breaks where the paper ends.
    text = text_of(render.draw(example, language)).replace(" ", "")
    missing = [words for words in said if words.replace(" ", "") not in text]
    assert missing == []


def test_nothing_to_pay_asks_for_no_payment(example: Json) -> None:
    zero = a_document(example, lines=1, jobs=0) | {"kind": "statement", "number": "STM-2026-000001"}
    text = text_of(render.draw(zero, "en"))
    assert "Statement STM-2026-000001" in text
    assert "Nothing to pay THB 0.00" in text
    assert "Due date" not in text
    assert "123-4-56789-0" not in text


def test_what_the_parties_did_not_give_leaves_no_empty_label(example: Json) -> None:
    for name in ("branch", "phone", "email", "website", "bank_account_number"):
        example["seller"][name] = ""
    example["buyer"] |= {"tax_id": "", "contact_name": "", "contact_email": "", "name_th": ""}
    text = text_of(render.draw(example, "en"))
    for label in ("Branch", "Tel.", "E-mail", "Web ", "PAYMENT", "Attention"):
        assert label not in text
    assert "Department of Physics" in text_of(render.draw(example, "th"))


@pytest.mark.parametrize(
    ("currency", "exponent", "total", "english", "thai"),
    [
        ("JPY", 0, "4331", "JPY 4,331", "4,331 เยน"),
        ("KWD", 3, "4.331", "KWD 4.331", "4.331 ดีนาร์คูเวต"),
        ("NOK", 2, "43.31", "NOK 43.31", "43.31 NOK"),
    ],
)
def test_currencies_keep_their_decimals(
    example: Json, currency: str, exponent: int, total: str, english: str, thai: str
) -> None:
    zero = "0" if exponent == 0 else "0." + "0" * exponent
    line = example["lines"][0] | {"list_amount": total, "discount": zero, "net": total}
    example |= {"currency": currency, "exponent": exponent, "lines": [line]}
    example["totals"] = {
        "list_amount": total, "discount": zero, "subtotal": total, "tax": zero, "total": total,
    }  # fmt: skip
    example["tax"] |= {"base": total, "amount": zero}
    example["annex"] = {"jobs": [], "jobs_total": 0, "others_jobs": 0, "others_cost": total}
    assert f"Total {english}" in text_of(render.draw(example, "en"))
    assert thai in text_of(render.draw(example, "th"))


# ------------------------------------------------------------- figures and dates


@pytest.mark.parametrize(
    ("text", "least", "printed"),
    [
        ("0", 2, "0.00"),
        ("-1284.513889", 2, "−1,284.513889"),
        ("96.250000", 2, "96.25"),
        ("1000000", 0, "1,000,000"),
        ("0.00012500", 2, "0.000125"),
        ("007", 0, "7"),
    ],
)
def test_numbers_are_grouped(text: str, least: int, printed: str) -> None:
    assert grouped(text, least) == printed


@pytest.mark.parametrize("text", ["", "1e5", "NaN", "1,000.00", " 1", "١٢", "--1", ".5", "9" * 31])
def test_what_is_no_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a decimal"):
        grouped(text, 2)


def test_an_amount_never_has_more_decimals_than_its_currency() -> None:
    assert minor_of("-2054.40", 2) == -205440
    assert minor_of("7", 3) == 7000
    with pytest.raises(ValueError, match="more than 2 decimals"):
        minor_of("1.234", 2)


@given(st.integers(min_value=-(10**18), max_value=10**18), st.integers(min_value=0, max_value=4))
def test_a_printed_amount_is_the_amount(minor: int, exponent: int) -> None:
    whole, rest = divmod(abs(minor), 10**exponent)
    text = f"{'-' if minor < 0 else ''}{whole}" + (f".{rest:0{exponent}d}" if exponent else "")
    printed = grouped(text, exponent)
    assert int(printed.replace(",", "").replace(".", "").replace("−", "-")) == minor


def test_a_column_keeps_its_points_below_each_other() -> None:
    assert figure("96.250000", 2, 6) == ("96.25", "0000")
    assert figure("7", 0, 3) == ("7", ".000")
    assert figure("1284.513889", 2, 6) == ("1,284.513889", "")


@pytest.mark.parametrize(
    ("first", "last", "english", "thai"),
    [
        ("2026-10-01", "2026-10-31", "1–31 October 2026", "1–31 ตุลาคม พ.ศ. 2569"),
        (
            "2025-12-16",
            "2026-01-15",
            "16 December 2025 – 15 January 2026",
            "16 ธันวาคม พ.ศ. 2568 – 15 มกราคม พ.ศ. 2569",
        ),
    ],
)
def test_periods(first: str, last: str, english: str, thai: str) -> None:
    assert date_range(first, last, "en") == english
    assert date_range(first, last, "th") == thai


def test_every_month_has_its_thai_name() -> None:
    names = [long_date(f"2026-{month:02d}-01", "th").split()[1] for month in range(1, 13)]
    assert len(set(names)) == 12
    assert all(name.endswith(("คม", "ยน", "พันธ์")) for name in names)


def test_both_languages_take_the_same_values() -> None:
    english, thai = TEXTS["en"], TEXTS["th"]
    for field in english.__slots__:
        told, thai_told = getattr(english, field), getattr(thai, field)
        assert told.count("{}") == thai_told.count("{}"), field
        assert thai_told.strip(), field


# ---------------------------------------------------------------------- letters


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
    document: Json = json.loads(EXAMPLE.read_text(encoding="utf-8"))
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


# ------------------------------------------------------------------ where it stands


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
    pages = read(render.draw(a_document(example, lines=40, jobs=200), "en")).pages
    texts = [page.extract_text() for page in pages]
    assert len(pages) == 8
    for number, text in enumerate(texts, start=1):
        assert f"Page {number} of 8" in text
        assert "Invoice INV-2026-000017" in text
    assert [i for i, text in enumerate(texts) if "Unit price Discount Amount" in text] == [0, 1, 2]
    assert [i for i, text in enumerate(texts) if "Core-hours GPU-hours Cost" in text] == [
        3, 4, 5, 6, 7,
    ]  # fmt: skip
    assert sum(text.count("physics-md") for text in texts) == 200


# ------------------------------------------------------------------ same bytes


def test_the_same_document_gives_the_same_bytes_in_any_process(example: Json) -> None:
    here = render.draw(example, "th")
    render.draw(a_document(example, lines=9, jobs=9), "en")
    assert render.draw(example, "th") == here
    assert render.draw(dict(reversed(example.items())), "th") == here
    for seed, zone in (("1", "Asia/Bangkok"), ("2", "America/Los_Angeles")):
        there = subprocess.run(
            [sys.executable, "-m", "jobledger_web.render", "--lang", "th"],
            input=json.dumps(example).encode(),
            capture_output=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "TZ": zone},
        )
        assert hashlib.sha256(there.stdout).digest() == hashlib.sha256(here).digest()


def test_another_document_has_another_identifier(example: Json) -> None:
    english = read(render.draw(example, "en")).trailer["/ID"]
    assert english != read(render.draw(example, "th")).trailer["/ID"]
    assert english != read(render.draw(example | {"tier": "gov"}, "en")).trailer["/ID"]
    assert english == read(render.draw(example, "en")).trailer["/ID"]


@pytest.mark.parametrize(
    ("language", "title", "author"),
    [
        ("en", "Invoice INV-2026-000017", "Example University Computing Centre"),
        ("th", "ใบแจ้งหนี้ INV-2026-000017", "ศูนย์คอมพิวเตอร์ มหาวิทยาลัยตัวอย่าง"),
    ],
)
def test_the_file_says_what_it_is(
    example: Json, language: Language, title: str, author: str
) -> None:
    pdf = read(render.draw(example, language))
    assert pdf.metadata is not None
    assert pdf.metadata.title == title
    assert pdf.metadata.author == author
    assert pdf.metadata.creation_date_raw == pdf.metadata.modification_date_raw == "D:20261102"
    assert str(pdf.root_object["/Lang"]) == language
    assert str(pdf.root_object["/MarkInfo"]) == "{'/Marked': True}"  # for screen readers
    bookmarks = [str(entry["/Title"]) for entry in pdf.outline if isinstance(entry, dict)]
    assert bookmarks == [TEXTS[language].invoice, TEXTS[language].annex]


# --------------------------------------------------------------------- refusals


def _set(path: str, value: object) -> Callable[[Json], None]:
    """A change of one part of a document; ``path`` as "totals.total" or "lines.0.net"."""

    def change(document: Json) -> None:
        *way, last = path.split(".")
        part: Any = document
        for step in way:
            part = part[int(step) if step.isdigit() else step]
        part[int(last) if last.isdigit() else last] = value

    return change


REFUSED = [
    (_set("schema", "jobledger.document/2"), "draws 'jobledger.document/1'"),
    (_set("kind", "receipt"), "document.kind is 'receipt'"),
    (_set("number", 17), "document.number is a int; it must be a str"),
    (_set("exponent", 2.0), "document.exponent is a float; it must be a int"),
    (_set("exponent", True), "document.exponent is a bool"),
    (_set("seller", None), "document.seller is a NoneType; it must be an object"),
    (_set("seller", {}), "document.seller lacks address"),
    (_set("lines", {}), "document.lines is a dict; it must be a list"),
    (_set("lines", [{}] * (LIST_MAX + 1)), f"more than {LIST_MAX}"),
    (_set("lines.0.net", 1284.51), r"document.lines\[0\].net is a float"),
    (_set("lines.0.net", "1284.52"), "the net amount of line 1"),
    (_set("lines.0.net", "1.284,51"), "not a decimal number"),
    (_set("lines.0.quantity", "many"), "cannot be drawn"),
    (_set("totals.list_amount", "26324.19"), "does not add up: the list amount"),
    (_set("totals.discount", "21992.88"), "does not add up: the discount"),
    (_set("totals.subtotal", "4331.30"), "does not add up: the subtotal"),
    (_set("totals.tax", "303.18"), "does not add up: the tax"),
    (_set("totals.total", "4634.49"), "does not add up: the total"),
    (_set("totals.total", "4634.480"), "more than 2 decimals"),
    (_set("tax.base", "0.00"), "does not add up: the tax base"),
    (_set("annex.others_cost", "333.59"), "does not add up: the annex of jobs"),
    (_set("annex.jobs.0.end", "yesterday"), "cannot be drawn"),
    (_set("issue_date", "2026-02-30"), "cannot be drawn"),
]


@pytest.mark.parametrize(("change", "why"), REFUSED)
def test_a_document_that_is_wrong_is_not_drawn(
    example: Json, change: Callable[[Json], None], why: str
) -> None:
    change(example)
    with pytest.raises(DocumentUnfit, match=why):
        render.draw(example, "en")


@pytest.mark.parametrize("json_value", [None, [], "text", 7, {}])
def test_what_is_no_document_is_not_drawn(json_value: object) -> None:
    with pytest.raises(DocumentUnfit, match="schema"):
        render.draw(json_value, "en")


@pytest.mark.parametrize(
    ("arguments", "text", "status", "sentence"),
    [
        (["--lang", "en"], b"not JSON", 1, "not JSON"),
        (["--lang", "en"], b"[" * 100_000, 1, "not JSON"),
        (["--lang", "en"], b"{}", 1, "schema"),
        ([], b"{}", 2, "required"),
    ],
)
def test_the_program_refuses_in_one_sentence(
    arguments: list[str], text: bytes, status: int, sentence: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobledger_web.render", *arguments],
        input=text,
        capture_output=True,
        check=False,
    )
    assert done.returncode == status
    assert done.stdout == b""
    assert sentence in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


# ------------------------------------------------------------------ hostile text


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "https://example.org/x.css",
        "file:///etc/passwd",
        "data:text/css,*{color:red}",
        "ftp://example.org/x",
        "asset:../render.py",
        "asset:/etc/passwd",
        "asset:fonts/../../config.py",
        "document.css",
        "",
    ],
)
def test_a_document_can_load_nothing_but_its_assets(url: str) -> None:
    with pytest.raises(ValueError, match="may not load"):
        render.Assets()(url)


def test_every_asset_is_there() -> None:
    for name in render.ASSETS:
        assert render.Assets()(f"asset:{name}").read()


def test_markup_is_printed_not_obeyed(example: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Watched(render.Assets):
        def __call__(self, url: str, headers: object = None) -> URLFetcherResponse:
            asked.append(url)
            return super().__call__(url, headers)

        fetch = __call__

    monkeypatch.setattr(render, "Assets", Watched)
    evil = (
        '<img src="http://169.254.169.254/x"><script>alert(1)</script>'
        "<style>*{display:none}</style>{{ 7*7 }}{% raw %}"
    )
    example["buyer"]["name"] = evil
    example["number"] = '" onload="x'
    example["lines"][0]["name"]["en"] = evil
    example["annex"]["jobs"][0]["user"] = evil
    text = text_of(render.draw(example, "en")).replace(" ", "")
    assert text.count(evil.replace(" ", "")) == 3
    assert '"onload="x' in text
    assert [url for url in asked if not url.startswith("asset:")] == []


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("pay \u202e001\u202c baht", "pay 001 baht"),
        ("a\u2066b\u2069c\u200f", "abc"),
        ("a\x00b\x07c\x1b[31m", "abc[31m"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("Z" + "\u0301" * 50 + "algo", "Z" + "\u0301" * MARKS_MAX + "algo"),
        ("ก" + "\u0e49" * 50, "ก" + "\u0e49" * MARKS_MAX),
        ("น้ำ ป่ำ ผู้ที่", "น้ำ ป่ำ ผู้ที่"),
        ("  two\nlines \n", "two\nlines"),
        ("שלום مرحبا", "שלום مرحبا"),
    ],
)
def test_text_that_would_hide_or_move_others_is_cleaned(text: str, printed: str) -> None:
    assert printable(text) == printed


@given(st.text(max_size=2000))
def test_a_cleaned_text_is_bounded_and_stays_as_it_is(text: str) -> None:
    once = printable(text)
    assert len(once) <= TEXT_MAX_CHARS
    assert once.count("\n") < TEXT_MAX_LINES
    assert printable(once) == once


def _texts() -> st.SearchStrategy[str]:
    """Any text, and often the kinds that shape, turn or stack."""
    return st.one_of(
        st.text(max_size=80),
        st.text(alphabet="กำ้ิ่ปฝญฎุูเแไ\u0e4d ", max_size=80),
        st.sampled_from(
            ["😀👩‍💻", "\u200b\u00ad" * 9, "שלום مرحبا", "中文" * 40, "<b>&amp;</b>", ""]
        ),
    )


@settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking would draw for minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(_texts(), min_size=12, max_size=12), st.sampled_from(["en", "th"]))
def test_any_text_anywhere_draws(texts: list[str], language: Language) -> None:
    document: Json = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    some: Iterator[str] = iter(texts)
    document["seller"] |= {"name": next(some), "name_th": next(some), "address": next(some)}
    document["buyer"] |= {"name": next(some), "contact_name": next(some), "account": next(some)}
    document["lines"][0]["name"] = {"en": next(some), "th": next(some)}
    document["lines"][1] |= {"sku": next(some), "unit": next(some)}
    document["annex"]["jobs"][0] |= {"user": next(some), "project": next(some)}
    pdf = read(render.draw(document, language))
    assert len(pdf.pages) >= 2
    assert pdf.metadata is not None
    assert "INV-2026-000017" in str(pdf.metadata.title)
