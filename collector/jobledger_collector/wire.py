"""The messages of the wire, in and out: the only place that knows their fields.

Nothing that arrives is trusted. A batch or Hello that breaks the contract as a
whole raises BatchInvalid; one bad record is quarantined (see ``columns``).
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
    Row,
    clean_text,
    read_rows,
)
from jobledger_collector.core.errors import BatchInvalid
from jobledger_collector.core.record import Quarantined, Verdict
from jobledger_collector.core.reporter import Greeting, Health
from jobledger_proto.v1 import usage_pb2

WINDOW_BATCHES: Final = 8
"""Batches that an agent may have unacknowledged."""
MAX_BATCH_RECORDS: Final = 2_000
"""Records in one batch, readable and not."""
MAX_BATCH_BYTES: Final = 1024 * 1024
"""Encoded size of one batch that agents are asked to stay within."""
MAX_REASON_CHARS: Final = 2_000
MAX_CLUSTERS: Final = 1_000
MAX_VERSION_CHARS: Final = 64
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")


class Decoded(NamedTuple):
    """A batch after the border: an entry a record, in the order of the verdicts."""

    number: int
    entries: Sequence[Row | Quarantined]
    clean: bool
    """True when every entry is a Row."""


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

    Raises BatchInvalid when it has too many records or columns of unequal
    length, or no empty first dictionary entries: a fault of the agent.
    """
    jobs = batch.jobs
    if jobs.rows + len(batch.unreadable) > MAX_BATCH_RECORDS:
        raise BatchInvalid(
            f"Batch {batch.number} holds {jobs.rows + len(batch.unreadable)} records; the limit"
            f" is {MAX_BATCH_RECORDS}. The agent must send smaller batches."
        )
    rows = _rows(batch.number, jobs, now_s) if jobs.rows else []
    clean = not batch.unreadable and Quarantined not in set(map(type, rows))
    return Decoded(batch.number, [*rows, *map(_unreadable, batch.unreadable)], clean)


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


def welcome() -> usage_pb2.ReportResponse:
    """Return the answer to Hello: the collector's limits."""
    return usage_pb2.ReportResponse(
        welcome=usage_pb2.Welcome(
            version=VERSION,
            window_batches=WINDOW_BATCHES,
            max_batch_records=MAX_BATCH_RECORDS,
            max_batch_bytes=MAX_BATCH_BYTES,
        )
    )


def _rows(
    number: int, jobs: usage_pb2.JobColumns, now_s: int
) -> list[Row] | list[Row | Quarantined]:
    columns = [list(getattr(jobs, name)) for name in FIELDS]
    for name, column in zip(FIELDS, columns, strict=True):
        if len(column) != jobs.rows:
            raise BatchInvalid(
                f"Batch {number} says {jobs.rows} rows, but its column {name} has {len(column)}:"
                " the agent's software is at fault."
            )
    if not jobs.texts or jobs.texts[0] or not jobs.tres_sets or jobs.tres_sets[0].name:
        raise BatchInvalid(
            f"Batch {number} lacks the empty first entry of its text or TRES dictionary:"
            " the agent's software is at fault."
        )
    sets = [(list(entry.name), list(entry.count)) for entry in jobs.tres_sets]
    return read_rows(columns, jobs.texts, sets, now_s)


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
    )


def _skew_ms(agent_clock_ms: int, now_ms: int) -> int:
    """How far an agent's clock is ahead of ours; 0 when it does not say."""
    ahead = agent_clock_ms - now_ms if agent_clock_ms else 0
    return max(-MAX_BIGINT, min(MAX_BIGINT, ahead))
