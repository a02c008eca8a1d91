"""The messages of the wire, in and out: the only place that knows their fields.

Nothing that arrives is trusted. What breaks the contract so far that nobody knows
how many records it holds raises BatchInvalid; one bad record is quarantined (see
``columns``), and so is a batch that is broken inside.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from jobledger_collector import VERSION
from jobledger_collector.columns import (
    FIELDS,
    MAX_BIGINT,
    MAX_KEY_CHARS,
    MAX_RAW_BYTES,
    MAX_UINT64,
    Row,
    clean_text,
    read_rows,
)
from jobledger_collector.core.errors import BatchInvalid
from jobledger_collector.core.record import Quarantined, Verdict
from jobledger_collector.core.reporter import Greeting, Health
from jobledger_collector.core.tree import ATTRIBUTES, TreeEntry, TreeKind, canonical
from jobledger_collector.core.usage import MAX_EPOCH_S
from jobledger_collector.core.verification import Compared, ToldSpan
from jobledger_proto.v1 import usage_pb2

WINDOW_BATCHES: Final = 8
"""Batches that an agent may have unacknowledged."""
MAX_BATCH_RECORDS: Final = 2_000
"""Records in one batch, readable and not."""
MAX_BATCH_BYTES: Final = 1024 * 1024
"""Encoded size of one batch that agents are asked to stay within."""
MAX_BROKEN_BYTES: Final = 256 * 1024
"""Of a batch that is broken inside, so much is kept: more than agents put in one."""
MAX_TREE_ENTRIES: Final = 20_000
"""Entries of account trees in one batch; what is over is passed over."""
MAX_ATTRIBUTE_CHARS: Final = 4_096
"""Of an attribute's value, so much is kept; lists of QOS are the long ones."""
MAX_REASON_CHARS: Final = 2_000
MAX_CLUSTERS: Final = 1_000
MAX_VERSION_CHARS: Final = 64
_KINDS: Final = frozenset(map(int, TreeKind))
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")


class Decoded(NamedTuple):
    """A batch after the border: an entry a record, in the order of the verdicts."""

    number: int
    entries: Sequence[Row | Quarantined]
    clean: bool
    """True when every entry is a Row."""
    tree: Sequence[TreeEntry] = ()
    """What it says of account trees; without verdicts."""


class Refusal(NamedTuple):
    """Why the record at this place among the verdicts was quarantined."""

    place: int
    reason: str


Said = Decoded | Health
"""What an agent says after Hello."""


def read_greeting(request: usage_pb2.ReportRequest, now_ms: int) -> Greeting:
    """Return what an agent says of itself; raises BatchInvalid when it says no proper Hello."""
    hello = request.hello
    if request.WhichOneof("body") != "hello":
        raise BatchInvalid("The first message of a stream must be Hello.")
    if not _NAME.fullmatch(hello.agent):
        raise BatchInvalid(
            f"{hello.agent[:128]!r} cannot be an agent's name: use up to 128 letters, digits and"
            " ._@-, starting with a letter or digit."
        )
    clusters = tuple(hello.clusters)
    if len(clusters) > MAX_CLUSTERS or not all(map(_NAME.fullmatch, clusters)):
        raise BatchInvalid(f"Hello names more than {MAX_CLUSTERS} clusters, or an impossible one.")
    version = clean_text(hello.version)[:MAX_VERSION_CHARS]
    return Greeting(hello.agent, version, clusters, _skew_ms(hello.clock_ms, now_ms))


