"""A document as a person wrote it: values that still know their line.

The edge reads YAML into Nodes; the parsers of rate cards and accounts take
Nodes apart. Every refusal names the file, the line and the key, and says what
would be right.
"""

import datetime as dt
import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, NoReturn

from jobledger_collector.core.errors import CollectorError
from jobledger_collector.core.money import parse_decimal

MAX_TEXT_CHARACTERS: Final = 2_000
"""Longest text in a document: beyond any address, short of mischief."""
NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class InvalidDocument(CollectorError):
    """A document says something that cannot be meant; the message says where."""

    exit_code: ClassVar[int] = 5


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document with where it stands.

    ``key`` is the path from the top ("skus[2].price.mu"); ``line`` counts from 1.
    """

    value: "dict[str, Node] | list[Node] | str | int | bool | None"
    file: str
    line: int
    key: str

    def refuse(self, problem: str) -> NoReturn:
        """Raise InvalidDocument about this value."""
        where = f"{self.file}, line {self.line}"
        raise InvalidDocument(
            f"{where}: {self.key}: {problem}" if self.key else f"{where}: {problem}"
        )

    def fields(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, "Node"]:
        """Return the mapping's values by key; refuses a missing and an unknown key."""
        fields = self.mapping()
        known = (*required, *optional)
        for name, node in fields.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f'did you mean "{near[0]}"?' if near else "known are " + ", ".join(known)
                node.refuse(f"unknown key; {hint}")
        missing = [name for name in required if name not in fields]
        if missing:
            self.refuse(f'the key "{missing[0]}" is missing here')
        return fields

    def mapping(self) -> dict[str, "Node"]:
        """Return the values by key, whatever the keys are."""
        if not isinstance(self.value, dict):
            self.refuse("must be a mapping of keys to values")
        return self.value

    def items(self) -> list["Node"]:
        """Return the values of a list."""
        if not isinstance(self.value, list):
            self.refuse("must be a list: write each entry on its own line after a dash")
        return self.value

    def text(self) -> str:
        """Return a text, which may be empty."""
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            self.refuse(f'must be text: write "{self.value}" with the quotes')
        if not isinstance(self.value, str):
            self.refuse("must be text")
        if len(self.value) > MAX_TEXT_CHARACTERS:
            self.refuse(f"is longer than {MAX_TEXT_CHARACTERS} characters")
        return self.value

    def name(self) -> str:
        """Return an identifier: letters, digits, dots, dashes and underscores."""
        name = self.text()
        if not NAME_PATTERN.fullmatch(name):
            self.refuse(
                f'"{name}" is not a name: use up to 64 letters, digits, ".", "-" and "_",'
                " beginning with a letter or digit"
            )
        return name

    def whole(self, least: int, most: int) -> int:
        """Return a whole number within bounds."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            self.refuse("must be a whole number")
        if not least <= self.value <= most:
            self.refuse(f"must be between {least} and {most}")
        return self.value

    def decimal(self, scale: int, most: int) -> int:
        """Return a quoted decimal from 0 to ``most`` as an integer of 1/scale."""
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            self.refuse(f'numbers of money are written as text: "{self.value}" with the quotes')
        text = self.text()
        try:
            value = parse_decimal(text, scale)
        except ValueError as error:
            self.refuse(str(error))
        if not 0 <= value <= most * scale:
            self.refuse(f'"{text}" must be between 0 and {most}')
        return value

    def boolean(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            self.refuse("must be true or false")
        return self.value

    def choice(self, known: Sequence[str]) -> str:
        """Return one of the texts that are known."""
        text = self.text()
        if text not in known:
            near = difflib.get_close_matches(text, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else "known are " + ", ".join(known)
            self.refuse(f'"{text}" is not known here; {hint}')
        return text

    def instant(self) -> int:
        """Return a date and time with its offset as epoch seconds."""
        text = self.text()
        example = "for example 2026-10-01T00:00:00+07:00"
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            self.refuse(f'"{text}" is not a date and time; write it with its offset, {example}')
        if moment.tzinfo is None:
            self.refuse(f'"{text}" does not say in which zone it is; add the offset, {example}')
        if moment.microsecond:
            self.refuse(f'"{text}" has fractions of a second; Slurm counts whole ones')
        epoch_s = int(moment.timestamp())
        if epoch_s <= 0:
            self.refuse(f'"{text}" is before 1970')
        return epoch_s

    def unique(self, nodes: Sequence["Node"], values: Sequence[str]) -> None:
        """Refuse the second of two equal values; ``nodes`` are where they stand."""
        seen: set[str] = set()
        for node, value in zip(nodes, values, strict=True):
            if value in seen:
                node.refuse(f'"{value}" is there twice')
            seen.add(value)

    def texts(self) -> Iterator[str]:
        """Yield one text, or the texts of a list of them."""
        if isinstance(self.value, list):
            yield from (node.text() for node in self.value)
        else:
            yield self.text()
