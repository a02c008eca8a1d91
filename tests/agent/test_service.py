"""Sources into the spool, the spool to the collector: what the whole agent promises."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from jobledger_agent.daemon.feed import Intake, keep_reading, read_through
from jobledger_agent.daemon.kick import Kicks
from jobledger_agent.daemon.notify import Notifier
from jobledger_agent.daemon.service import Service, Worker
from jobledger_agent.health import Health, HealthReport
from jobledger_agent.records.job import Reading, Unreadable
from jobledger_agent.settings.config import ConfigError, Supervisor
from jobledger_agent.settings.sections import (
    AgentConfig,
    AgentSection,
    CollectorSection,
    FileSection,
    MetricsSection,
    SacctSection,
    SpoolSection,
)
from jobledger_agent.source import Block, SourceError
from jobledger_agent.sources.feeds import Feed, clusters, feeds
from jobledger_agent.spooling.spool import Spool
from jobledger_agent.spooling.spoolfile import SpoolError
from jobledger_proto.v1 import usage_pb2_grpc
from tests.agent.dumps import DATA
from tests.agent.notebook import Notebook, a_job

ENDED = 1_790_000_500


class Script:
    """A source that gives these blocks, the ones after its position, then may complain."""

    name = "script"

    def __init__(self, blocks: Sequence[Sequence[Reading]], complaint: str = "") -> None:
        self.blocks = list(blocks)
        self.complaint = complaint

    def read(self, position: str) -> Iterator[Block]:
        for number, readings in enumerate(self.blocks[int(position or 0) :], int(position or 0)):
            yield Block(tuple(readings), str(number + 1), ENDED + number)
        if self.complaint:
            raise SourceError(self.complaint)


class Repeating(Script):
    """A live source: each cycle reads the whole overlap again."""

    def read(self, position: str) -> Iterator[Block]:
        assert position == "" or int(position) >= 0
        return super().read("")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool.db", 1 << 20)
    yield spool
    spool.close()


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def collector(notebook: Notebook) -> Iterator[CollectorSection]:
    server = grpc.server(futures.ThreadPoolExecutor(8))
    usage_pb2_grpc.add_LedgerServiceServicer_to_server(notebook, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield CollectorSection(address=f"127.0.0.1:{port}")
    server.stop(None).wait()


def nothing() -> None:
    """Nobody waits for the block."""


def waiting(spool: Spool) -> int:
    return spool.stats().records


# --------------------------------------------------------------------- reading


def test_a_source_goes_on_where_its_last_stored_block_ended(spool: Spool) -> None:
    source = Script([[a_job(1)], [a_job(2), a_job(3)]])
    feed = Feed("f", source, 1, is_live=False)
    health = Health()
    read_through(feed, Intake(spool, health, None, nothing, threading.Event()))
    assert (waiting(spool), spool.position("f")) == (3, "2")
    source.blocks.append([a_job(4)])
    read_through(feed, Intake(spool, health, None, nothing, threading.Event()))
    assert (waiting(spool), spool.position("f")) == (4, "3")
    assert health.report().read == 4


def test_a_complaint_comes_after_everything_readable_was_stored(spool: Spool) -> None:
    source = Script([[a_job(1)], [a_job(2)]], complaint="cut off")
    with pytest.raises(SourceError, match="cut off"):
        read_through(
            Feed("f", source, 1, is_live=False),
            Intake(spool, Health(), None, nothing, threading.Event()),
        )
    assert waiting(spool) == 2


RUNNING = a_job(7)._replace(state="RUNNING")
DONE = a_job(8)._replace(end=ENDED)
BAD = Unreadable("alpha", "sacct at 12:00", "End is no time", b"9|x|", 4)


@pytest.mark.parametrize(
    ("first", "second", "is_news"),
    [
        (DONE, DONE, False),
        (DONE, DONE._replace(observed=ENDED + 60), False),
        (DONE, DONE._replace(total_cpu_ms=5), True),
        (DONE, DONE._replace(submit=DONE.submit + 1), True),
        (DONE, DONE._replace(cluster="beta"), True),
        (RUNNING, RUNNING._replace(slurm_elapsed_s=90, observed=9, max_rss_bytes=1), False),
        (RUNNING, RUNNING._replace(suspended_s=90), True),
        (RUNNING, RUNNING._replace(end=ENDED), True),
        (BAD, BAD, False),
        (BAD, BAD._replace(origin="sacct at 12:01"), False),
        (BAD, BAD._replace(raw=b"9|y|"), True),
        (DONE, DONE._replace(job_id=2**64 - 1), True),
    ],
)
def test_a_live_source_sends_a_run_again_only_with_news(
    first: Reading, second: Reading, is_news: bool, spool: Spool
) -> None:
    health = Health()
    for readings in ([first], [first, second], [second]):
        feed = Feed("live", Repeating([readings]), 1, is_live=True)
        read_through(feed, Intake(spool, health, None, nothing, threading.Event()))
    assert waiting(spool) == (2 if is_news else 1)
    assert health.report().read == 4
    assert health.report().repeated == 4 - waiting(spool)


def test_a_content_that_comes_back_is_news_again(spool: Spool) -> None:
    changed = DONE._replace(qos="high")
    for reading in (DONE, changed, DONE):
        feed = Feed("live", Repeating([[reading]]), 1, is_live=True)
        read_through(feed, Intake(spool, Health(), None, nothing, threading.Event()))
    assert waiting(spool) == 3


def test_a_file_is_sent_as_it_is(spool: Spool) -> None:
    feed = Feed("f", Script([[DONE, DONE]]), 1, is_live=False)
    read_through(feed, Intake(spool, Health(), None, nothing, threading.Event()))
    assert waiting(spool) == 2


def test_a_cycle_without_news_still_moves_the_position(spool: Spool) -> None:
    for cycle in (1, 2):
        feed = Feed("live", Repeating([[DONE]] * cycle), 1, is_live=True)
        read_through(feed, Intake(spool, Health(), None, nothing, threading.Event()))
    assert (spool.position("live"), waiting(spool)) == ("2", 1)
    assert spool.marks()[0].complete_through == ENDED + 1


def until(holds: Callable[[], bool], within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_spool_pauses_the_source_and_it_goes_on_by_itself(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = [[Unreadable("a", "o", "r", b"x" * 60_000, 60_000)] for _ in range(40)]
    health, stop = Health(), threading.Event()
    feed = Feed("f", Script(blocks), 1, is_live=False)
    reader = Worker(
        "reader", lambda: read_through(feed, Intake(spool, health, None, nothing, stop))
    )
    reader.start()
    until(lambda: bool(health.report().spool_full))
    held = waiting(spool)
    assert 0 < held < 40
    assert "sources wait" in caplog.text
    assert "max_bytes" in health.report().source_error
    taken = 0
    while not reader.is_done:
        blocks_there = spool.head(0, 50)
        spool.forget([each.block_id for each in blocks_there])
        taken += len(blocks_there)
        time.sleep(0.02)
    assert taken + waiting(spool) == 40
    assert health.report().spool_full == ""


def test_once_gives_up_on_a_disk_that_others_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits for the collector then, and nothing will: it must not wait for ever."""
    nothing_free = os.statvfs_result([4096] * 2 + [0] * 9)
    monkeypatch.setattr(os, "statvfs", lambda _: nothing_free)
    dump = tmp_path / "dump.txt"
    dump.write_bytes((DATA / "slurm-22.05" / "safe-billing-X.txt").read_bytes())
    config = AgentConfig(
        spool=SpoolSection(tmp_path / "spool.db"),
        collector=CollectorSection("127.0.0.1:1"),
        metrics=MetricsSection(""),
        sources=(FileSection(dump),),
    )
    with closing(Service(config)) as service:
        outcome = service.once(1, lambda *_, **__: None)
    assert outcome.undelivered == 0
    assert "free on the disk" in outcome.why


