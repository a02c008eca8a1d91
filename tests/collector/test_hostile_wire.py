"""A thousand hostile messages at the real server: streams end in words, neighbours are stored.

Whoever reaches the port may send any bytes. Beside each hostile stream an honest
agent reports its runs; at the end its runs are all there, to the second.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from jobledger_collector.store.engine import reading
from jobledger_collector.store.schema import job_runs, quarantine
from jobledger_proto.v1 import usage_pb2 as pb
from tests.collector.test_server import Agent, Served
from tests.factories import a_batch, a_job

MESSAGES_MIN: Final = 1_000
METHOD: Final = "/jobledger.v1.LedgerService/Report"
WAIT_S: Final = 20
HONEST_S: Final = 1_800
"""The honest stream is open as long as this module's tests last, on a busy machine too."""
IN_WORDS: Final = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.INTERNAL,  # gRPC's own, of bytes that are no message
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)
"""How a stream may end; UNKNOWN would be an exception that nobody foresaw."""
OMEGA: Final = "omega"
"""The cluster of the hostile agent; the honest one's is alpha."""
ROWS: Final = 3

sent_messages = 0
"""Hostile messages so far, in this process."""


def valid(number: int = 1) -> pb.Batch:
    """A batch that would be stored as it is."""
    records = [a_job(5_000 + n, cluster=OMEGA) for n in range(ROWS)]
    return a_batch(*records, number=number)


VALID: Final = pb.ReportRequest(batch=valid()).SerializeToString()


