"""The only place where ``jobledger`` writes to a person or a script."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

NUMERIC_CHARACTERS = frozenset("0123456789.-+")
COLUMN_GAP = "  "


def say(out: TextIO, line: str = "") -> None:
    """Write one line of text."""
    out.write(line + "\n")


def json_line(out: TextIO, row: Mapping[str, object]) -> None:
    """Write one JSON object on a line of its own, keys in the order given."""
    out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def table(out: TextIO, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write rows in aligned columns, numbers to the right; nothing wraps."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [
        max([len(heading), *(len(row[i]) for row in cells)]) for i, heading in enumerate(headings)
    ]
    numeric = [
        bool(cells) and all(NUMERIC_CHARACTERS.issuperset(row[i]) for row in cells)
        for i in range(len(headings))
    ]
    for row in [list(headings), *cells]:
        line = COLUMN_GAP.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        say(out, line.rstrip())


def printable(text: str) -> str:
    """Keep a hostile name from moving a terminal's cursor."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
