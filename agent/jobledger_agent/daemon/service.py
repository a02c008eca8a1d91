"""The agent at work: sources into the spool, the spool to the collector.

One thread a source, one for the link; the main thread watches over them.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Final, NamedTuple, Protocol

from jobledger_agent import VERSION, clock
from jobledger_agent.daemon import metrics
from jobledger_agent.daemon.feed import Intake, keep_reading, read_through
from jobledger_agent.daemon.kick import Kicks
from jobledger_agent.daemon.notify import Notifier
from jobledger_agent.daemon.replay import request_beside
from jobledger_agent.daemon.summary import Summary
from jobledger_agent.delivery.link import Identity, Link
from jobledger_agent.delivery.tls import bearer_token, credentials
from jobledger_agent.delivery.verifier import Verifier
from jobledger_agent.errors import AgentError
from jobledger_agent.health import Health, HealthReport
from jobledger_agent.settings.config import Supervisor
from jobledger_agent.settings.sections import AgentConfig, LiveSection, PyslurmSection
from jobledger_agent.source import SourceError
from jobledger_agent.sources.feeds import Feed, clusters, feeds
from jobledger_agent.spooling.spool import Spool, SpoolFull, SpoolUnwell

WATCH_S: Final = 0.2
STOP_GRACE_S: Final = 10
"""How long a stopping agent waits for what is in flight and for its threads."""
PRUNE_EVERY_MS: Final = 3_600_000
SUMMARY_EVERY_MS: Final = 3_600_000
SILENT_MS_MAX: Final = 120_000
"""A link's driver that took no step for so long is stuck; it wakes twice a minute."""
QUESTIONS_A_STEP_MAX: Final = 15
"""Of a live source before it gives its next block: a day halved down, and what goes with it."""
FILE_STEP_S_MAX: Final = 600
"""For one block of a dump; more only on a disk that hangs."""

log = logging.getLogger(__name__)


class Tell(Protocol):
    """Hears how ``once`` gets on."""

    def __call__(self, report: HealthReport, waiting: int, *, last: bool = False) -> None:
        """Take the state and the number of records that wait; ``last`` at the end."""


class Outcome(NamedTuple):
    """What ``once`` achieved; ``undelivered`` records are in the spool, ``why`` says why."""

    report: HealthReport
    undelivered: int
    why: str


class Worker(threading.Thread):
    """A thread whose failure the main thread can see.

    A daemon: a source that hangs must not keep a stopping agent alive, and the
    spool is sound at any moment.
    """

    def __init__(
        self, name: str, work: Callable[[], object], silent_ms_max: int = SILENT_MS_MAX
    ) -> None:
        """``silent_ms_max``: longer than that without ``beat`` it is stuck."""
        super().__init__(name=name, daemon=True)
        self._work = work
        self._silent_ms_max = silent_ms_max
        self._beat_at_ms = clock.monotonic_ms()
        self.is_stuck = False
        self.failure: AgentError | None = None
        self.is_done = False

    def run(self) -> None:
        """Do the work; an AgentError is kept, anything else is a defect and is logged."""
        try:
            self._work()
            self.is_done = True
        except AgentError as failure:
            self.failure = failure

    def beat(self) -> None:
        """The work goes on."""
        self._beat_at_ms = clock.monotonic_ms()

    def silent_s(self, now_ms: int) -> int:
        """Return for how long it has been stuck (s); 0 while it is not."""
        silent_ms = now_ms - self._beat_at_ms
        return silent_ms // 1000 if self.is_alive() and silent_ms > self._silent_ms_max else 0

    def check(self) -> None:
        """Raise what ended the thread, if something did."""
        if self.failure:
            raise self.failure
        if not self.is_alive() and not self.is_done:
            raise AgentError(f"the agent's {self.name} thread broke; its log says where")