def edited(text: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Replace stretches of bytes: place, length, what comes there."""
    for place, length, new in edits:
        at = place % (len(text) + 1)
        text = text[:at] + new + text[at + length :]
    return text


def request(**parts: Any) -> bytes:  # noqa: ANN401 - any message of the oneof
    return pb.ReportRequest(**parts).SerializeToString()


def columns(**over: object) -> bytes:
    """The valid batch with some of its columns replaced."""
    batch = valid()
    for name, values in over.items():
        if isinstance(values, list):
            batch.jobs.ClearField(name)
            getattr(batch.jobs, name).extend(values)
        else:
            setattr(batch.jobs, name, values)
    return request(batch=batch)


def with_texts(*texts: bytes) -> bytes:
    """A batch whose dictionary holds bytes that protobuf itself would refuse to write."""
    body = b"".join(b"\x12" + varint(len(text)) + text for text in texts)
    jobs = b"\x08\x01" + body
    batch = b"\x08\x01\x12" + varint(len(jobs)) + jobs
    return b"\x12" + varint(len(batch)) + batch


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def nested(depth: int) -> bytes:
    """A message in a message in a message: unknown groups, as deep as wanted."""
    return b"\x9b\x06" * depth + b"\x9c\x06" * depth


HUGE_SETS = pb.JobColumns(rows=1)
HUGE_SETS.texts.extend(["", "cpu"])
for _ in range(20_000):
    HUGE_SETS.tres_sets.add(name=[1] * 8, count=[2**64 - 1] * 8)

CONTRIVED: Final = (
    b"", b"\x00", b"\xff" * 64, VALID[:-1], VALID + VALID, VALID * 40, nested(50), nested(5_000),
    request(hello=pb.Hello(agent="again")), request(status=pb.Status(spool_records=2**64 - 1)),
    request(status=pb.Status(complete_through=-(2**63), clock_ms=2**63 - 1, source_error="\x00")),
    request(status=pb.Status(source_error="x" * 1_000_000)),
    request(batch=pb.Batch()), request(batch=pb.Batch(number=2**64 - 1)),
    request(batch=pb.Batch(number=7)), request(batch=pb.Batch(number=1, jobs=HUGE_SETS)),
    columns(rows=2**31), columns(rows=2_001), columns(rows=ROWS - 1), columns(rows=ROWS + 1),
    columns(rows=0), columns(job_id=[1]), columns(job_id=[0, 0, 0]),
    columns(job_id=[2**64 - 1] * ROWS), columns(user=[2**32 - 1] * ROWS),
    columns(alloc_tres=[999_999] * ROWS), columns(cluster=[0] * ROWS),
    columns(submit=[-(2**63)] * ROWS), columns(end=[2**63 - 1] * ROWS),
    columns(start=[2**62] * ROWS), columns(suspended_s=[2**64 - 1] * ROWS),
    columns(texts=[]), columns(texts=["x"]), columns(texts=[""] * 50_000),
    columns(texts=["", "y" * 900_000]), columns(tres_sets=[]),
    columns(tres_sets=[pb.TresSet(name=[1, 2], count=[1])]),
    columns(tres_sets=[pb.TresSet(), pb.TresSet(name=[1] * 5_000, count=[1] * 5_000)]),
    with_texts(b"", b"\xff\xfe\x00"), with_texts(b"", b"\xed\xa0\x80"),
    request(batch=pb.Batch(number=1, unreadable=[pb.Unreadable(raw=b"\x00" * 500_000)] * 3)),
    request(batch=pb.Batch(number=1, unreadable=[pb.Unreadable()] * 2_000)),
    request(batch=pb.Batch(number=1, unreadable=[pb.Unreadable()] * 2_001)),
    request(batch=pb.Batch(number=1, unreadable=[
        pb.Unreadable(cluster="a" * 9_999, reason="\x1b[2J", origin="\n", raw_size=2**64 - 1)])),
    request(batch=pb.Batch(number=1, tree=[pb.TreeEntry()] * 30_000)),
    request(batch=pb.Batch(number=1, tree=[
        pb.TreeEntry(cluster="alpha", kind=pb.TREE_KIND_ACCOUNT, name="stolen",
                     attributes={"x" * 9_000: "y" * 99_000}, observed=-(2**63))])),
    b"\x12" + varint(2**31) + b"x", b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"x" * (5 << 20),
)  # fmt: skip
EDITS = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 12), st.binary(max_size=12)),
    min_size=1,
    max_size=6,
)
MESSAGES = st.one_of(
    st.builds(edited, st.just(VALID), EDITS),
    st.builds(edited, st.sampled_from([each for each in CONTRIVED if len(each) < 9_000]), EDITS),
    st.binary(max_size=300),
)


class Ended(NamedTuple):
    """How a hostile stream went: what was acknowledged, and the last word."""

    acks: list[pb.Ack]
    code: grpc.StatusCode
    words: str


class Field(NamedTuple):
    """A served collector, the honest agent's stream, and what that has sent."""

    served: Served
    channel: grpc.Channel
    honest: Agent
    told: list[int]

    def attack(self, *messages: bytes) -> Ended:
        """Say Hello in order and then these bytes."""
        global sent_messages  # noqa: PLW0603  hypothesis calls this; the last test counts
        sent_messages += len(messages)
        hello = request(hello=pb.Hello(agent="omega-1", version="9", clusters=[OMEGA]))
        call = self.channel.stream_stream(
            METHOD, request_serializer=None, response_deserializer=pb.ReportResponse.FromString
        )(iter([hello, *messages]), timeout=WAIT_S)
        acks: list[pb.Ack] = []
        try:
            for answer in call:  # acknowledgements before the end count
                acks += [answer.ack] if answer.WhichOneof("body") == "ack" else []
        except grpc.RpcError:
            return Ended(acks, call.code(), call.details() or "")
        return Ended(acks, call.code(), "")

    def goes_on(self) -> None:
        """The honest agent's next batch is stored and acknowledged."""
        number = len(self.told) + 1
        ack = self.honest.send(a_batch(a_job(number), number=number))
        assert list(ack.verdicts) == [pb.VERDICT_NEW]
        self.told.append(number)


@pytest.fixture(scope="module")
def field(sqlite_template: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    path = tmp_path_factory.mktemp("hostile") / "jobledger.db"
    path.write_bytes(sqlite_template.read_bytes())  # type: ignore[attr-defined]
    served = Served(f"sqlite:///{path}")
    options = [("grpc.max_send_message_length", -1)]
    channel = grpc.insecure_channel(served.target, options)
    honest_channel = grpc.insecure_channel(served.target)
    honest = Agent(honest_channel, wait_s=HONEST_S)
    honest.hello("agent-1")
    yield Field(served, channel, honest, [])
    channel.close()
    honest_channel.close()
    served.server.stop()
    served.engine.dispose()


def check(ended: Ended) -> None:
    """A stream ends in order, or in words; an acknowledgement names every record."""
    if ended.code is not grpc.StatusCode.OK:
        assert ended.code in IN_WORDS, ended
        assert len(ended.words) > 10, ended
        assert "Traceback" not in ended.words
    for ack in ended.acks:
        refused = {refusal.index for refusal in ack.refusals}
        aside = {i for i, v in enumerate(ack.verdicts) if v == pb.VERDICT_QUARANTINED}
        assert refused == aside
        assert all(refusal.reason for refusal in ack.refusals)
        assert pb.VERDICT_UNSPECIFIED not in ack.verdicts


@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", range(len(CONTRIVED)))
def test_a_contrived_message(number: int, field: Field) -> None:
    check(field.attack(CONTRIVED[number]))
    field.goes_on()


@pytest.mark.timeout(240)
def test_mutated_and_random_messages(field: Field) -> None:
    """Each on a stream of its own, since most end theirs."""

    @settings(
        max_examples=120,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(MESSAGES, min_size=8, max_size=9))
    def examine(messages: list[bytes]) -> None:
        for message in messages:
            check(field.attack(message))
        field.goes_on()

    examine()


@pytest.mark.timeout(240)
def test_what_was_stored_before_a_hostile_message_is_known_after_it(field: Field) -> None:
    (before,) = field.attack(VALID).acks
    check(field.attack(b"\xff" * 9))
    (after,) = field.attack(VALID).acks
    assert set(before.verdicts) <= {pb.VERDICT_NEW, pb.VERDICT_KNOWN, pb.VERDICT_REVISED}
    assert list(after.verdicts) == [pb.VERDICT_KNOWN] * ROWS


@pytest.mark.timeout(240)
def test_the_neighbours_are_there_to_the_second_and_the_server_lives(field: Field) -> None:
    """The last test of this file: what the others left behind."""
    field.goes_on()
    with reading(field.served.engine) as conn:
        of_alpha = job_runs.c.cluster == "alpha"
        ids = list(conn.execute(select(job_runs.c.job_id).where(of_alpha)).scalars())
        elapsed = conn.execute(select(func.sum(job_runs.c.elapsed_s)).where(of_alpha)).scalar_one()
        reasons = list(conn.execute(select(quarantine.c.reason)).scalars())
    assert sorted(ids) == field.told
    assert elapsed == 6 * len(field.told)  # each honest run lasted six seconds
    assert all(reasons), "a record was put aside without a reason"
    if len(field.told) > len(CONTRIVED):
        assert sent_messages >= MESSAGES_MIN
