"""Lines that are no record by themselves, read together with their neighbours.

Three rules. A record may go on after a newline in one of its names, so lines
are joined until they are one. Text in a name that looks like a record is not
taken for one: if joining says something else than the lines alone, the lines
are set aside together. And a line that is merely damaged costs its neighbours
nothing. No rule can make a delimiter safe that users can type: only a dump with
a random one is.
"""

import csv
from collections.abc import Sequence
from typing import NamedTuple

from jobledger_agent.parsing.align import Aligner
from jobledger_agent.parsing.rows import Row, RowReader, StepRow
from jobledger_agent.records.job import SlurmJob

MAX_JOINED_LINES = 64
"""Lines that one record may span through newlines in its names."""
MAX_RECORD_CHARS = 262_144
"""Length of one record: twenty times what Slurm's own limits allow."""

MAX_SWALLOWED_LINES = 16
"""Lines within which a name that holds whole records is looked for."""
MAX_DAMAGED = 2
"""Values that may be wrong in a line that is still one damaged record."""

EITHER = "this may be one record or several, for a name holds a delimiter or a newline"

Read = SlurmJob | StepRow


class Group(NamedTuple):
    """Lines ``begin`` to ``end`` (exclusive) and what they are: a record or a reason."""

    begin: int
    end: int
    read: Read | None
    reason: str


class Layout(NamedTuple):
    """What the header of a dump says. ``quoted``: its fields may be quoted (CSV)."""

    names: tuple[str, ...]
    delimiter: str
    quoted: bool
    line_end: str = ""
    """What lines end in besides the newline: a carriage return, or nothing."""

    def split(self, line: str) -> Row:
        """The fields of one line; of a quoted line that is not CSV, its pieces."""
        if self.quoted and '"' in line:
            row = csv_row(line, self.delimiter)
            if row is not None:
                return row
        return line.split(self.delimiter)


def csv_row(text: str, delimiter: str) -> Row | None:
    """The fields of one CSV record; None where it is unfinished or not CSV."""
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True), None)
    except csv.Error:
        return None