class Service:
    """All parts of one agent, built from its settings. Raises AgentError."""

    def __init__(
        self,
        config: AgentConfig,
        fed: Sequence[Feed] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """``fed`` is read in place of the configured sources, until ``stop`` is set."""
        credentials(config.collector)
        bearer_token(config.collector)
        self.config = config
        self.feeds = feeds(config) if fed is None else tuple(fed)
        self.health = Health()
        self.health.know(feed.name for feed in self.feeds)
        self.stop = stop or threading.Event()
        self.kicks = Kicks(config.kick.file)
        self.spool = Spool(
            config.spool.path,
            config.spool.max_bytes,
            disk_reserve_bytes=config.spool.reserve_bytes,
        )
        if self.spool.notice:
            log.error("%s", self.spool.notice)
        self._clusters = clusters(config)
        identity = Identity(config.agent.name, VERSION, self._clusters, is_beside=fed is not None)
        self._live = tuple(feed.name for feed in self.feeds if feed.tells_lag)
        self._verifier = Verifier(config.collector, config.agent.name)
        self.link = Link(
            config.collector, identity, self.spool, self.health, self._complete_through
        )
        self._link_worker = Worker("link", self.link.run)

    def run(self, supervisor: Supervisor) -> None:
        """Work until SIGTERM or SIGINT. Raises AgentError when a part fails."""
        notifier = Notifier(supervisor)
        work = [self._link_worker, *(self._reader(feed) for feed in self.feeds)]
        with self._serving(), _signals(self.stop):
            for worker in work:
                worker.start()
            notifier.ready()
            log.info("reading %d sources, spool %s", len(self.feeds), self.spool.path)
            self._watch(work, notifier)
            notifier.stopping()
            self._finish(work)

    def once(self, timeout_s: int, tell: Tell) -> Outcome:
        """Read every source to its end, deliver everything, and say what came of it.

        Gives up after ``timeout_s`` without an acknowledgement while records wait.
        ``tell`` is called several times a second with the state and what waits.
        """
        link = self._link_worker
        with self._serving(), _signals(self.stop):
            link.start()
            generation = -1
            why = ""
            # Damage that shows only when a block is sent: its source is read again.
            while not why and generation != self.spool.generation:
                generation = self.spool.generation
                reader = Worker("reader", self._read_all)
                reader.start()
                why = self._await_delivery(reader, link, timeout_s, tell)
            self._finish([reader, link])
            stats = self.spool.stats()
            waiting = stats.records + stats.held_records
            if stats.held_records and not why:
                why = (
                    f"the collector refused {stats.held_records} records as a whole, which are held"
                    f" in {self.spool.path} until a newer agent or collector is installed"
                )
            tell(self.health.report(), waiting, last=True)
            return Outcome(self.health.report(), waiting, why)

    def close(self) -> None:
        """Release the spool."""
        self.spool.close()

    def _complete_through(self) -> int:
        return metrics.complete_through(self.spool, self._live)

    def _reader(self, feed: Feed) -> Worker:
        def work() -> None:
            keep_reading(feed, self._intake(worker.beat), self.kicks)

        worker = Worker(feed.name, work, self._step_ms_max())
        return worker

    def _intake(self, alive: Callable[[], None] = lambda: None) -> Intake:
        return Intake(self.spool, self.health, self._verifier, self.link.wake, self.stop, alive)

    def _step_ms_max(self) -> int:
        """Return how long a source may be busy before its next block or its error."""
        timeouts = [
            section.timeout_s
            for section in self.config.sources
            if isinstance(section, LiveSection | PyslurmSection)
        ]
        return 1000 * max(FILE_STEP_S_MAX, QUESTIONS_A_STEP_MAX * max(timeouts, default=0))

    def _read_all(self) -> None:
        for feed in self.feeds:
            try:
                read_through(feed, self._intake())
            except SourceError as error:
                self.health.source_complained(feed.name, str(error))

    def _await_delivery(
        self,
        reader: Worker,
        link: Worker,
        timeout_s: int,
        tell: Tell,
    ) -> str:
        """Wait until all is delivered; returns why it is not, "" if it is."""
        acknowledged = -1
        give_up_at_ms = 0
        while not self.stop.wait(WATCH_S):
            reader.check()
            link.check()
            is_read = reader.is_done  # before the spool is counted, or its last block is missed
            waiting = self.spool.stats().records
            report = self.health.report()
            tell(report, waiting)
            if not waiting and is_read:
                return ""
            stuck = waiting or report.spool_full  # by others' files, with nothing of ours to send
            if not stuck or report.acknowledged > acknowledged:
                acknowledged = report.acknowledged
                give_up_at_ms = clock.monotonic_ms() + timeout_s * 1000
            elif clock.monotonic_ms() >= give_up_at_ms:
                if not waiting:
                    return report.spool_full
                silence = f"the collector acknowledged nothing for {timeout_s} s"
                return f"{silence}: {report.link_error}" if report.link_error else silence
        return "it was interrupted"

    def _watch(self, work: list[Worker], notifier: Notifier) -> None:
        ping_ms = notifier.watchdog_ms // 3 or 60_000
        ping_at_ms = prune_at_ms = clock.monotonic_ms()
        summary = Summary(self.spool, self.health, self._live)
        summary_at_ms = ping_at_ms + SUMMARY_EVERY_MS
        while not self.stop.wait(WATCH_S * 5):
            for worker in work:
                worker.check()
            self._release_if_asked()
            now_ms = clock.monotonic_ms()
            if not self._is_stuck(work, now_ms) and now_ms >= ping_at_ms:
                notifier.alive()
                ping_at_ms = now_ms + ping_ms
            if now_ms >= prune_at_ms:
                self._prune()
                prune_at_ms = now_ms + PRUNE_EVERY_MS
            if now_ms >= summary_at_ms:
                with suppress(SpoolUnwell):  # whoever reads or sends next says so
                    log.info("%s", summary.line(clock.now_s()))
                summary_at_ms = now_ms + SUMMARY_EVERY_MS

    def _is_stuck(self, work: Sequence[Worker], now_ms: int) -> bool:
        """Whether a thread is stuck; then systemd hears nothing and starts the agent anew."""
        is_stuck = now_ms - self.link.alive_at_ms >= SILENT_MS_MAX
        for worker in work:
            if worker is self._link_worker:
                continue
            silent_s = worker.silent_s(now_ms)
            if silent_s and not worker.is_stuck:
                why = f"its thread has been stuck for {silent_s} s"
                self.health.source_complained(worker.name, why)
                log.error("source %s: %s; the watchdog is told nothing until it goes on",
                          worker.name, why)  # fmt: skip
            worker.is_stuck = bool(silent_s)
            is_stuck = is_stuck or worker.is_stuck
        return is_stuck

    def _release_if_asked(self) -> None:
        """Offer held records again when ``jobledger-agent replay --held`` left its request."""
        request = request_beside(self.spool.path)
        if not request.exists():
            return
        try:
            released = self.spool.release_held()
        except (SpoolFull, SpoolUnwell) as full:
            log.warning("%s; held records are offered again later", full)
            return
        request.unlink(missing_ok=True)
        log.info("%d records that were held are offered to the collector again", released)
        self.link.wake()

    def _prune(self) -> None:
        try:
            self.spool.prune_recent()
        except (SpoolFull, SpoolUnwell) as full:
            log.warning("%s; old sightings are forgotten later", full)

    def _finish(self, work: list[Worker]) -> None:
        """End the threads: appends first, then the stream."""
        self.stop.set()
        self.link.stop(STOP_GRACE_S)
        deadline_ms = clock.monotonic_ms() + STOP_GRACE_S * 1000
        for worker in work:
            worker.join(max(0, deadline_ms - clock.monotonic_ms()) / 1000)

    @contextmanager
    def _serving(self) -> Iterator[None]:
        """Serve the metrics, if they are wanted."""
        with ExitStack() as stack:
            if self.config.metrics.listen:
                subject = metrics.Subject(
                    VERSION, self.config.agent.name, self._live, clock.now_s(),
                    self._clusters, self.config.spool.max_bytes,
                    self.config.collector, self.kicks,
                )  # fmt: skip
                families = metrics.AgentMetrics(subject, self.spool, self.health)
                server, thread = metrics.serve(self.config.metrics.listen, families)
                stack.callback(thread.join)
                stack.callback(server.server_close)
                stack.callback(server.shutdown)
            yield


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set ``stop`` meanwhile."""

    def told(number: int, _: FrameType | None) -> None:
        log.info("stopping on %s", signal.Signals(number).name)
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