def read_request(request: usage_pb2.ReportRequest, expected: int, now_ms: int) -> Said:
    """Return what an agent says after Hello: batch ``expected`` or its health.

    ``now_ms`` is the collector's clock. Raises BatchInvalid.
    """
    body = request.WhichOneof("body")
    if body == "status":
        return _health(request.status, now_ms)
    if body != "batch":
        raise BatchInvalid("After Hello only batches and states of health may follow.")
    if request.batch.number != expected:
        raise BatchInvalid(f"Batch {request.batch.number} came where {expected} was expected.")
    return decode(request.batch, now_ms // 1_000)


def decode(batch: usage_pb2.Batch, now_s: int) -> Decoded:
    """Return a batch's records; ``now_s`` bounds what an agent's clock may claim.

    A batch that is broken inside, columns of unequal length or dictionaries that
    do not begin empty, is quarantined as a whole: each of its records gets that
    verdict, so that it blocks nobody. Raises BatchInvalid only when it says to
    hold more records than a batch may: nobody knows then how many it holds.
    """
    jobs = batch.jobs
    records = jobs.rows + len(batch.unreadable)
    if records > MAX_BATCH_RECORDS:
        raise BatchInvalid(
            f"Batch {batch.number} holds {records} records; the limit"
            f" is {MAX_BATCH_RECORDS}. The agent must send smaller batches."
        )
    tree = _tree(batch.tree, now_s)
    fault = columns_fault(jobs)
    if fault:
        broken = _broken(batch, fault)
        return Decoded(batch.number, [broken] * records, clean=False, tree=tree)
    rows = read_columns(jobs, now_s) if jobs.rows else []
    clean = not batch.unreadable and Quarantined not in set(map(type, rows))
    entries = [*rows, *map(_unreadable, batch.unreadable)]
    return Decoded(batch.number, entries, clean, tree)


def encode_ack(
    number: int, verdicts: Sequence[Verdict], refusals: Sequence[Refusal]
) -> usage_pb2.ReportResponse:
    """Return the answer to a batch: one verdict a record, and the reasons."""
    return usage_pb2.ReportResponse(
        ack=usage_pb2.Ack(
            number=number,
            verdicts=cast("Sequence[usage_pb2.Verdict]", verdicts),  # the same numbers
            refusals=[
                usage_pb2.Refusal(index=refusal.place, reason=refusal.reason)
                for refusal in refusals
            ],
        )
    )


def welcome(now_ms: int) -> usage_pb2.ReportResponse:
    """Return the answer to Hello: the collector's limits, and its clock (ms since the epoch)."""
    return usage_pb2.ReportResponse(
        welcome=usage_pb2.Welcome(
            version=VERSION,
            window_batches=WINDOW_BATCHES,
            max_batch_records=MAX_BATCH_RECORDS,
            max_batch_bytes=MAX_BATCH_BYTES,
            clock_ms=now_ms,
        )
    )


def read_span(message: usage_pb2.Span) -> ToldSpan:
    """Return what an agent is about to compare; raises BatchInvalid."""
    if not (_NAME.fullmatch(message.agent) and _NAME.fullmatch(message.cluster)):
        raise BatchInvalid("A comparison must name its agent and its cluster.")
    if not 0 <= message.begin <= message.end <= MAX_EPOCH_S:
        raise BatchInvalid(f"{message.begin} to {message.end} is no span of time.")
    return ToldSpan(message.agent, message.cluster, message.begin, message.end)


def read_told(
    jobs: usage_pb2.JobColumns, most: int, now_s: int
) -> list[Row] | list[Row | Quarantined]:
    """Return records that are told to be compared, at most ``most``; raises BatchInvalid."""
    if jobs.rows > most:
        raise BatchInvalid(f"{jobs.rows} records in one message; the limit is {most}.")
    fault = columns_fault(jobs)
    if fault:
        raise BatchInvalid(fault)
    return read_columns(jobs, now_s) if jobs.rows else []


def encode_checked(verdicts: Sequence[Verdict]) -> usage_pb2.VerifyResponse:
    """Return the answer to records that were told: what would become of each."""
    known = cast("Sequence[usage_pb2.Verdict]", verdicts)  # the same numbers
    return usage_pb2.VerifyResponse(checked=usage_pb2.Checked(verdicts=known))


def encode_compared(found: Compared) -> usage_pb2.VerifyResponse:
    """Return the result of a comparison."""
    told, stored = (
        usage_pb2.UsageSum(
            **{name: min(value, MAX_UINT64) for name, value in usage._asdict().items()}
        )
        for usage in (found.told, found.stored)
    )
    compared = usage_pb2.Compared(
        told=told,
        stored=stored,
        missing=found.missing,
        known=found.known,
        differing=found.differing,
        refused=found.refused,
        extra=[usage_pb2.RunKey(job_id=job, submit=submit) for job, submit in found.extra],
        extra_runs=found.extra_runs,
    )
    return usage_pb2.VerifyResponse(compared=compared)


def columns_fault(jobs: usage_pb2.JobColumns) -> str:
    """Return what is wrong with columns as a whole, "" when they can be read row by row."""
    for name in FIELDS:
        length = len(getattr(jobs, name))
        if length != jobs.rows:
            return (
                f"The batch says {jobs.rows} rows, but its column {name} has {length}:"
                " the agent's software is at fault."
            )
    if jobs.rows and (
        not jobs.texts or jobs.texts[0] or not jobs.tres_sets or jobs.tres_sets[0].name
    ):
        return (
            "The batch lacks the empty first entry of its text or TRES dictionary:"
            " the agent's software is at fault."
        )
    return ""


def read_columns(jobs: usage_pb2.JobColumns, now_s: int) -> list[Row] | list[Row | Quarantined]:
    """Return the rows of columns in which ``columns_fault`` finds nothing."""
    columns = [list(getattr(jobs, name)) for name in FIELDS]
    sets = [(list(entry.name), list(entry.count)) for entry in jobs.tres_sets]
    return read_rows(columns, jobs.texts, sets, now_s)


def _broken(batch: usage_pb2.Batch, fault: str) -> Quarantined:
    """Return a whole batch as one record of the quarantine, without its number."""
    whole = usage_pb2.Batch()
    whole.CopyFrom(batch)
    whole.ClearField("number")
    raw = whole.SerializeToString(deterministic=True)
    return Quarantined("", "wire", fault, raw[:MAX_BROKEN_BYTES], len(raw))


def _tree(entries: Sequence[usage_pb2.TreeEntry], now_s: int) -> list[TreeEntry]:
    """Return what can be used of a batch's entries; those of a newer agent's kinds cannot."""
    found = []
    for entry in entries[:MAX_TREE_ENTRIES]:
        named = _NAME.fullmatch(entry.cluster) and 0 < len(entry.name) <= MAX_KEY_CHARS
        if not named or entry.kind not in _KINDS or entry.observed < 1:
            continue
        kind = TreeKind(entry.kind)
        attributes = {
            name: clean_text(value)[:MAX_ATTRIBUTE_CHARS]
            for name, value in entry.attributes.items()
            if name in ATTRIBUTES[kind]
        }
        found.append(
            TreeEntry(
                entry.cluster, kind, clean_text(entry.name), canonical(attributes), entry.gone,
                min(entry.observed, now_s),
            )
        )  # fmt: skip
    return found


def _unreadable(message: usage_pb2.Unreadable) -> Quarantined:
    raw = message.raw[:MAX_RAW_BYTES]
    return Quarantined(
        clean_text(message.cluster)[:MAX_KEY_CHARS],
        clean_text(message.origin)[:MAX_REASON_CHARS],
        clean_text(message.reason)[:MAX_REASON_CHARS] or "The agent gave no reason.",
        raw,
        min(max(message.raw_size, len(raw)), MAX_BIGINT),
    )


def _health(status: usage_pb2.Status, now_ms: int) -> Health:
    return Health(
        spool_records=min(status.spool_records, MAX_BIGINT),
        complete_through=status.complete_through,
        clock_skew_ms=_skew_ms(status.clock_ms, now_ms),
        source_error=clean_text(status.source_error)[:MAX_REASON_CHARS],
        held_records=min(status.held_records, MAX_BIGINT),
        dbd_queue=min(status.dbd_queue_plus_one, MAX_BIGINT) - 1,
    )


def _skew_ms(agent_clock_ms: int, now_ms: int) -> int:
    """How far an agent's clock is ahead of ours; 0 when it does not say."""
    ahead = agent_clock_ms - now_ms if agent_clock_ms else 0
    return max(-MAX_BIGINT, min(MAX_BIGINT, ahead))
