"""Draw documents as PDF: the child's side of ``jobledger_collector.pdf``.

Alone in its process, without network and without files but its own assets::

    python -m jobledger_web.render --lang th < document.json > invoice.pdf
    python -m jobledger_web.render --frames      # many, for the parent

The same document gives the same bytes: dates in the PDF are the document's, its
identifier is a hash of its content. Exit status 1 with one sentence on stderr
when a document cannot be drawn.
"""

import argparse
import hashlib
import json
import logging
import re
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import BinaryIO, Final, NamedTuple, Protocol, cast, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from weasyprint import CSS, HTML
from weasyprint import Document as Composed
from weasyprint.text.fonts import FontConfiguration
from weasyprint.urls import URLFetcherResponse

from jobledger_web.documents.page import page_of
from jobledger_web.documents.parts import Page
from jobledger_web.documents.shape import DocumentUnfit, read_document
from jobledger_web.documents.typeface import font_bytes, thai_texts
from jobledger_web.documents.words import Language

MEMORY_MAX_BYTES: Final = 2 * 1024**3
"""Address space of the child."""
CPU_MAX_S: Final = 60
"""Processor time for one document."""
REQUEST_MAX_BYTES: Final = 8 * 1024 * 1024
"""Largest request that is read."""
FILES_MAX: Final = 64
"""Open files of the child."""

IDENTIFIER_BYTES: Final = 16
"""Length of the PDF's own identifier."""
ASSETS: Final[MappingProxyType[str, Callable[[], bytes]]] = MappingProxyType(
    {
        "document.css": files("jobledger_web.documents").joinpath("document.css").read_bytes,
        "mark.svg": files("jobledger_web.documents").joinpath("mark.svg").read_bytes,
        "Sarabun-Regular.ttf": lambda: font_bytes("Regular"),
        "Sarabun-SemiBold.ttf": lambda: font_bytes("SemiBold"),
    }
)
"""All that a document may load."""

FAMILY: Final = "Jobledger-Sarabun"
"""The family that ``document.css`` names, as a PDF spells it."""

_GLYPH_TEXT: Final = re.compile(rb"<([0-9a-f]{4})> <[0-9a-f]*>")
_LENGTH_BYTES: Final = 4
_DRAWN, _REFUSED = b"\x00", b"\x01"


def draw(json_document: object, language: Language) -> bytes:
    """One document as PDF bytes. Raises DocumentUnfit."""
    page = page_of(read_document(json_document), language)
    canonical = json.dumps([language, json_document], sort_keys=True).encode()
    pdf = compose(page).write_pdf(
        pdf_variant="pdf/ua-1",
        pdf_identifier=hashlib.sha256(canonical).digest()[:IDENTIFIER_BYTES],
        finisher=_tell_thai,
    )
    return bytes(pdf)


def compose(page: Page) -> Composed:
    """A page's texts laid out on sheets of A4: where each letter will stand."""
    style = _style()
    return HTML(
        string=_templates().get_template("document.html").render(page=page),
        base_url="asset:/",
        url_fetcher=Assets(),
    ).render(stylesheets=[style.sheet], font_config=style.fonts)


class Assets:
    """What a document may fetch: ASSETS, by the scheme ``asset:``, and nothing else at all."""

    # The drawing library reads it: a refused address ends the drawing, not only the picture.
    _fail_on_errors = True

    def __call__(self, url: str, headers: object = None) -> URLFetcherResponse:
        """The bytes of one asset. Raises ValueError for any other address."""
        del headers
        name = url.removeprefix("asset:")
        if not url.startswith("asset:") or name not in ASSETS:
            raise ValueError(f"A document may not load {url[:80]!r}.")
        return URLFetcherResponse(url, ASSETS[name]())

    fetch = __call__


class _Style(NamedTuple):
    """The style sheet and the fonts that it names."""

    sheet: CSS
    fonts: FontConfiguration


@lru_cache(maxsize=1)
def _style() -> _Style:
    """Read once a process: the fonts are most of the work for a short document."""
    fonts = FontConfiguration()
    assets = Assets()
    return _Style(
        CSS(
            string=assets("asset:document.css").read().decode(),
            base_url="asset:/",
            url_fetcher=assets,
            font_config=fonts,
        ),
        fonts,
    )