class Knots:
    """Finds the groups among lines of which some are no record by themselves."""

    def __init__(
        self, layout: Layout, aligner: Aligner, reader: RowReader, *, cross_check: bool
    ) -> None:
        self._layout = layout
        self._aligner = aligner
        self._reader = reader
        self._cross_check = cross_check

    def groups(
        self, lines: Sequence[str], alone: Sequence[Read | None], *, final: bool
    ) -> tuple[list[Group], int]:
        """The groups, and how many lines they settle; the rest waits for more lines.

        ``alone`` is what each line says by itself. Blank lines and repeated
        headers are in no group.
        """
        found: list[Group] = []
        at = 0
        while at < len(lines):
            read = alone[at]
            if read is not None:
                found.append(Group(at, at + 1, read, ""))
                at += 1
            elif self._empty(lines[at]):
                at += 1
            elif not final and _short(lines, at):
                break
            else:
                at = self._knot(lines, alone, at, found)
        # What waits, or comes next, may still belong to the last record.
        if not final and found and found[-1].read is not None:
            at = found.pop().begin
        return found, at

    def _empty(self, line: str) -> bool:
        names = tuple(name.lower() for name in self._layout.split(line.lower()))
        return not line or names == tuple(name.lower() for name in self._layout.names)

    def _knot(
        self, lines: Sequence[str], alone: Sequence[Read | None], at: int, found: list[Group]
    ) -> int:
        """Settle the line ``at``; where to go on."""
        group = self._quoted(lines, at) or self._joined(lines, alone, at, at)
        if group is None and found and found[-1].read is not None:
            group = self._continued(lines, alone, found[-1], at)
            if group is not None:
                found.pop()
        if group is None:
            group = Group(at, at + 1, None, self._why(lines[at]))
        found.append(group)
        return group.end

    def _continued(
        self, lines: Sequence[str], alone: Sequence[Read | None], before: Group, at: int
    ) -> Group | None:
        """The record before the line ``at``, if that line may be a part of it."""
        row = self._layout.split(lines[at])
        if len(row) == len(self._layout.names) and self._aligner.misfits(row) <= MAX_DAMAGED:
            return None
        group = self._joined(lines, alone, before.begin, at)
        if group is None or any(read is not None for read in alone[at : group.end]):
            return None
        if _priced(group.read) != _priced(before.read):
            return group._replace(read=None, reason=EITHER)
        # A text goes on, and what goes on cannot be a record of its own.
        return group._replace(read=before.read) if len(row) == 1 else None

    def _quoted(self, lines: Sequence[str], begin: int) -> Group | None:
        if not self._layout.quoted or '"' not in lines[begin]:
            return None
        for end in range(begin + 1, _limit(lines, begin) + 1):
            row = csv_row("\n".join(lines[begin:end]), self._layout.delimiter)
            if row is not None and len(row) == len(self._layout.names):
                said = self._said([row])
                return Group(begin, end, said[0], "") if said else None
        return None

    def _joined(
        self, lines: Sequence[str], alone: Sequence[Read | None], begin: int, least: int
    ) -> Group | None:
        """The shortest group from ``begin`` that takes in line ``least``.

        If lines that are records by themselves would be swallowed, it is in
        doubt, and reaches to a line that is none, if there is one near.
        """
        progress = self._aligner.starts()
        doubt: Group | None = None
        swallowed = False
        for last in range(begin, _limit(lines, begin)):
            swallowed = swallowed or (last > begin and alone[last] is not None)
            if swallowed and last - begin > MAX_SWALLOWED_LINES:
                break
            complete = progress.line(lines[last].split(self._layout.delimiter))
            if not progress.alive:
                break
            if complete and last >= least:
                group = self._group(lines, begin, last + 1)
                if group is not None and not swallowed:
                    return group
                if group is not None:
                    doubt = doubt if doubt and alone[last] is not None else group
                    doubt = doubt._replace(read=None)
                    if alone[last] is None:
                        break
        return doubt

    def _group(self, lines: Sequence[str], begin: int, end: int) -> Group | None:
        """These lines as one record; in doubt if they say several things, None if nothing."""
        pieces = "\n".join(lines[begin:end]).split(self._layout.delimiter)
        said = self._said(self._aligner.readings(pieces))
        if not said:
            return None
        certain = len(said) == 1 and not self._glued(pieces)
        return Group(begin, end, said[0] if certain else None, EITHER)

    def _glued(self, pieces: Sequence[str]) -> bool:
        """Whether these may be two records that lost the newline between them."""
        wanted = len(self._layout.names)
        if len(pieces) != 2 * wanted - 1:
            return False
        first, second = [*pieces[: wanted - 1], pieces[-1]], [pieces[0], *pieces[wanted:]]
        return self._aligner.misfits(first) == self._aligner.misfits(second) == 0

    def _said(self, rows: Sequence[Row]) -> list[Read]:
        """The different things that these rows say, unreadable ones left out.

        If they differ in nothing but a text that has no price, it is left empty.
        """
        jobs = [row for row in rows if not self._reader.is_step(row)]
        steps = [row for row in rows if self._reader.is_step(row)]
        read = [
            *self._reader.jobs(jobs, cross_check=self._cross_check),
            *self._reader.steps(steps),
        ]
        said = list({one: None for one in read if one is not None})
        if len(said) > 1:
            bare = {_without_texts(one) for one in said}
            return list(bare) if len(bare) == 1 else said
        return said

    def _why(self, line: str) -> str:
        row = self._layout.split(line)
        wanted = len(self._layout.names)
        if len(row) != wanted:
            return f"{len(row)} fields instead of {wanted}"
        if self._reader.is_step(row):
            return "a step's row of which some figure cannot be read"
        return self._reader.fault(row, cross_check=self._cross_check)


def _limit(lines: Sequence[str], begin: int) -> int:
    """The line after the last that a record from ``begin`` may reach."""
    size = 0
    for end in range(begin, min(len(lines), begin + MAX_JOINED_LINES)):
        size += len(lines[end])
        if size > MAX_RECORD_CHARS:
            return max(end, begin + 1)
    return min(len(lines), begin + MAX_JOINED_LINES)


def _short(lines: Sequence[str], at: int) -> bool:
    """Whether lines still to come could change what the line ``at`` means."""
    return len(lines) - at < MAX_JOINED_LINES and sum(map(len, lines[at:])) < MAX_RECORD_CHARS


def _without_texts(read: Read) -> Read:
    """A record without the texts that a user writes and nobody prices."""
    if isinstance(read, SlurmJob):
        return read._replace(wckey="", reservation="")
    return read._replace(row=())


def _priced(read: Read | None) -> Read | None:
    """What of a record can change a price."""
    if isinstance(read, SlurmJob):
        bare = read._replace(state="", cancelled_by_uid=0, exit_code=0, exit_signal=0)
        return _without_texts(bare)
    return None if read is None else _without_texts(read)
