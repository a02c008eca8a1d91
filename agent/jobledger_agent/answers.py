"""One answer of sacct's -> readings, every record of it validated.

Columns end with a random text that no user can know, so that a name cannot
forge a record. What has not exactly the columns that were asked for is not an
answer, and nothing after it is believed.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import BinaryIO, NamedTuple

from jobledger_agent.bytestream import LongLine, Tail, lines
from jobledger_agent.fold import Fold
from jobledger_agent.job import UNKNOWN, Reading, SlurmJob, Unreadable
from jobledger_agent.knots import Layout
from jobledger_agent.parsable import Item, Lines
from jobledger_agent.rows import Origin, RowReader, StepRow
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


class StepUse(NamedTuple):
    """What the steps of one run add up to; fields as in SlurmJob."""

    total_cpu_ms: int
    max_rss_bytes: int
    steps: int


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
    origin = Origin(question.cluster, {}, UTC, question.observed)
    layout = Layout((*question.columns, ""), question.nonce, quoted=False)
    reader = RowReader(layout.names, origin)
    # Nobody can have forged these: what is odd about them is for the collector to judge.
    table = Lines(
        layout,
        reader,
        origin=question.what,
        cluster=question.cluster,
        first=1,
        cross_check=False,
    )
    for block in lines(answer):
        if isinstance(block, LongLine):
            raise SourceError(f"{question.what} wrote a line of {block.size} bytes; try again")
        if isinstance(block, Tail):
            if block.text:
                raise SourceError(f"the answer of {question.what} is cut off; it is asked again")
            yield [_plain(item, question) for item in table.feed([], final=True)]
        else:
            yield [_plain(item, question) for item in table.feed(block)]


def _plain(item: Item, question: Question) -> Item:
    """A record set aside without the random delimiter, which changes with each question."""
    if not isinstance(item, Unreadable):
        return item
    nonce = question.nonce.encode()
    if item.raw.count(nonce) != len(question.columns):
        raise SourceError(
            f"the answer of {question.what} holds a line that is no record ({item.reason});"
            " nothing after it is taken, it is asked again"
        )
    raw = item.raw.replace(nonce, b"|")
    return item._replace(origin=question.what, raw=raw, raw_size=len(raw))


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
