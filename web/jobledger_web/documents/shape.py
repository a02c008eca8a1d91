"""A document's JSON made into the typed ``Document``: the border of the drawing.

The shape is not written down a second time: it is read from the TypedDicts that
define it, so what is drawn and what is issued cannot drift apart.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Final, Literal, cast, get_args, get_origin, get_type_hints, is_typeddict

from jobledger_collector.core.document import SCHEMA, Document

TEXT_MAX_CHARS: Final = 600
"""Characters printed of one text; the rest is cut and marked with an ellipsis."""
TEXT_MAX_LINES: Final = 8
"""Lines printed of one text, an address for example."""
LIST_MAX: Final = 1000
"""Entries of one list in a document."""

MARKS_MAX: Final = 4
"""Combining marks on one letter, Thai needs two; more would climb over other lines."""

_BIDI_CONTROLS: Final = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_MARK: Final = (
    "["
    + "".join(
        re.escape(chr(code)) for code in range(0x300, 0x20000) if unicodedata.combining(chr(code))
    )
    + "]"
)
_MARKS: Final = re.compile(f"({_MARK}{{{MARKS_MAX}}}){_MARK}+")


class DocumentUnfit(Exception):
    """A document that must not be drawn: says which part of it and why."""


def read_document(json: object) -> Document:
    """The JSON of a document, checked and its texts made safe to print.

    Raises DocumentUnfit when it is another schema, or a part is missing, of the
    wrong type or out of bounds.
    """
    schema = json.get("schema") if isinstance(json, Mapping) else None
    if schema != SCHEMA:
        text = f"The document is of schema {str(schema)[:60]!r}; this program draws {SCHEMA!r}."
        raise DocumentUnfit(text)
    return cast("Document", _conform(json, Document, "document"))


def printable(text: str) -> str:
    """A text without what could hide or move its neighbours on the page.

    Control characters and those that turn the reading direction go; what is
    longer than TEXT_MAX_CHARS or TEXT_MAX_LINES is cut and ends in an ellipsis.
    """
    kept = "".join(c for c in text if c == "\n" or _is_printable(c)).strip()
    lines = _MARKS.sub(r"\1", kept).split("\n")
    short = "\n".join(lines[:TEXT_MAX_LINES])
    if len(lines) > TEXT_MAX_LINES or len(short) > TEXT_MAX_CHARS:
        return short[: TEXT_MAX_CHARS - 1] + "…"
    return short


def _is_printable(char: str) -> bool:
    """Whether a character may reach the page: no control, surrogate or direction mark."""
    return char not in _BIDI_CONTROLS and unicodedata.category(char) not in {"Cc", "Cs", "Co", "Cn"}


def _conform(value: object, kind: object, path: str) -> object:
    """``value`` rebuilt as ``kind`` says, or DocumentUnfit naming ``path``."""
    if is_typeddict(kind):
        return _conform_fields(value, kind, path)
    if get_origin(kind) is list:
        return _conform_list(value, get_args(kind)[0], path)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise DocumentUnfit(f"{path} is {value!r}; it must be one of {get_args(kind)}.")
        return value
    if not isinstance(kind, type) or type(value) is not kind:
        wanted = getattr(kind, "__name__", kind)
        raise DocumentUnfit(f"{path} is a {type(value).__name__}; it must be a {wanted}.")
    return printable(value) if isinstance(value, str) else value


def _conform_fields(value: object, kind: object, path: str) -> dict[str, object]:
    """The fields that ``kind`` names; others are not taken."""
    if not isinstance(value, Mapping):
        raise DocumentUnfit(f"{path} is a {type(value).__name__}; it must be an object.")
    fields = get_type_hints(kind)
    missing = sorted(fields.keys() - value.keys())
    if missing:
        raise DocumentUnfit(f"{path} lacks {', '.join(missing)}.")
    return {name: _conform(value[name], sort, f"{path}.{name}") for name, sort in fields.items()}


def _conform_list(value: object, kind: object, path: str) -> list[object]:
    """A list of ``kind`` with LIST_MAX entries at most."""
    if not isinstance(value, list):
        raise DocumentUnfit(f"{path} is a {type(value).__name__}; it must be a list.")
    if len(value) > LIST_MAX:
        raise DocumentUnfit(f"{path} has {len(value)} entries, more than {LIST_MAX}.")
    return [_conform(entry, kind, f"{path}[{index}]") for index, entry in enumerate(value)]
