"""Lines that are no record by themselves, read together with their neighbours.

Three rules. A record may go on after a newline in one of its names, so lines
are joined until they are one. Text in a name that looks like a record is not
taken for one: if joining says something other than the lines alone, the lines
are set aside together. And a broken line costs its neighbours nothing.
"""

import csv
from collections.abc import Sequence
from typing import NamedTuple

from jobledger_agent.align import Aligner
from jobledger_agent.job import SlurmJob
from jobledger_agent.rows import Row, RowReader, StepRow

MAX_JOINED_LINES = 64
"""Lines that one record may span through newlines in its names."""
MAX_RECORD_CHARS = 262_144
"""Length of one record: twenty times what Slurm's own limits allow."""

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

    @property
    def guessable(self) -> bool:
        """Whether a user may have written the delimiter into a name."""
        return len(self.delimiter) == 1

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

    def __init__(self, layout: Layout, aligner: Aligner, reader: RowReader) -> None:
        self._layout = layout
        self._aligner = aligner
        self._reader = reader

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
        group = self._joined(lines, alone, before.begin, at)
        if group is None or any(read is not None for read in alone[at : group.end]):
            return None
        return group if group.read == before.read else group._replace(read=None, reason=EITHER)

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
        """The shortest group from ``begin`` that takes in line ``least``."""
        progress = self._aligner.starts()
        swallowed = False
        for last in range(begin, _limit(lines, begin)):
            swallowed = swallowed or (last > begin and alone[last] is not None)
            complete = progress.line(lines[last].split(self._layout.delimiter))
            if not progress.alive:
                return None
            if complete and last >= least:
                pieces = "\n".join(lines[begin : last + 1]).split(self._layout.delimiter)
                said = self._said(self._aligner.readings(pieces))
                if said:
                    certain = len(said) == 1 and not swallowed
                    end = last + 1
                    return Group(begin, end, said[0] if certain else None, EITHER)
        return None

    def _said(self, rows: Sequence[Row]) -> list[Read]:
        """The different things that these rows say, unreadable ones left out."""
        jobs = [row for row in rows if not self._reader.is_step(row)]
        steps = [row for row in rows if self._reader.is_step(row)]
        check = self._layout.guessable
        said = [*self._reader.jobs(jobs, cross_check=check), *self._reader.steps(steps)]
        return list({read: None for read in said if read is not None})

    def _why(self, line: str) -> str:
        row = self._layout.split(line)
        wanted = len(self._layout.names)
        if len(row) != wanted:
            return f"{len(row)} fields instead of {wanted}"
        if self._reader.is_step(row):
            return "a step's row of which some figure cannot be read"
        return self._reader.fault(row, cross_check=self._layout.guessable)


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