def test_a_paused_source_can_be_stopped(spool: Spool) -> None:
    blocks = [[Unreadable("a", "o", "r", b"x" * 60_000, 60_000)] for _ in range(40)]
    health, stop = Health(), threading.Event()
    feed = Feed("f", Script(blocks), 1, is_live=False)
    reader = Worker(
        "reader", lambda: read_through(feed, Intake(spool, health, None, nothing, stop))
    )
    reader.start()
    until(lambda: bool(health.report().spool_full))
    stop.set()
    until(lambda: reader.is_done, within_s=3)


def test_a_block_larger_than_the_quota_passes_in_portions(spool: Spool) -> None:
    bad = [Unreadable("a", f"line {n}", "r", bytes([n]) * 60_000, 60_000) for n in range(40)]
    feed = Feed("f", Repeating([[a_job(1), *bad, a_job(2)]]), 1, is_live=True)
    health, stop = Health(), threading.Event()
    reader = Worker(
        "reader", lambda: read_through(feed, Intake(spool, health, None, nothing, stop))
    )
    reader.start()
    until(lambda: bool(health.report().spool_full))
    assert spool.position("f") == ""  # nothing is done until all of it is stored
    while not reader.is_done:
        spool.forget([each.block_id for each in spool.head(0, 50)])
        time.sleep(0.05)
    assert (spool.position("f"), health.report().read) == ("1", 42)
    read_through(feed, Intake(spool, health, None, nothing, stop))
    assert health.report().repeated == 42


