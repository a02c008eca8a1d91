"""Comparing a span: verdicts as a report would give them, sums, what is extra; nothing written."""

import queue
import time
from collections.abc import Iterator
from typing import Final

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from jobledger_collector.config import Address, ServerSection, TlsSection
from jobledger_collector.core.enrolment import Listener
from jobledger_collector.core.record import JobRecord, Verdict
from jobledger_collector.core.usage import MAX_EPOCH_S
from jobledger_collector.core.verification import UsageSum, not_told
from jobledger_collector.metrics import Metrics
from jobledger_collector.server import GRACE_S, Ledger, Server
from jobledger_collector.store import enrolments
from jobledger_collector.store.engine import open_engine, reading, transaction
from jobledger_collector.store.enrolments import Enrolled
from jobledger_collector.store.schema import charges, job_runs, quarantine, run_revisions
from jobledger_collector.store.verifications import last_verified
from jobledger_proto.v1 import usage_pb2, usage_pb2_grpc
from tests.collector.ingesting import Collector
from tests.factories import a_job, columns_of

WAIT_S: Final = 20
NEW, KNOWN, REVISED, QUARANTINED = 1, 2, 3, 4


class Verify:
    """A collector with books, asked over real gRPC."""

    def __init__(self, url: str) -> None:
        self.books = Collector(url)
        listener = Listener("", open_to_all=True)
        self.engine = open_engine(url)
        self.metrics = Metrics(self.engine)
        ledger = Ledger(self.engine, self.metrics, listener)
        self.server = Server(ledger, ServerSection(), Address("127.0.0.1", 0), TlsSection())
        self.server.start()
        self.channel = grpc.insecure_channel(str(self.server.address))
        self.begin()

    def begin(self) -> None:
        self.requests: queue.Queue[usage_pb2.VerifyRequest | None] = queue.Queue()
        stub = usage_pb2_grpc.LedgerServiceStub(self.channel)
        self.call = stub.Verify(iter(self.requests.get, None), timeout=WAIT_S)

    def span(self, begin: int = 100, end: int = 200, cluster: str = "alpha") -> None:
        span = usage_pb2.Span(agent="agent-1", cluster=cluster, begin=begin, end=end)
        self.requests.put(usage_pb2.VerifyRequest(span=span))

    def jobs(self, *records: JobRecord) -> list[int]:
        self.requests.put(usage_pb2.VerifyRequest(jobs=columns_of(records)))
        return list(next(self.call).checked.verdicts)

    def end(self) -> usage_pb2.Compared:
        self.requests.put(usage_pb2.VerifyRequest(span_end=usage_pb2.SpanEnd()))
        compared: usage_pb2.Compared = next(self.call).compared
        return compared

    def failure(self) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            list(self.call)
        return caught.value.code(), caught.value.details() or ""

    def close(self) -> None:
        self.requests.put(None)
        self.channel.close()
        self.server.stop()
        self.engine.dispose()
        self.books.engine.dispose()


@pytest.fixture
def verify(database_url: str) -> Iterator[Verify]:
    asked = Verify(database_url)
    yield asked
    asked.close()


def sums(usage: usage_pb2.UsageSum) -> UsageSum:
    return UsageSum(*(getattr(usage, name) for name in UsageSum._fields))


SIX_S: Final = UsageSum(1, 6, 12, 6, 600, 6)
"""What one ``a_job`` uses."""


def times(number: int) -> UsageSum:
    return UsageSum(*(number * value for value in SIX_S))


def everything(verify: Verify) -> list[list[tuple[object, ...]]]:
    with reading(verify.engine) as conn:
        return [
            sorted(map(tuple, conn.execute(select(table))))
            for table in (job_runs, charges, quarantine, run_revisions)
        ]


def test_a_span_that_agrees(verify: Verify) -> None:
    verify.books.take(a_job(1), a_job(2), a_job(9, end=201))
    before = everything(verify)
    verify.span()
    assert verify.jobs(a_job(1, observed=5_000)) == [KNOWN]
    assert verify.jobs(a_job(2, observed=5_000)) == [KNOWN]
    found = verify.end()
    assert (sums(found.told), sums(found.stored)) == (times(2), times(2))
    assert (found.missing, found.known, found.differing, found.refused) == (0, 2, 0, 0)
    assert (list(found.extra), found.extra_runs) == ([], 0)
    assert everything(verify) == before


def test_another_s_cluster_is_not_compared_for_an_agent(verify: Verify) -> None:
    """The answer would name its runs and add up what they used."""
    with transaction(verify.engine) as conn:
        enrolments.enrol(conn, Enrolled("other", ("beta",), True, "", 5, "root", 0, "", ()))
    verify.span(cluster="beta")
    verify.requests.put(usage_pb2.VerifyRequest(span_end=usage_pb2.SpanEnd()))
    code, details = verify.failure()
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "belongs to the enrolled agent other" in details


