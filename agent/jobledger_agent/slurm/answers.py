"""One answer of sacct's -> readings, every record of it validated.

Columns end with a random text that no user can know, so that a name cannot
forge a record. What has not exactly the columns that were asked for is not an
answer, and nothing after it is believed.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import BinaryIO, NamedTuple

from jobledger_agent.parsing.bytestream import LongLine, Tail, lines
from jobledger_agent.parsing.fold import Fold
from jobledger_agent.parsing.knots import MAX_RECORD_CHARS
from jobledger_agent.parsing.parsable import Item
from jobledger_agent.parsing.rows import Origin, Row, RowReader, StepRow
from jobledger_agent.reading.accounting import StepUse
from jobledger_agent.records.job import UNKNOWN, Reading, SlurmJob, Unreadable, set_aside
from jobledger_agent.source import SourceError

JOB_COLUMNS = (
    "Cluster",
    "JobIDRaw",
    "JobID",
    "DBIndex",
    "Submit",
    "Eligible",
    "Start",
    "End",
    "ElapsedRaw",
    "Suspended",
    "State",
    "ExitCode",
    "AllocTRES",
    "ReqTRES",
    "AllocCPUS",
    "NNodes",
    "NodeList",
    "UID",
    "User",
    "Account",
    "AssocID",
    "Partition",
    "QOS",
    "ReservationId",
    "WCKey",
    "TimelimitRaw",
)
"""Columns that every Slurm from 20.11 on has."""
NEWER_COLUMNS = ("Restarts", "SLUID")
"""Columns that are asked for where Slurm has them (24.11 on)."""
STEP_COLUMNS = ("Cluster", "JobIDRaw", "DBIndex", "Submit", "Start", "End", "State", "AllocTRES",
                "TotalCPU", "MaxRSS")  # fmt: skip
"""Columns of the question about steps."""


class Question(NamedTuple):
    """What an answer must fit: one cluster, and a span of End ((0, 0): any)."""

    cluster: str
    columns: Sequence[str]
    nonce: str
    span: tuple[int, int]
    observed: int

    @property
    def what(self) -> str:
        """The question in words."""
        return f"sacct for cluster {self.cluster}"


def job_readings(answer: BinaryIO, question: Question) -> Iterator[Reading]:
    """The jobs of an answer. Raises SourceError where it is not what was asked for."""
    fold = Fold(question.what)
    for items in _items(answer, question):
        for item in items:
            if isinstance(item, SlurmJob):
                _check(item, question)
        yield from fold.feed(items)
    yield from fold.finish()


def step_use(answer: BinaryIO, question: Question) -> dict[tuple[int, int], StepUse]:
    """What the steps of an answer add up to, by job id and row (DBIndex)."""
    found: dict[tuple[int, int], StepUse] = {}
    for items in _items(answer, question):
        for item in items:
            if isinstance(item, StepRow) and item.cluster == question.cluster:
                key = (item.job_id, item.row_index)
                found[key] = _added(found.get(key, StepUse(UNKNOWN, UNKNOWN, 0)), item)
    return found


def _added(use: StepUse, step: StepRow) -> StepUse:
    known = [ms for ms in (use.total_cpu_ms, step.total_cpu_ms) if ms != UNKNOWN]
    return StepUse(
        sum(known) if known else UNKNOWN,
        max(use.max_rss_bytes, step.max_rss_bytes),
        use.steps + 1,
    )


def _items(answer: BinaryIO, question: Question) -> Iterator[list[Item]]:
    reader = RowReader(question.columns, Origin(question.cluster, {}, UTC, question.observed))
    for records in _records(answer, question):
        yield _read(records, reader, question)


def _records(answer: BinaryIO, question: Question) -> Iterator[list[Row]]:
    """The fields of each record; it ends where the random delimiter says, not where a line does.

    A name may hold newlines: wherever enforcement is off, a user writes any account.
    """
    nonce, wanted = question.nonce, len(question.columns)
    waiting = _Waiting([], 0, 0)
    for block in lines(answer):
        if isinstance(block, LongLine):
            raise SourceError(f"{question.what} wrote a line of {block.size} bytes; try again")
        if isinstance(block, Tail):
            if block.text or waiting.parts:
                raise SourceError(f"the answer of {question.what} is cut off; it is asked again")
            return
        rows: list[Row] = [line.split(nonce) for line in block]
        if not waiting.parts and all(len(row) == wanted + 1 and not row[-1] for row in rows):
            yield [row[:-1] for row in rows]
            continue
        found: list[Row] = []
        for line in block:
            waiting = waiting.joined(line, nonce)
            if waiting.delimiters >= wanted:
                found.append(_closed(waiting, question))
                waiting = _Waiting([], 0, 0)
            elif waiting.chars > MAX_RECORD_CHARS:
                raise _no_record(question, f"it is longer than {MAX_RECORD_CHARS} characters")
        yield found


class _Waiting(NamedTuple):
    """Lines of a record whose end has not come, and what is in them."""

    parts: list[str]
    delimiters: int
    chars: int

    def joined(self, line: str, nonce: str) -> "_Waiting":
        if not line and not self.parts:
            return self
        self.parts.append(line)
        return _Waiting(self.parts, self.delimiters + line.count(nonce), self.chars + len(line) + 1)


def _closed(waiting: _Waiting, question: Question) -> Row:
    """The fields of a record all of whose delimiters are there. Raises SourceError."""
    row = "\n".join(waiting.parts).split(question.nonce)
    if row.pop() or len(row) != len(question.columns):
        raise _no_record(question, f"{len(row)} fields instead of {len(question.columns)}")
    return row


def _no_record(question: Question, why: str) -> SourceError:
    return SourceError(
        f"the answer of {question.what} holds a line that is no record ({why});"
        " nothing after it is taken, it is asked again"
    )


def _read(rows: Sequence[Row], reader: RowReader, question: Question) -> list[Item]:
    """Each record by itself: one that cannot be read costs its neighbours nothing.

    Nobody can have forged these: what is odd about them is for the collector to judge.
    """
    steps = [i for i, row in enumerate(rows) if reader.is_step(row)]
    if not steps:
        read: list[Item | None] = list(reader.jobs(rows, cross_check=False))
    else:
        read = [None] * len(rows)
        jobs = sorted(set(range(len(rows))).difference(steps))
        told = reader.jobs([rows[i] for i in jobs], cross_check=False)
        for at, item in zip(jobs, told, strict=True):
            read[at] = item
        for at, step in zip(steps, reader.steps([rows[i] for i in steps]), strict=True):
            read[at] = step
    return [item or _aside(row, reader, question) for item, row in zip(read, rows, strict=True)]


def _aside(row: Row, reader: RowReader, question: Question) -> Unreadable:
    """A record set aside without the random delimiter, which changes with each question."""
    if reader.is_step(row):
        reason = "a step's row of which some figure cannot be read"
    else:
        reason = reader.fault(row, cross_check=False)
    return set_aside(question.cluster, question.what, reason, "|".join((*row, "")))


def _check(job: SlurmJob, question: Question) -> None:
    """Raise SourceError for a record that the question cannot have."""
    if job.cluster != question.cluster:
        raise SourceError(
            f"{question.what} answered with job {job.job_id} of cluster {job.cluster};"
            " check slurm_conf and the cluster's name"
        )
    begin, end = question.span
    # Slurm adds a second to an end that is now.
    if end and not begin <= job.end <= end + 1:
        raise SourceError(
            f"{question.what} answered with job {job.job_id} that ended at {job.end},"
            f" outside of {begin} to {end}; it is asked again"
        )
