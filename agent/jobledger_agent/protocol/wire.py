"""SlurmJob to JobColumns: what the spool stores is what the wire carries.

A block is encoded once, into a ReportRequest without a batch number. The number
is put before it when it is sent: protobuf defines the concatenation of two
messages as their merge, so a block never has to be decoded again.
"""

import json
from collections.abc import Hashable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.message import DecodeError

from jobledger_agent.protocol.stream import Acked, Limits, Welcomed
from jobledger_agent.records.job import NO_TRES, Reading, SlurmJob, Tres, Unreadable
from jobledger_agent.records.tree import TreeEntry
from jobledger_agent.source import MAX_BLOCK_READINGS
from jobledger_proto.v1 import usage_pb2 as pb

METHOD: Final = "/jobledger.v1.LedgerService/Report"
VERIFY_METHOD: Final = "/jobledger.v1.LedgerService/Verify"
BLOCK_BYTES_MAX: Final = 192 * 1024
"""Encoded size of one block, twice that of an ordinary one: a window of them is small."""
RAW_BYTES_MAX: Final = 64 * 1024
"""Of an unreadable record, the wire carries this much."""
TEXT_CHARS_MAX: Final = 1024
"""Of the texts that describe an unreadable record, the wire carries this much."""
BLOCK_LIMITS: Final = Limits(MAX_BLOCK_READINGS, 1024 * 1024)
"""What a collector must be able to take in one batch."""

_Value = TypeVar("_Value", bound=Hashable)
_TEXT_COLUMNS: Final = (
    "cluster", "state", "node_list", "user", "account", "partition", "qos", "wckey", "reservation",
)  # fmt: skip
_TRES_COLUMNS: Final = ("alloc_tres", "req_tres")
_TEXT_INDEXES: Final = tuple(SlurmJob._fields.index(name) for name in _TEXT_COLUMNS)
_TRES_INDEXES: Final = tuple(SlurmJob._fields.index(name) for name in _TRES_COLUMNS)


class Encoded(NamedTuple):
    """Some readings, ready for the spool and for the wire."""

    payload: bytes
    records: int
    unreadable: int


class Answer(NamedTuple):
    """What a collector said: the event for the Sender, and its version with a Welcome."""

    event: Welcomed | Acked
    version: str
    clock_ms: int = 0
    """The collector's clock (ms since the epoch), with a Welcome; 0 where it does not tell."""


class UsageSum(NamedTuple):
    """Runs added up by the collector's rules, in base units (see ``usage.proto``)."""

    runs: int
    elapsed_s: int
    cpu_s: int
    gpu_s: int
    mem_mib_s: int
    node_s: int


class Compared(NamedTuple):
    """What the collector found for a whole span (see ``usage.proto``)."""

    told: UsageSum
    stored: UsageSum
    missing: int
    known: int
    differing: int
    refused: int
    extra: tuple[tuple[int, int], ...]
    """(job id, submit) of runs that are stored and were not told; at most 1,000."""
    extra_runs: int


class BadAnswer(Exception):
    """The collector's message makes no sense; says what was wrong with it."""


def encode(readings: Sequence[Reading]) -> tuple[Encoded, ...]:
    """Encode readings into as few blocks as the size limit allows, in order.

    Never refuses a record: a job whose figures or texts do not fit the wire is
    sent as Unreadable, so that it reaches the quarantine and not the floor.
    """
    if not readings:
        return ()
    jobs = [reading for reading in readings if isinstance(reading, SlurmJob)]
    unreadable = [reading for reading in readings if isinstance(reading, Unreadable)]
    try:
        payload = _serialize(jobs, unreadable)
    except (ValueError, TypeError, OverflowError, UnicodeError):
        return _encode_around_the_bad(jobs, unreadable)
    if len(payload) <= BLOCK_BYTES_MAX:
        return (Encoded(payload, len(readings), len(unreadable)),)
    if len(readings) == 1:
        size = f"{len(payload)} bytes encoded, {BLOCK_BYTES_MAX} fit the wire"
        return encode([_set_aside(jobs[0], f"the record is too large: {size}")])
    middle = len(readings) // 2
    return (*encode(readings[:middle]), *encode(readings[middle:]))


