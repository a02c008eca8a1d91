"""An invoice on paper: what stands on it, in both languages, and the same each time."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_web import render
from jobledger_web.documents.figures import date_range, figure, grouped, long_date, minor_of
from jobledger_web.documents.texts import TEXTS
from jobledger_web.documents.words import Language
from tests.web.paper import Json, a_document, example_document, read, text_of


@pytest.fixture
def example() -> Json:
    return example_document()


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
    "Annex: jobs Job runs behind this document: 61, costliest first.",
    "alpha 1041 alice physics-md 2026-10-30 23:41 812.50 96.25 2,500.00",
    "beta 88 สมชาย physics 2026-10-02 18:22 72.013889 0.00 300.10",
    "alpha 903 alice physics-md earlier period 2026-09-28 11:00 −3.50 0.00 −3.50",
    "Further job runs, listed in the CSV of this document: 57 333.58",
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


# ------------------------------------------------------------------ same bytes


def test_the_same_document_gives_the_same_bytes_in_any_process(
    example: Json, tmp_path: Path
) -> None:
    here = render.draw(example, "th")
    render.draw(a_document(example, lines=9, jobs=9), "en")
    assert render.draw(example, "th") == here
    assert render.draw(dict(reversed(example.items())), "th") == here
    no_fonts = tmp_path / "fonts.conf"
    no_fonts.write_text("<fontconfig></fontconfig>", encoding="utf-8")
    for elsewhere in (
        {"PYTHONHASHSEED": "1", "TZ": "Asia/Bangkok"},
        {"PYTHONHASHSEED": "2", "TZ": "America/Los_Angeles", "FONTCONFIG_FILE": str(no_fonts)},
    ):
        there = subprocess.run(
            [sys.executable, "-m", "jobledger_web.render", "--lang", "th"],
            input=json.dumps(example).encode(),
            capture_output=True,
            check=True,
            env=os.environ | elsewhere,
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
