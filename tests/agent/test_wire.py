"""What goes onto the wire comes off it unchanged; what does not fit is set aside, not lost."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from jobledger_agent.protocol import wire
from jobledger_agent.protocol.stream import Acked, Welcomed
from jobledger_agent.records.job import Reading, SlurmJob, Unreadable
from jobledger_proto.v1 import usage_pb2 as pb
from tests.agent.notebook import a_job

UNSIGNED = {
    "job_id": 64, "suspended_s": 64, "assoc_id": 64, "reservation_id": 64, "array_job_id": 64,
    "het_job_id": 64, "sluid": 64, "exit_code": 32, "exit_signal": 32, "nodes": 32, "steps": 32,
}  # fmt: skip
TEXTS = (
    "cluster", "state", "node_list", "user", "account", "partition", "qos", "wckey", "reservation",
)  # fmt: skip
TRES = ("alloc_tres", "req_tres")


def decode(payload: bytes) -> list[Reading]:
    """Read a request back, as a collector would, column by column."""
    batch = pb.ReportRequest.FromString(payload).batch
    jobs, texts = batch.jobs, list(batch.jobs.texts)
    sets = [
        tuple((texts[name], count) for name, count in zip(each.name, each.count, strict=True))
        for each in jobs.tres_sets
    ]
    columns: list[list[Any]] = []
    for field in SlurmJob._fields:
        column = list(getattr(jobs, field))
        if field in TEXTS:
            column = [texts[index] for index in column]
        elif field in TRES:
            column = [sets[index] for index in column]
        assert len(column) == jobs.rows, field
        columns.append(column)
    readings: list[Reading] = [SlurmJob(*row) for row in zip(*columns, strict=True)]
    readings += [Unreadable(u.cluster, u.origin, u.reason, u.raw, u.raw_size)
                 for u in batch.unreadable]  # fmt: skip
    return readings


def field_strategy(field: str) -> st.SearchStrategy[Any]:
    if field in TEXTS:
        return st.sampled_from(["", "alpha", "gpu", "ผู้ใช้"]) | st.text(
            st.characters(exclude_categories=["Cs"]), max_size=20
        )
    if field in TRES:
        name = st.sampled_from(["cpu", "mem", "gres/gpu", "gres/gpu:a100"]) | st.text(
            st.characters(exclude_categories=["Cs"]), max_size=8
        )
        return st.lists(st.tuples(name, st.integers(0, 2**64 - 1)), max_size=4).map(tuple)
    if field in UNSIGNED:
        return st.integers(0, 2 ** UNSIGNED[field] - 1)
    return st.integers(-(2**63), 2**63 - 1)


jobs = st.builds(SlurmJob, *map(field_strategy, SlurmJob._fields))
unreadables = st.builds(
    Unreadable, st.just("alpha"), st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    st.just("broken"), st.binary(max_size=50), st.just(50),
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(jobs, max_size=6), st.lists(unreadables, max_size=3))
def test_what_is_encoded_is_decoded_again(
    some: Sequence[SlurmJob], others: Sequence[Unreadable]
) -> None:
    readings: list[Reading] = [*some, *others]
    encoded = wire.encode(readings)
    assert sum(block.records for block in encoded) == len(readings)
    assert sum(block.unreadable for block in encoded) == len(others)
    assert [each for block in encoded for each in decode(block.payload)] == readings


def test_nothing_is_no_block() -> None:
    assert wire.encode([]) == ()


def test_the_number_is_put_before_a_block() -> None:
    (block,) = wire.encode([a_job(1), Unreadable("a", "o", "r", b"raw", 3)])
    request = pb.ReportRequest.FromString(wire.request(77, block.payload))
    assert request.batch.number == 77
    assert request.batch.jobs.rows == 1
    assert len(request.batch.unreadable) == 1
    assert decode(wire.request(77, block.payload)) == decode(block.payload)


def test_texts_and_resources_are_written_once() -> None:
    (block,) = wire.encode([a_job(each) for each in range(500)])
    columns = pb.ReportRequest.FromString(block.payload).batch.jobs
    assert columns.texts[0] == ""
    assert len(columns.texts) == len(set(columns.texts))
    assert len(columns.tres_sets) == 2
    assert len(block.payload) < 500 * 100


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("job_id", -1), ("job_id", 2**64), ("submit", 2**63), ("exit_code", 2**32),
        ("nodes", -5), ("user", "lone \udc80 half"), ("alloc_tres", (("cpu", -1),)),
        ("alloc_tres", (("c\udc80", 1),)), ("node_list", "n" * 800_000), ("uid", -(2**63) - 1),
    ],
)  # fmt: skip
def test_a_job_that_does_not_fit_goes_to_quarantine_and_its_neighbours_travel(
    field: str, value: object
) -> None:
    bad = a_job(2)._replace(**{field: value})  # type: ignore[arg-type]
    encoded = wire.encode([a_job(1), bad, a_job(3)])
    readings = [each for block in encoded for each in decode(block.payload)]
    aside = [each for each in readings if isinstance(each, Unreadable)]
    assert [each for each in readings if isinstance(each, SlurmJob)] == [a_job(1), a_job(3)]
    assert len(aside) == 1
    assert aside[0].cluster == "alpha"
    assert b'"account": "physics"' in aside[0].raw or aside[0].raw_size > len(aside[0].raw)
    assert "does not fit" in aside[0].reason or "too large" in aside[0].reason


def test_large_readings_are_spread_over_blocks() -> None:
    large = [
        Unreadable("a", f"line {n}", "r", b"x" * wire.RAW_BYTES_MAX, 1 << 27) for n in range(40)
    ]
    encoded = wire.encode(large)
    assert all(len(block.payload) <= wire.BLOCK_BYTES_MAX for block in encoded)
    assert [each for block in encoded for each in decode(block.payload)] == large


def test_of_an_unreadable_record_the_wire_carries_64_kib_and_the_true_size() -> None:
    (block,) = wire.encode([Unreadable("a" * 5000, "o", "\udc80", b"x" * 100_000, 100_000)])
    (unreadable,) = decode(block.payload)
    assert isinstance(unreadable, Unreadable)
    assert (len(unreadable.raw), unreadable.raw_size) == (64 * 1024, 100_000)
    assert len(unreadable.cluster) == wire.TEXT_CHARS_MAX
    assert unreadable.reason == "\\udc80"


def test_answers_are_read() -> None:
    welcome = pb.Welcome(
        version="9", window_batches=3, max_batch_records=4, max_batch_bytes=5, clock_ms=77
    )
    message = pb.ReportResponse(welcome=welcome).SerializeToString()
    assert wire.answer(message) == (Welcomed(3, 4, 5), "9", 77)
    ack = pb.Ack(
        number=6,
        verdicts=[pb.VERDICT_NEW, pb.VERDICT_QUARANTINED],
        refusals=[pb.Refusal(index=1, reason="no")],
    )
    message = pb.ReportResponse(ack=ack).SerializeToString()
    assert wire.answer(message) == (Acked(6, (1, 4)), "", 0)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60))
def test_nonsense_is_refused_in_words(message: bytes) -> None:
    understood = pb.ReportResponse()
    try:
        understood.ParseFromString(message)
    except DecodeError:
        understood.Clear()
    if understood.WhichOneof("body"):
        assert isinstance(wire.answer(message).event, Welcomed | Acked)
    else:
        with pytest.raises(wire.BadAnswer, match="collector"):
            wire.answer(message)


def test_verdicts_have_the_words_that_people_know() -> None:
    names = [wire.verdict_name(verdict) for verdict in range(1, 6)]
    assert names == ["new", "known", "revised", "quarantined", "verdict_5"]


def test_encoding_is_fast_enough() -> None:
    """A tenth of what a quiet machine does, so that only a blunder fails it."""
    readings = [a_job(each) for each in range(500)]
    started = time.process_time()
    for _ in range(20):
        wire.encode(readings)
    assert 10_000 / (time.process_time() - started) > 30_000