def encode_tree(entries: Sequence[TreeEntry]) -> tuple[Encoded, ...]:
    """Encode entries of the account tree; their blocks hold no records, so no verdicts."""
    if not entries:
        return ()
    message = pb.ReportRequest()
    message.batch.SetInParent()
    for entry in entries:
        message.batch.tree.add(
            cluster=_wire_text(entry.cluster),
            kind=pb.TreeKind.ValueType(entry.kind),
            name=_wire_text(entry.name),
            attributes={name: _wire_text(value) for name, value in entry.attributes},
            gone=entry.gone,
            observed=entry.observed,
        )
    payload = message.SerializeToString()
    if len(payload) <= BLOCK_BYTES_MAX or len(entries) == 1:
        return (Encoded(payload, 0, 0),)
    middle = len(entries) // 2
    return (*encode_tree(entries[:middle]), *encode_tree(entries[middle:]))


def request(number: int, payload: bytes) -> bytes:
    """Return a spooled block as a request under this batch number."""
    return pb.ReportRequest(batch=pb.Batch(number=number)).SerializeToString() + payload


def hello(agent: str, version: str, clusters: Sequence[str], clock_ms: int) -> bytes:
    """Return the first message of a stream; ``clock_ms`` since the epoch."""
    body = pb.Hello(
        agent=_wire_text(agent),
        version=version,
        clusters=[_wire_text(cluster) for cluster in clusters],
        clock_ms=clock_ms,
    )
    return pb.ReportRequest(hello=body).SerializeToString()


class Condition(NamedTuple):
    """How the agent is: ``Status`` of ``usage.proto``; ``dbd_queue`` -1 while unknown."""

    spool_records: int
    complete_through: int
    source_error: str
    held_records: int = 0
    dbd_queue: int = -1


def status(condition: Condition, clock_ms: int) -> bytes:
    """Return a message about the agent's own health."""
    body = pb.Status(
        spool_records=condition.spool_records,
        complete_through=condition.complete_through,
        clock_ms=clock_ms,
        source_error=_wire_text(condition.source_error),
        held_records=condition.held_records,
        dbd_queue_plus_one=condition.dbd_queue + 1,
    )
    return pb.ReportRequest(status=body).SerializeToString()


def answer(message: bytes) -> Answer:
    """Read what the collector said. Raises BadAnswer."""
    try:
        response = pb.ReportResponse.FromString(message)
    except DecodeError as error:
        raise BadAnswer("the collector's answer is not a jobledger message") from error
    if response.HasField("welcome"):
        welcome = response.welcome
        event = Welcomed(welcome.window_batches, welcome.max_batch_records, welcome.max_batch_bytes)
        return Answer(event, welcome.version, welcome.clock_ms)
    if response.HasField("ack"):
        return Answer(Acked(response.ack.number, tuple(response.ack.verdicts)), "")
    raise BadAnswer("the collector's answer is empty, or newer than this agent understands")


def verify_span(agent: str, cluster: str, begin: int, end: int) -> bytes:
    """Return the first message of a comparison; ``begin`` and ``end`` in epoch seconds."""
    span = pb.Span(agent=_wire_text(agent), cluster=_wire_text(cluster), begin=begin, end=end)
    return pb.VerifyRequest(span=span).SerializeToString()


def verify_jobs(jobs: Sequence[SlurmJob]) -> bytes:
    """Return the message that tells records to compare.

    Raises ValueError, TypeError or OverflowError for a figure that does not fit the wire.
    """
    message = pb.VerifyRequest()
    _fill(message.jobs, jobs)
    return message.SerializeToString()


def verify_end() -> bytes:
    """Return the message that ends a comparison."""
    return pb.VerifyRequest(span_end=pb.SpanEnd()).SerializeToString()


