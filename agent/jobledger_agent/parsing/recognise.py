"""What a file is, by its content: the beginning of a dump -> how to read it."""

import re
from collections.abc import Sequence
from enum import Enum, auto

from jobledger_agent.parsing.align import KNOWN
from jobledger_agent.parsing.fields import KNOWN_STATES
from jobledger_agent.parsing.knots import Layout, csv_row

MAX_DELIMITER = 64
"""Characters of a delimiter; a random one of 256 bits in hexadecimal fits."""

LEAST_KNOWN = 2
"""Columns of sacct's that a header must name."""

_NAME = re.compile(r"[A-Za-z]+")
_DASHES = re.compile(r"-+( -+)+ ?")
_RECORD = re.compile(r"\d+(?:_\S+|\+\d+)?(?:\.\w+)?[^\w\s.]")


class Kind(Enum):
    """Dumps that are not a table with a header."""

    JSON = auto()
    FIXED_WIDTH = auto()
    """What sacct prints for people: values are cut to the width of a column."""
    HEADERLESS = auto()
    """Records of which nobody can say what their columns are (``sacct -n``)."""


class NotAccounting(Exception):
    """Not a dump of Slurm's accounting; the text says what it looks like."""


def recognise(head: str) -> Layout | Kind:
    """How to read a dump that begins with ``head``. Raises NotAccounting."""
    text = head.lstrip("\ufeff")
    if not text.strip():
        raise NotAccounting("is empty")
    if text.lstrip()[0] == "{":
        return Kind.JSON
    lines = text.split("\n", 2)
    layout = header_layout(lines[0])
    if layout is not None:
        return layout
    if len(lines) > 1 and lines[0].startswith("JobID") and _DASHES.fullmatch(lines[1].strip("\r")):
        return Kind.FIXED_WIDTH
    if _RECORD.match(lines[0]) and any(
        state in re.split(r"\W+", lines[0]) for state in KNOWN_STATES
    ):
        return Kind.HEADERLESS
    if "\x00" in text or text.count("\ufffd") + _surrogates(text) > len(text) // 10:
        raise NotAccounting("is binary")
    raise NotAccounting(f"begins with {lines[0].strip()[:60]!r}")


def header_layout(line: str) -> Layout | None:
    """The columns that this line names; None if it is no header of sacct's."""
    text = line.removesuffix("\r")
    end = line[len(text) :]
    if text.startswith('"'):
        rows = [(csv_row(text, mark), mark) for mark in ",;\t|"]
        tables = [Layout(tuple(row), mark, quoted=True, line_end=end) for row, mark in rows if row]
        return next((table for table in tables if _known(table.names) == len(table.names)), None)
    tables = [
        Layout(tuple(text.split(mark)), mark, quoted=mark in {",", ";"}, line_end=end)
        for mark in sorted(_marks(text), key=len)
    ]
    good = [table for table in tables if _is_header(table.names)]
    return max(good, key=lambda t: (_known(t.names), -len(t.delimiter)), default=None)


def _marks(text: str) -> set[str]:
    """Delimiters that may stand between the first name and the next."""
    low = text.lower()
    first = [len(name) for name in KNOWN if low.startswith(name)]
    return {
        text[size : size + width]
        for size in first
        for width in range(1, MAX_DELIMITER + 1)
        if size + width < len(text) or (size + width == len(text) and text.endswith("|"))
    }


def _known(names: Sequence[str]) -> int:
    return sum(name.lower() in KNOWN for name in names) + (names[-1] == "")


def _is_header(names: Sequence[str]) -> bool:
    """Whether these are columns of sacct's, perhaps with some of a newer version."""
    low = {name.lower() for name in names}
    known = len(low & KNOWN)
    if not low & {"jobid", "jobidraw"} or known < LEAST_KNOWN or known * 2 < len(names):
        return False
    return all(_NAME.fullmatch(name) for name in names[:-1]) and (
        names[-1] == "" or _NAME.fullmatch(names[-1]) is not None
    )


def _surrogates(text: str) -> int:
    return sum("\ud800" <= char <= "\udfff" for char in text)


def fixed_width_missing(header: str, needed: Sequence[str]) -> tuple[str, ...]:
    """Which of the ``needed`` columns a header for people does not have."""
    names = set(header.split())
    return tuple(name for name in needed if name not in names)
