"""What is no fit document, and text that would do harm: refused, or made harmless."""

import io
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from weasyprint.urls import URLFetcherResponse

from jobledger_web import render
from jobledger_web.documents.shape import (
    LIST_MAX,
    MARKS_MAX,
    TEXT_MAX_CHARS,
    TEXT_MAX_LINES,
    DocumentUnfit,
    printable,
)
from jobledger_web.documents.words import Language
from tests.web.paper import Json, example_document, read, text_of


@pytest.fixture
def example() -> Json:
    return example_document()


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


def test_a_sandbox_that_forbids_limits_forbids_no_document(
    example: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Under SystemCallFilter=~@resources the kernel refuses; systemd bounds the unit itself.
    def refuse_get(what: int) -> tuple[int, int]:
        raise PermissionError(1, f"no limit {what}")

    monkeypatch.setattr(resource, "getrlimit", refuse_get)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(example).encode())))
    paper = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", paper)
    assert render.main(["--lang", "en"]) == 0
    assert paper.buffer.getvalue().startswith(b"%PDF")


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
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking would draw for minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(_texts(), min_size=12, max_size=12), st.sampled_from(["en", "th"]))
def test_any_text_anywhere_draws(texts: list[str], language: Language) -> None:
    document = example_document()
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
