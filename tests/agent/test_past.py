"""The past: sent in slices that resume, compared day by day, swept, against the real collector."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.daemon.feed import Intake, read_through
from jobledger_agent.delivery.verifier import Verifier, VerifyError, VerifyUnknown
from jobledger_agent.health import Health
from jobledger_agent.operating import backfill, moments, past, verify
from jobledger_agent.operating.moments import DAY_S, moment
from jobledger_agent.operating.past import Past, slices
from jobledger_agent.reading import blocks
from jobledger_agent.records.job import Reading, SlurmJob, Unreadable
from jobledger_agent.settings.sections import (
    AgentConfig,
    AgentSection,
    CollectorSection,
    SpoolSection,
)
from jobledger_agent.source import Block, SourceError, Sweep
from jobledger_agent.sources.feeds import Feed
from jobledger_agent.spooling.spool import Spool
from jobledger_proto.v1 import usage_pb2, usage_pb2_grpc
from tests.agent.notebook import Notebook
from tests.agent.simslurm import CLUSTER, Message, SimSlurm, Span, a_run
from tests.ports import free_port
from tests.system.programs import start_collector

BEGIN = 1_788_220_800  # 2026-09-01T00:00:00Z
DAYS = 5
END = BEGIN + DAYS * DAY_S - 1
NOW = END + 3_600


def no_wait(_: float) -> bool:
    return False


def runs() -> list[SlurmJob]:
    """Eight runs a day, one of them exactly at each border of a day."""
    return [
        a_run(number, end - 600, end=end, slurm_elapsed_s=600, observed=NOW)
        for number, end in enumerate(
            sorted(
                {BEGIN + day * DAY_S + at for day in range(DAYS)
                 for at in (0, 1, 3_600, 7_200, 40_000, 50_000, 86_398, 86_399)}
            ),
            1,
        )
    ]  # fmt: skip


@pytest.fixture
def slurm() -> SimSlurm:
    slurm = SimSlurm(NOW)
    slurm.table = {(run.job_id, run.submit): run for run in runs()}
    return slurm


@pytest.fixture
def asked(slurm: SimSlurm) -> Past:
    return Past(slurm, CLUSTER, 1_000)


# -------------------------------------------------------------------------- slices


def read(asked: Past, begin: int, end: int) -> list[int]:
    found = []
    for answer in slices(asked, begin, end, no_wait):
        found += [each.job_id for each in answer.readings if isinstance(each, SlurmJob)]
    return found


def spans_of(slurm: SimSlurm) -> list[tuple[int, int]]:
    return [what for kind, what in slurm.asked if kind == "ended"]


def test_a_span_is_read_in_days_each_run_once(slurm: SimSlurm, asked: Past) -> None:
    assert sorted(read(asked, BEGIN, END)) == [run.job_id for run in runs()]
    days = [(BEGIN + day * DAY_S, BEGIN + day * DAY_S + DAY_S - 1) for day in range(DAYS)]
    assert spans_of(slurm) == days


def test_what_is_too_much_is_asked_for_in_halves(slurm: SimSlurm, asked: Past) -> None:
    slurm.rows_max = 4
    assert sorted(read(asked, BEGIN, END)) == [run.job_id for run in runs()]
    assert max(end - begin for begin, end in spans_of(slurm)) == DAY_S - 1


def test_slurm_that_is_away_is_asked_again_and_then_told(slurm: SimSlurm, asked: Past) -> None:
    slurm.dbd_down = [Span(NOW, NOW + 6)]
    assert sorted(read(asked, BEGIN, END)) == [run.job_id for run in runs()]
    slurm.dbd_down = [Span(0, 1 << 40)]
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return False

    with pytest.raises(SourceError, match="Problem talking"):
        next(slices(asked, BEGIN, END, wait))
    assert waits == list(past.RETRY_S)


def test_nothing_is_asked_while_slurmctlds_queue_is_long(slurm: SimSlurm) -> None:
    slurm.per_second = 100
    slurm.run(*(Message(NOW, a_run(1_000 + n, NOW)) for n in range(1_000)))
    read(Past(slurm, CLUSTER, 10), BEGIN, BEGIN + DAY_S)
    assert slurm.asked[0][0] == "ended"
    assert slurm.now - NOW >= 10  # that many looks at the queue came first


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-09-01", BEGIN),
        ("2026-09-01T00:00", BEGIN),
        ("2026-09-01T07:00+07:00", BEGIN),
        ("2026-09-01T00:00:05Z", BEGIN + 5),
        ("1970-01-01", 0),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, expected: int) -> None:
    assert moment(text) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "1969-12-31", "1790000000"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time|before 1970"):
        moment(text)


@given(begin=st.integers(0, 1 << 33), span=st.integers(0, 40 * DAY_S))
def test_days_cover_a_span_once_and_never_cross_midnight(begin: int, span: int) -> None:
    cut = list(moments.days(begin, begin + span))
    assert (cut[0][0], cut[-1][1]) == (begin, begin + span)
    for first, last in cut:
        assert first // DAY_S == last // DAY_S
    for (_, last), (first, _) in pairwise(cut):
        assert first == last + 1


# ------------------------------------------------------------------------ backfill


class Books:
    """The real collector over a database of its own."""

    def __init__(self, path: Path, port: int) -> None:
        self.path = path
        self.section = CollectorSection(f"127.0.0.1:{port}")

    def query(self, sql: str, *values: int) -> list[tuple[int, ...]]:
        with closing(sqlite3.connect(self.path, timeout=20)) as books, books:
            return books.execute(sql, values).fetchall()

    def ids(self) -> list[int]:
        return [row[0] for row in self.query("SELECT job_id FROM job_runs ORDER BY job_id")]


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    port = free_port()
    with start_collector(f"sqlite:///{tmp_path}/books.db", port, tmp_path / "log"):
        yield Books(tmp_path / "books.db", port)


def config(tmp_path: Path, collector: CollectorSection) -> AgentConfig:
    spool = SpoolSection(tmp_path / "spool.db")
    return AgentConfig(agent=AgentSection("test"), collector=collector, spool=spool)


def test_a_backfill_brings_everything_once_and_says_so(
    tmp_path: Path, books: Books, asked: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = tmp_path / "spool.db.backfill"
    settings = config(tmp_path, books.section)
    outcome = backfill.send(settings, [asked], (BEGIN, END), spool)
    assert (outcome.why, outcome.undelivered) == ("", 0)
    assert outcome.report.verdicts == {"new": 8 * DAYS}
    assert books.ids() == [run.job_id for run in runs()]
    assert "5 of 5 days" in capsys.readouterr().err
    assert not (tmp_path / "spool.db").exists()  # the agent's own


def test_a_backfill_goes_on_where_it_stopped(
    tmp_path: Path, books: Books, slurm: SimSlurm, asked: Past
) -> None:
    spool = tmp_path / "spool.db.backfill"
    settings = config(tmp_path, books.section)
    source = backfill.Backfill([asked], (BEGIN, END), no_wait)
    store = Spool(spool)
    blocks = source.read("")
    for block in blocks:
        store.position(source.name)
        store.append(source.name, (), block.position, 0)
        if source.done_s >= 2 * DAY_S:
            break
    store.close()
    blocks.close()  # type: ignore[attr-defined]  # a generator, killed
    slurm.asked.clear()
    backfill.send(settings, [asked], (BEGIN, END), spool, quiet=True)
    first, *_ = spans_of(slurm)
    assert first[0] >= BEGIN + 2 * DAY_S
    assert spans_of(slurm)[-1][1] == END


def test_a_backfill_that_is_killed_within_a_slice_leaves_nothing_of_it_out(
    asked: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MAX_BLOCK_READINGS", 3)
    whole = {(run.job_id, run.submit) for run in runs()}
    parts = list(backfill.Backfill([asked], (BEGIN, END), no_wait).read(""))
    assert len(parts) > 2 * DAYS
    for killed in range(len(parts)):
        again = backfill.Backfill([asked], (BEGIN, END), no_wait).read(parts[killed].position)
        found = [each for block in (*parts[: killed + 1], *again) for each in block.readings]
        assert {(run.job_id, run.submit) for run in found if isinstance(run, SlurmJob)} == whole


def test_a_span_that_begins_elsewhere_is_not_taken_for_done(asked: Past) -> None:
    source = backfill.Backfill([asked], (BEGIN, END), no_wait)
    *_, last = source.read("")
    earlier = backfill.Backfill([asked], (BEGIN - DAY_S, END), no_wait)
    assert sum(len(block.readings) for block in earlier.read(last.position)) == 8 * DAYS
    longer = backfill.Backfill([asked], (BEGIN, END + DAY_S), no_wait)
    assert sum(len(block.readings) for block in longer.read(last.position)) == 0
    assert longer.done_s == longer.total_s


# -------------------------------------------------------------------------- verify


def verified(books: Books, asked: Past) -> list[verify.Verified]:
    told: list[verify.Verified] = []
    verifier = Verifier(books.section, "test")
    return verify.verify(verifier, [asked], (BEGIN, END), no_wait, told.append)


def test_verify_finds_each_kind_of_difference_on_its_day(
    tmp_path: Path, books: Books, slurm: SimSlurm, asked: Past
) -> None:
    assert [each.compared.missing for each in verified(books, asked)] == [8] * DAYS
    backfill.send(
        config(tmp_path, books.section), [asked], (BEGIN, END), tmp_path / "b.db", quiet=True
    )
    results = verified(books, asked)
    assert all(each.is_equal for each in results), results
    assert sum(each.compared.told.cpu_s for each in results) == 8 * DAYS * 600 * 2
    day_of = {run.job_id: (run.end - BEGIN) // DAY_S for run in runs()}
    missing, differing, extra = 3, 12, 20
    books.query("DELETE FROM job_runs WHERE job_id = ?", missing)
    changed = slurm.table[next(key for key in slurm.table if key[0] == differing)]
    slurm.table[differing, changed.submit] = changed._replace(alloc_tres=(("cpu", 4),))
    del slurm.table[next(key for key in slurm.table if key[0] == extra)]
    results = verified(books, asked)
    found = [(r.compared.missing, r.compared.differing, r.compared.extra_runs) for r in results]
    expected = [[0, 0, 0] for _ in range(DAYS)]
    for kind, job in enumerate((missing, differing, extra)):
        expected[day_of[job]][kind] = 1
    assert found == [tuple(day) for day in expected]
    assert [r.is_equal for r in results] == [not any(day) for day in expected]
    text = "\n".join(map(verify.as_text, results))
    assert text.count("DIFFERS") == sum(any(day) for day in expected)
    assert f"jobs {extra} (submitted" in text
    assert verify.as_json(results[day_of[missing]])["missing"] == 1


def test_verify_without_a_collector_says_so(asked: Past) -> None:
    nobody = Verifier(CollectorSection("127.0.0.1:1"), "test")
    with pytest.raises(VerifyError, match="cannot be reached"):
        verify.verify(nobody, [asked], (BEGIN, END), no_wait, lambda _: None)


# -------------------------------------------------------------------------- sweeps


class Swept:
    """A live source whose reading ends with a sweep of these readings, in two blocks."""

    name = "swept"

    def __init__(self, readings: Sequence[Reading], span: tuple[int, int] = (BEGIN, END)) -> None:
        self.readings = tuple(readings)
        self.span = span
        self.was_asked = False

    def read(self, position: str) -> Iterator[Block]:
        sweep = Sweep(CLUSTER, *self.span, is_last=False)
        yield Block((), "swept" if position == "swept" else "read", 0)
        yield Block((), "read", 0, sweep=sweep)
        self.was_asked = True
        yield Block(self.readings[:10], "read", 0, sweep=sweep)
        yield Block(self.readings[10:], "read", 0, sweep=sweep)
        yield Block((), "swept", 0, sweep=sweep._replace(is_last=True))


@contextmanager
def intake(path: Path, collector: CollectorSection) -> Iterator[Intake]:
    spool, health = Spool(path), Health()
    health.link_is_up("0.1")
    verifier = Verifier(collector, "test")
    with closing(spool):
        yield Intake(spool, health, verifier, lambda: None, threading.Event())


def sweep(source: Swept, into: Intake) -> None:
    read_through(Feed(source.name, source, 1, is_live=True), into)


def test_a_sweep_sends_only_what_the_collector_lacks_or_has_otherwise(
    tmp_path: Path, books: Books, asked: Past
) -> None:
    backfill.send(
        config(tmp_path, books.section), [asked], (BEGIN, END), tmp_path / "b.db", quiet=True
    )
    books.query("DELETE FROM job_runs WHERE job_id IN (2, 30)")
    changed = [run._replace(alloc_tres=(("cpu", 3),)) if run.job_id == 7 else run for run in runs()]
    bad = Unreadable(CLUSTER, "sacct", "no number", b"x|y", 3)
    with intake(tmp_path / "spool.db", books.section) as into:
        for sent in (3 + 1, 3):
            # What the agent remembers to have sent does not hide that it is missing.
            sweep(Swept([*changed, bad]), into)
            assert into.spool.stats().records == sent
            into.spool.forget([block.block_id for block in into.spool.head(0, 9)])
        assert into.spool.position("swept") == "swept"
        found = into.health.report().sweeps[CLUSTER]
        assert (found.spans, found.missing, found.differing, found.extra) == (2, 4, 2, 0)


def test_a_sweep_that_is_clean_sends_nothing_and_sees_what_is_too_much(
    tmp_path: Path, books: Books, asked: Past, caplog: pytest.LogCaptureFixture
) -> None:
    backfill.send(
        config(tmp_path, books.section), [asked], (BEGIN, END), tmp_path / "b.db", quiet=True
    )
    with intake(tmp_path / "spool.db", books.section) as into:
        sweep(Swept(runs()), into)
        assert into.spool.stats().records == 0
        assert "sweep of cluster" not in caplog.text
        sweep(Swept(runs()[:-2]), into)
        assert into.health.report().sweeps[CLUSTER].extra == 2
        assert "it has 2 that Slurm does not tell" in caplog.text
        sweep(Swept(runs()), into)
        assert into.health.report().sweeps[CLUSTER].extra == 0


def test_a_sweep_waits_while_the_collector_is_away_and_slurm_is_not_asked(
    tmp_path: Path, books: Books
) -> None:
    source = Swept(runs())
    with intake(tmp_path / "spool.db", CollectorSection("127.0.0.1:1")) as into:
        into.health.link_is_down("cut")
        sweep(source, into)
        assert into.spool.position("swept") == "read"
        assert not source.was_asked
        assert "no connection" in into.health.report().put_off["swept"]
        assert into.health.report().last_success["swept"] > 0
    with intake(tmp_path / "spool.db", books.section) as into:
        sweep(source, into)
        assert into.spool.position("swept") == "swept"
        assert into.health.report().put_off == {}


def test_a_collector_that_breaks_off_moves_nothing(tmp_path: Path) -> None:
    with intake(tmp_path / "spool.db", CollectorSection("127.0.0.1:1")) as into:
        sweep(Swept(runs()), into)
        assert into.spool.position("swept") == "read"
        assert "cannot be reached" in into.health.report().put_off["swept"]
        assert into.spool.stats().records == 0


def test_an_older_collector_is_sent_what_is_news_instead(tmp_path: Path) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    # Its Verify is the generated one, which answers UNIMPLEMENTED.
    usage_pb2_grpc.add_LedgerServiceServicer_to_server(Notebook(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    older = CollectorSection(f"127.0.0.1:{port}")
    try:
        with intake(tmp_path / "spool.db", older) as into:
            sweep(Swept(runs()), into)
            assert into.spool.stats().records == 8 * DAYS
            assert into.spool.position("swept") == "swept"
        with pytest.raises(VerifyUnknown), Verifier(older, "x").comparing(CLUSTER, 1, 2) as call:
            call.finish()
    finally:
        server.stop(None).wait()


def test_records_on_their_way_are_not_taken_for_missing(
    tmp_path: Path, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobledger_agent.delivery.comparing.DRAIN_S", 0)
    with intake(tmp_path / "spool.db", books.section) as into:
        read_through(Feed("f", OneBlock(runs()), 1, is_live=True), into)
        source = Swept(runs())
        sweep(source, into)
        assert not source.was_asked
        assert "still wait" in into.health.report().put_off["swept"]


class OneBlock:
    """All of it at once."""

    name = "f"

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.readings = tuple(readings)

    def read(self, position: str) -> Iterator[Block]:
        yield Block(self.readings, f"{position}.", 0)


def test_a_sweep_sends_what_the_collector_would_put_aside_once(
    tmp_path: Path, books: Books
) -> None:
    """A verdict of a comparison keeps nothing: what is to be in quarantine must be sent."""
    bare, *others = runs()
    unpriced = bare._replace(alloc_tres=())
    with intake(tmp_path / "spool.db", books.section) as into:
        for sent in (8 * DAYS, 8 * DAYS - 1):
            sweep(Swept([unpriced, *others]), into)
            assert into.spool.stats().records == sent
            into.spool.forget([block.block_id for block in into.spool.head(0, 9)])


class Refusing(Notebook):
    """A collector that takes a batch with job 7 in it for no batch at all, until it is mended."""

    is_mended = False

    def Report(  # noqa: N802  gRPC's name
        self, request_iterator: Iterator[usage_pb2.ReportRequest], context: grpc.ServicerContext
    ) -> Iterator[usage_pb2.ReportResponse]:
        def taken() -> Iterator[usage_pb2.ReportRequest]:
            for request in request_iterator:
                if not self.is_mended and 7 in request.batch.jobs.job_id:
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "its columns are odd")
                yield request

        return super().Report(taken(), context)


def test_a_backfill_with_a_block_that_is_refused_is_not_done_until_it_is_taken(
    tmp_path: Path, asked: Past
) -> None:
    """Or its spool, with the only copy of what was held, would be removed."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    collector = Refusing()
    usage_pb2_grpc.add_LedgerServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    settings = config(tmp_path, CollectorSection(f"127.0.0.1:{port}"))
    spool = tmp_path / "spool.db.backfill"
    try:
        outcome = backfill.send(settings, [asked], (BEGIN, END), spool, quiet=True)
        assert outcome.undelivered == 8  # the block of its day
        assert "refused" in outcome.why
        assert 7 not in collector.jobs
        collector.is_mended = True
        outcome = backfill.send(settings, [asked], (BEGIN, END), spool, quiet=True)
        assert (outcome.undelivered, outcome.why) == (0, "")
        assert set(collector.jobs) == {run.job_id for run in runs()}
    finally:
        server.stop(None).wait()