@lru_cache(maxsize=1)
def _templates() -> Environment:
    """The templates: all text is escaped, and a name that is missing is an error."""
    return Environment(
        loader=PackageLoader("jobledger_web", "documents"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class _Stream(Protocol):
    """A stream object of a PDF, as far as it is used here."""

    stream: list[bytes]


class _Pdf(Protocol):
    """A PDF before it is written, as far as it is used here."""

    objects: list[object]


def _tell_thai(_: object, pdf: _Pdf) -> None:
    """Give each Thai glyph of the embedded fonts its own text (see ``typeface``)."""
    texts = thai_texts()
    for item in pdf.objects:
        if isinstance(item, dict) and "ToUnicode" in item and FAMILY in str(item["BaseFont"]):
            number = int(item["ToUnicode"].split()[0])
            mapping = cast("_Stream", pdf.objects[number])
            mapping.stream = [_told(line, texts) for line in mapping.stream]


def _told(line: bytes, texts: dict[int, str]) -> bytes:
    """One line of a glyph map: ``<glyph> <text>`` with the glyph's own text where known."""
    match = _GLYPH_TEXT.fullmatch(line)
    text = texts.get(int(match[1], 16)) if match else None
    if match is None or text is None:
        return line
    return b"<%b> <%b>" % (match[1], text.encode("utf-16-be").hex().encode())


def main(arguments: list[str] | None = None) -> int:
    """Draw one document, or many in frames, from stdin to stdout."""
    parser = argparse.ArgumentParser(prog="python -m jobledger_web.render")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--lang", choices=get_args(Language), help="draw the document on stdin")
    mode.add_argument("--frames", action="store_true", help="draw what the parent sends")
    options = parser.parse_args(arguments)
    # A font or a style that is wanting is seen on the page and in the tests.
    logging.getLogger("weasyprint").setLevel(logging.CRITICAL)
    _limit()
    if options.frames:
        return _serve(sys.stdin.buffer, sys.stdout.buffer)
    try:
        sys.stdout.buffer.write(
            draw(_parsed(sys.stdin.buffer.read(REQUEST_MAX_BYTES)), options.lang)
        )
    except DocumentUnfit as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _serve(requests: BinaryIO, answers: BinaryIO) -> int:
    """Answer frames until the parent closes its end."""
    while length := requests.read(_LENGTH_BYTES):
        size = int.from_bytes(length, "big")
        if size > REQUEST_MAX_BYTES:
            return 1
        _allow_cpu()
        status, body = _answer(requests.read(size))
        answers.write(status + len(body).to_bytes(_LENGTH_BYTES, "big") + body)
        answers.flush()
    return 0


def _answer(request: bytes) -> tuple[bytes, bytes]:
    """The PDF, or the sentence that says why there is none."""
    try:
        asked = cast("dict[str, object]", _parsed(request))
        return _DRAWN, draw(asked["document"], _language(asked["language"]))
    except DocumentUnfit as error:
        return _REFUSED, str(error).encode()


def _language(value: object) -> Language:
    """One of the languages, or DocumentUnfit."""
    if value not in get_args(Language):
        raise DocumentUnfit(f"There is no document in {value!r}; choose en or th.")
    return cast("Language", value)


def _parsed(text: bytes) -> object:
    """JSON, or DocumentUnfit. A number with a point stays a float and is refused by its type."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentUnfit(f"The document is not JSON: {error}.") from error


def _limit() -> None:
    """Bound what one process can take from the machine; the parent bounds the wall time."""
    _bound(resource.RLIMIT_AS, MEMORY_MAX_BYTES)
    _bound(resource.RLIMIT_NOFILE, FILES_MAX)
    _bound(resource.RLIMIT_CORE, 0)
    _allow_cpu()


def _bound(what: int, most: int) -> None:
    """Lower one limit for good, or leave it where it is lower already."""
    # A sandbox that forbids limits (systemd's ~@resources) has set its own: MemoryMax, TasksMax.
    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def _allow_cpu() -> None:
    """Give the next document its processor time; the kernel ends the child beyond it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + CPU_MAX_S
    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        bound = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        resource.setrlimit(resource.RLIMIT_CPU, (bound, hard))


if __name__ == "__main__":
    sys.exit(main())
