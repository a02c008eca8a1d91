"""Delimited dumps and CSV: lines -> job rows, step rows, and what is neither.

The usual line is read in blocks, column by column; ``knots`` reads those that
are no record by themselves.
"""

from collections.abc import Sequence
from operator import itemgetter

from jobledger_agent.parsing import fields
from jobledger_agent.parsing.align import Aligner
from jobledger_agent.parsing.knots import Group, Knots, Layout, Read
from jobledger_agent.parsing.rows import GOOD_COMMAND, STEP_MARK, USED, RowReader, StepRow
from jobledger_agent.records.job import SlurmJob, Unreadable, set_aside

Item = SlurmJob | StepRow | Unreadable


class Lines:
    """Reads the lines of one dump in the order in which they come.

    ``cluster`` is what unreadable lines are filed under. ``first`` is the
    number of the first line after the header. ``cross_check`` also sets aside
    rows whose figures contradict each other: they are damaged or forged.
    """

    def __init__(
        self,
        layout: Layout,
        reader: RowReader,
        *,
        origin: str,
        cluster: str,
        first: int = 2,
        cross_check: bool = True,
    ) -> None:
        self._layout = layout
        self._reader = reader
        self._origin = origin
        self._cluster = cluster
        self._aligner = Aligner(layout.names, layout.delimiter, USED)
        self._knots = Knots(layout, self._aligner, reader, cross_check=cross_check)
        self._cross_check = cross_check
        self._waiting: list[str] = []
        self._number = first

    def feed(self, lines: Sequence[str], *, final: bool = False) -> list[Item]:
        """What these lines say, with those that waited; ``final``: no more follow.

        The last record waits for the next lines: they may be a part of it.
        """
        if self._layout.line_end:
            lines = [line.removesuffix(self._layout.line_end) for line in lines]
        everything = [*self._waiting, *lines]
        if self._reader.missing:
            items: list[Item] = self._lacking(everything)
            self._keep(everything, len(everything))
            return items
        alone = self._alone(everything)
        stop = len(everything) if final else max(0, len(everything) - 1)
        if None not in alone:
            self._keep(everything, stop)
            return [read for read in alone[:stop] if read is not None]
        groups, settled = self._knots.groups(everything, alone, final=final)
        items = [group.read or self._aside(everything, group) for group in groups]
        self._keep(everything, settled)
        return items

    def tail(self, line: str) -> tuple[list[Item], str]:
        """What follows the last newline of a file, and what is wrong with it.

        A value at the very end may have lost its own end: such a record is
        taken only if that cannot change what it says.
        """
        line = line.removesuffix(self._layout.line_end)
        if not line:
            return [], ""
        if self._reader.missing:
            return self._lacking([line]), ""
        read = self._alone([line])[0]
        last, value = self._layout.names[-1].lower(), self._layout.split(line)[-1]
        if read and (last not in USED or line.endswith('"') or value in fields.KNOWN_STATES):
            return [read], ""
        origin = f"{self._origin} line {self._number}"
        fault = "it ends in the middle of a record"
        return [set_aside(self._cluster, origin, f"truncated: {fault}", line)], fault

    def pass_over(self) -> str:
        """Count a line that was not fed; where it is. Feed ``final`` before."""
        self._number += 1
        return f"{self._origin} line {self._number - 1}"

    def _keep(self, lines: Sequence[str], settled: int) -> None:
        self._waiting = list(lines[settled:])
        self._number += settled

    def _aside(self, lines: Sequence[str], group: Group) -> Unreadable:
        text = "\n".join(lines[group.begin : group.end])
        origin = f"{self._origin} line {self._number + group.begin}"
        return set_aside(self._cluster, origin, group.reason, text)

    def _alone(self, lines: Sequence[str]) -> list[Read | None]:
        """What each line says by itself; None for one that is no record."""
        split, wanted = self._layout.split, len(self._layout.names)
        if self._layout.quoted:
            rows = [split(line) for line in lines]
        else:
            delimiter = self._layout.delimiter
            rows = [line.split(delimiter) for line in lines]
        fit = [i for i, row in enumerate(rows) if len(row) == wanted]
        raw_ids = list(map(itemgetter(self._reader.raw_id), map(rows.__getitem__, fit)))
        if STEP_MARK not in "".join(raw_ids):
            jobs, steps = fit, []
        else:
            jobs = [i for i, raw in zip(fit, raw_ids, strict=True) if STEP_MARK not in raw]
            steps = [i for i, raw in zip(fit, raw_ids, strict=True) if STEP_MARK in raw]
        if len(jobs) == len(rows):
            return self._read_jobs(rows)
        read: list[Read | None] = [None] * len(rows)
        for i, job in zip(jobs, self._read_jobs([rows[i] for i in jobs]), strict=True):
            read[i] = job
        for i, step in zip(steps, self._read_steps([rows[i] for i in steps]), strict=True):
            read[i] = step
        return read

    def _read_jobs(self, rows: Sequence[Sequence[str]]) -> list[Read | None]:
        jobs: list[Read | None] = list(self._reader.jobs(rows, cross_check=self._cross_check))
        return self._without_invalid(rows, jobs, every=False)

    def _read_steps(self, rows: Sequence[Sequence[str]]) -> list[Read | None]:
        steps: list[Read | None] = list(self._reader.steps(rows))
        return self._without_invalid(rows, steps, every=True)

    def _without_invalid(
        self, rows: Sequence[Sequence[str]], read: list[Read | None], *, every: bool
    ) -> list[Read | None]:
        if rows and self._cross_check:
            for i in self._aligner.invalid(list(zip(*rows, strict=True)), every=every):
                read[i] = None
        return read

    def _lacking(self, lines: Sequence[str]) -> list[Item]:
        """Every job's line set aside: this dump lacks columns that a price needs."""
        lacks = ", ".join(self._reader.missing)
        reason = f"the dump has no {lacks}; take it again with: {GOOD_COMMAND}"
        found: list[Item] = []
        for number, line in enumerate(lines, self._number):
            row = self._layout.split(line)
            step = len(row) == len(self._layout.names) and self._reader.is_step(row)
            if line and not step:
                origin = f"{self._origin} line {number}"
                found.append(set_aside(self._cluster, origin, reason, line))
        return found