def test_a_span_may_end_with_the_year_9999(verify: Verify) -> None:
    verify.books.take(a_job(1))
    verify.span(0, MAX_EPOCH_S)
    assert verify.end().extra_runs == 1


def test_what_is_missing_different_refused_and_extra(verify: Verify) -> None:
    verify.books.take(a_job(1), a_job(2), a_job(3), a_job(4, submit=99), a_job(5, cluster="beta"))
    before = everything(verify)
    verify.span()
    told = [
        a_job(1, observed=5_000),
        a_job(2, end=150, observed=5_000),
        a_job(6),
        a_job(7, tres=""),
        a_job(8, cluster="beta"),
    ]
    assert verify.jobs(*told) == [KNOWN, REVISED, NEW, QUARANTINED, QUARANTINED]
    found = verify.end()
    assert (found.missing, found.known, found.differing, found.refused) == (1, 1, 1, 2)
    assert [(run.job_id, run.submit) for run in found.extra] == [(3, 100), (4, 99)]
    assert found.extra_runs == 2
    assert sums(found.stored) == times(4)
    assert found.told.runs == 3
    assert found.told.elapsed_s == 6 + 50 + 6
    assert everything(verify) == before
    with reading(verify.engine) as conn:
        (kept,) = last_verified(conn)
    assert (kept.cluster, kept.missing, kept.differing, kept.extra) == ("alpha", 1, 1, 2)


def test_verdicts_are_those_that_a_report_then_gives(verify: Verify) -> None:
    verify.books.take(
        a_job(1), a_job(2, tres="cpu=4,mem=10"), a_job(3, end=0, state="RUNNING"), a_job(4)
    )
    verify.books.take(a_job(4, start=150, end=180, observed=2_000))
    told = [
        a_job(1, observed=900),
        a_job(2, tres="cpu=2,mem=10", observed=3_000),
        a_job(3, end=120, observed=3_000),
        a_job(4, start=150, end=180, observed=3_000),
        a_job(4, observed=3_000),
        a_job(5),
        a_job(5, observed=2_000, end=140),
    ]
    verify.span()
    verdicts = verify.jobs(*told)
    assert verdicts == [int(verdict) for verdict in verify.books.take(*told)]
    assert set(verdicts) == {NEW, KNOWN, REVISED, QUARANTINED}


def test_several_spans_on_one_call_and_many_extra(verify: Verify) -> None:
    verify.books.take(*(a_job(number) for number in range(1, 1_501)))
    for _ in range(2):
        verify.span()
        found = verify.end()
        assert (len(found.extra), found.extra_runs) == (1_000, 1_500)
        assert sums(found.stored) == times(1_500)
        assert found.extra[0].job_id == 1
    with reading(verify.engine) as conn:
        (kept,) = last_verified(conn)
    assert (kept.spans, kept.extra) == (1, 1_500), "the second in place of the first"


def test_a_comparison_must_say_what_it_compares(verify: Verify) -> None:
    cases = [
        (usage_pb2.VerifyRequest(span_end=usage_pb2.SpanEnd()), "must be Span"),
        (usage_pb2.VerifyRequest(span=usage_pb2.Span(agent="a", cluster="")), "must name"),
        (
            usage_pb2.VerifyRequest(span=usage_pb2.Span(agent="a", cluster="b", begin=2, end=1)),
            "no span of time",
        ),
    ]
    for request, says in cases:
        verify.requests.put(request)
        code, details = verify.failure()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert says in details
        verify.begin()
    verify.span()
    broken = columns_of([a_job(1)])
    broken.uid.append(1)
    verify.requests.put(usage_pb2.VerifyRequest(jobs=broken))
    assert "column uid has 2" in verify.failure()[1]


def test_an_open_comparison_does_not_keep_a_server_from_stopping(verify: Verify) -> None:
    verify.span()
    verify.jobs(a_job(1))
    began = time.monotonic()
    verify.server.stop()
    assert time.monotonic() - began < GRACE_S
    assert verify.failure()[0] in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}


def test_a_comparison_on_which_nothing_comes_gives_up_its_place(
    verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobledger_collector.server.QUIET_S", 0.5)
    verify.span()
    verify.jobs(a_job(1))
    assert verify.failure()[0] is grpc.StatusCode.CANCELLED


@given(
    st.sets(st.tuples(st.integers(0, 9), st.integers(0, 3))),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3))),
)
@settings(max_examples=200)
def test_what_was_not_told_is_a_difference_of_sets(
    stored: set[tuple[int, int]], told: list[tuple[int, int]]
) -> None:
    assert set(not_told(sorted(stored), sorted(told))) == stored - set(told)


def test_verdict_names_are_the_wire_s() -> None:
    assert [verdict.value for verdict in Verdict] == [NEW, KNOWN, REVISED, QUARANTINED]