def test_a_long_reading_stops_after_the_block_in_hand(spool: Spool) -> None:
    stop = threading.Event()
    feed = Feed("f", Script([[a_job(n)] for n in range(50)]), 1, is_live=False)
    read_through(feed, Intake(spool, Health(), None, stop.set, stop))
    assert (waiting(spool), spool.position("f")) == (1, "1")


def test_a_source_that_fails_is_asked_again_and_told_of_once(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    source = Script([[DONE]], complaint="slurmdbd does not answer")
    health, stop = Health(), threading.Event()
    feed = Feed("live", source, 1, is_live=True)
    reader = Worker(
        "r", lambda: keep_reading(feed, Intake(spool, health, None, nothing, stop), Kicks(""))
    )
    reader.start()
    until(lambda: health.report().source_errors.get("live", 0) >= 2)
    assert sum("slurmdbd does not answer" in line for line in caplog.messages) == 1
    assert health.report().source_error == "live: slurmdbd does not answer"
    source.complaint = ""
    until(lambda: not health.report().complaints)
    stop.set()
    until(lambda: reader.is_done, within_s=3)
    assert health.report().last_success["live"] > 0


def test_a_failed_thread_is_seen() -> None:
    def fail() -> None:
        raise SpoolError("the spool burnt down")

    worker = Worker("w", fail)
    worker.start()
    worker.join()
    with pytest.raises(SpoolError, match="burnt down"):
        worker.check()


# -------------------------------------------------------------------- settings


def test_sources_are_named_apart(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    plain = FileSection(dump)
    renamed = FileSection(dump, rename=(("alpha", "beta"),))
    live = SacctSection(clusters=("gamma",))
    config = AgentConfig(sources=(plain, renamed, live))
    names = [feed.name for feed in feeds(config)]
    assert names == [f"file:{dump}", f"file:{dump}?alpha:beta", "sacct:gamma"]
    assert clusters(config) == ("beta", "gamma")
    with pytest.raises(ConfigError, match="configured twice"):
        feeds(AgentConfig(sources=(plain, plain)))
    with pytest.raises(ConfigError, match="not the name of one cluster"):
        feeds(AgentConfig(sources=(SacctSection(clusters=("all",)),)))


# ------------------------------------------------------------------------ once


def a_dump(path: Path, runs: int) -> Path:
    rows = [f"alpha|{n}|1790000000|1790000010|1790000110|cpu=2,mem=1024M|COMPLETED|" for n in
            range(1, runs + 1)]  # fmt: skip
    header = "Cluster|JobIDRaw|Submit|Start|End|AllocTRES|State|"
    path.write_text("\n".join([header, *rows, ""]))
    return path


def settings(
    tmp_path: Path, collector: CollectorSection, *inputs: Path, metrics: str = ""
) -> AgentConfig:
    return AgentConfig(
        agent=AgentSection("test"),
        collector=collector,
        spool=SpoolSection(tmp_path / "spool.db"),
        metrics=MetricsSection(metrics),
        sources=tuple(FileSection(path, poll_interval_s=1) for path in inputs),
    )


def tell_nobody(report: HealthReport, waiting: int, *, last: bool = False) -> None:
    """Nobody watches."""


def test_once_delivers_everything_and_a_second_time_nothing(
    tmp_path: Path, notebook: Notebook, collector: CollectorSection
) -> None:
    config = settings(tmp_path, collector, a_dump(tmp_path / "dump", 1200))
    for expected in (1200, 0):
        service = Service(config)
        outcome = service.once(10, tell_nobody)
        service.close()
        assert (outcome.why, outcome.undelivered) == ("", 0)
        assert outcome.report.acknowledged == expected
    assert notebook.jobs == list(range(1, 1201))


def test_once_without_a_collector_says_why_and_the_next_delivers(
    tmp_path: Path, notebook: Notebook, collector: CollectorSection
) -> None:
    dump = a_dump(tmp_path / "dump", 700)
    nowhere = Service(settings(tmp_path, CollectorSection("127.0.0.1:1"), dump))
    outcome = nowhere.once(1, tell_nobody)
    nowhere.close()
    assert outcome.undelivered == 700
    assert "cannot be reached" in outcome.why
    dump.unlink()  # what was read is in the spool
    there = Service(settings(tmp_path, collector))
    assert there.once(10, tell_nobody).undelivered == 0
    there.close()
    assert len(notebook.jobs) == 700


def test_once_delivers_what_is_readable_of_a_truncated_and_a_missing_input(
    tmp_path: Path, notebook: Notebook, collector: CollectorSection
) -> None:
    whole = a_dump(tmp_path / "whole", 10)
    cut = a_dump(tmp_path / "cut", 10)
    cut.write_text(cut.read_text()[:-30])
    service = Service(settings(tmp_path, collector, cut, tmp_path / "missing", whole))
    outcome = service.once(10, tell_nobody)
    service.close()
    assert set(outcome.report.complaints) == {f"file:{cut}", f"file:{tmp_path / 'missing'}"}
    assert notebook.jobs == [*range(1, 10), *range(1, 11)]
    assert outcome.undelivered == 0


# ------------------------------------------------------------------------- run


def test_run_reads_delivers_and_stops_when_told(
    tmp_path: Path, notebook: Notebook, collector: CollectorSection
) -> None:
    service = Service(settings(tmp_path, collector, a_dump(tmp_path / "dump", 1000)))

    def stop_when_delivered() -> None:
        until(lambda: len(notebook.jobs) == 1000)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop_when_delivered)
    watcher.start()
    service.run(Supervisor("", 0, journal=False))
    watcher.join()
    assert waiting(service.spool) == 0
    service.close()


def test_systemd_is_told(tmp_path: Path, collector: CollectorSection) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        service = Service(settings(tmp_path, collector))
        threading.Timer(1.5, service.stop.set).start()
        service.run(Supervisor(address, 900_000, journal=False))
        service.close()
        systemd.setblocking(False)
        heard = []
        try:
            while True:
                heard.append(systemd.recv(100))
        except BlockingIOError:
            pass
    assert heard[0] == b"READY=1"
    assert heard[-1] == b"STOPPING=1"
    assert heard.count(b"WATCHDOG=1") >= 1


def test_a_dead_notify_socket_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    Notifier(Supervisor("/nonexistent/notify", 0, journal=False)).ready()
    assert "does not answer" in caplog.text


AGENT = """
import sys
from tests.agent.test_service import killed_agent
killed_agent(*sys.argv[1:])
"""


def killed_agent(directory: str, address: str, dump: str) -> None:
    """The body of an agent that is killed again and again."""
    config = settings(Path(directory), CollectorSection(address), Path(dump))
    Service(config).once(30, tell_nobody)


def test_killed_again_and_again_it_still_delivers_everything(
    tmp_path: Path, notebook: Notebook, collector: CollectorSection
) -> None:
    dump = a_dump(tmp_path / "dump", 60_000)
    command = [sys.executable, "-c", AGENT, str(tmp_path), collector.address, str(dump)]
    for attempt in range(6):
        with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as agent:
            before = len(notebook.jobs)
            while len(notebook.jobs) == before and agent.poll() is None:
                time.sleep(0.001)
            time.sleep(0.02 * attempt)
            agent.kill()
    assert subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode == 0
    assert set(notebook.jobs) == set(range(1, 60_001))
    spool = Spool(tmp_path / "spool.db")
    assert waiting(spool) == 0
    spool.close()