def verified(message: bytes) -> tuple[int, ...] | Compared:
    """Read an answer: verdicts of the records last told, or the result. Raises BadAnswer."""
    try:
        response = pb.VerifyResponse.FromString(message)
    except DecodeError as error:
        raise BadAnswer("the collector's answer is not a jobledger message") from error
    if response.HasField("checked"):
        return tuple(response.checked.verdicts)
    if not response.HasField("compared"):
        raise BadAnswer("the collector's answer is empty, or newer than this agent understands")
    found = response.compared
    return Compared(
        _usage_sum(found.told),
        _usage_sum(found.stored),
        found.missing,
        found.known,
        found.differing,
        found.refused,
        tuple((run.job_id, run.submit) for run in found.extra),
        found.extra_runs,
    )


def _usage_sum(usage: pb.UsageSum) -> UsageSum:
    return UsageSum(*(getattr(usage, name) for name in UsageSum._fields))


KNOWN: Final = "known"
QUARANTINED: Final = "quarantined"


def verdict_name(verdict: int) -> str:
    """Return the word for a verdict: new, known, revised, quarantined."""
    try:
        name = pb.Verdict.Name(verdict)
    except ValueError:
        return f"verdict_{verdict}"
    return name.removeprefix("VERDICT_").lower()


def _serialize(jobs: Sequence[SlurmJob], unreadable: Sequence[Unreadable]) -> bytes:
    message = pb.ReportRequest()
    message.batch.SetInParent()
    if jobs:
        _fill(message.batch.jobs, jobs)
    message.batch.unreadable.extend(_unreadable(record) for record in unreadable)
    return message.SerializeToString()


def _fill(columns: pb.JobColumns, jobs: Sequence[SlurmJob]) -> None:
    # In place: building the columns apart and copying them in takes a tenth longer.
    values: list[Sequence[Any]] = list(zip(*jobs, strict=True))
    texts: dict[str, int] = {"": 0}
    for index in _TEXT_INDEXES:
        values[index] = _code(values[index], texts)
    tres_sets: dict[Tres, int] = {NO_TRES: 0}
    for index in _TRES_INDEXES:
        values[index] = _code(values[index], tres_sets)
    for tres in tres_sets:
        names = _code([name for name, _ in tres], texts)
        columns.tres_sets.add(name=names, count=[count for _, count in tres])
    columns.rows = len(jobs)
    columns.texts.extend(texts)
    for field, column in zip(SlurmJob._fields, values, strict=True):
        getattr(columns, field).extend(column)


def _code(column: Sequence[_Value], codes: dict[_Value, int]) -> list[int]:
    for value in dict.fromkeys(column):
        codes.setdefault(value, len(codes))
    return list(map(codes.__getitem__, column))


def _unreadable(record: Unreadable) -> pb.Unreadable:
    return pb.Unreadable(
        cluster=_wire_text(record.cluster),
        origin=_wire_text(record.origin),
        reason=_wire_text(record.reason),
        raw=record.raw[:RAW_BYTES_MAX],
        raw_size=max(record.raw_size, len(record.raw)),
    )


def _wire_text(text: str) -> str:
    return text[:TEXT_CHARS_MAX].encode(errors="backslashreplace").decode()


def _encode_around_the_bad(
    jobs: Sequence[SlurmJob], unreadable: Sequence[Unreadable]
) -> tuple[Encoded, ...]:
    """Set aside only the jobs that cannot be encoded; their neighbours travel as they are."""
    readings: list[Reading] = []
    for job in jobs:
        try:
            _serialize([job], ())
        except (ValueError, TypeError, OverflowError, UnicodeError) as error:
            readings.append(_set_aside(job, f"a figure or text does not fit the wire: {error}"))
        else:
            readings.append(job)
    return encode([*readings, *unreadable])


def _set_aside(job: SlurmJob, reason: str) -> Unreadable:
    raw = json.dumps(job._asdict(), default=repr).encode()
    origin = f"job {job.job_id} as the agent read it"
    return Unreadable(job.cluster, origin, reason, raw[:RAW_BYTES_MAX], len(raw))
