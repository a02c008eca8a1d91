"""One cycle of questions to a live Slurm: their order, and what each answer moves.

First the controller is asked whether slurmdbd knows everything (its queue is
empty), then what ended behind the watermark, what is open, what vanished from
there, what the steps used, the account tree, one slice of the past. A question
that fails moves nothing: the next cycle asks for the same again, from before
it began to fail. It works on any ``accounting.Accounting``.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final, NamedTuple

from jobledger_agent import clock, sweep, window
from jobledger_agent.accounting import Accounting, Controller, SlurmdbdSettings, TooMuch
from jobledger_agent.blocks import HALF_TOLD_S, Noted, filled, is_half_told
from jobledger_agent.job import SlurmJob
from jobledger_agent.runs import Runs, job_id_of
from jobledger_agent.source import Block, SourceError, SourceFacts, Sweep
from jobledger_agent.stepmemory import StepMemory
from jobledger_agent.window import NOTHING_KNOWN, Known

MAX_IDS: Final = 200
"""Job ids in one question: slurmdbd looks for the steps of each by itself."""
SETTINGS_EVERY_S: Final = 3_600
"""How often slurmdbd's own settings are asked for."""
SWEEP_RETRY_S: Final = 600
"""After a slice that could not be compared, for the collector may be away."""
SWEEP_QUEUE_SHARE: Final = 10
"""A sweep waits already at this fraction of the queue at which all reading waits."""


class CycleSettings(NamedTuple):
    """How a cycle reads; spans in seconds, ``dbd_queue_max`` in messages.

    Each cycle reads again what ended in the last ``overlap_s``, the first one what
    ended in the last ``lookback_s``. What is open is asked for every
    ``open_every_s``, steps ``settle_s`` after the end of their job. Nothing is
    asked while slurmctld holds more than ``dbd_queue_max`` messages for slurmdbd.
    Once a day the last ``sweep_days`` are read again (0: never).
    """

    overlap_s: int = 600
    lookback_s: int = 31 * sweep.DAY_S
    open_every_s: int = 300
    settle_s: int = 60
    sweep_days: int = 35
    dbd_queue_max: int = 1_000

    @property
    def reach_s(self) -> int:
        """How far behind the watermark each question begins.

        At least from one look at the open runs to the next: a run that was seen by
        neither may end as of any moment between them.
        """
        return max(self.overlap_s, self.open_every_s + 2 * window.SLACK_S)


class Cycle:
    """Job records from a running Slurm; a ``source.Source`` (see ``read``)."""

    def __init__(
        self,
        accounting: Accounting,
        settings: CycleSettings | None = None,
        *,
        now: Callable[[], int] = clock.now_s,
        monotonic_ms: Callable[[], int] = clock.monotonic_ms,
    ) -> None:
        """``now`` gives epoch seconds, ``monotonic_ms`` measures how long an answer takes."""
        self._accounting = accounting
        self._settings = settings or CycleSettings()
        self._now = now
        self._monotonic_ms = monotonic_ms
        self._steps = StepMemory(self._settings.settle_s)
        self._slurmdbd = SlurmdbdSettings()
        self._slurmdbd_at = 0
        self._sweep_from: dict[str, int] = {}
        self._facts: dict[str, SourceFacts] = {}

    @property
    def name(self) -> str:
        """Unique among the agent's sources."""
        return self._accounting.name

    @property
    def accounting(self) -> Accounting:
        """Who is asked."""
        return self._accounting

    def facts(self) -> Mapping[str, SourceFacts]:
        """What was last learned about each cluster."""
        return dict(self._facts)

    def read(self, position: str) -> Iterator[Block]:
        """Do one cycle of questions for each cluster.

        A cluster that cannot be read does not stop the others; its complaint is
        raised after their blocks. Steps come last: nothing waits for them.
        """
        known = window.read_position(position)
        complaint: SourceError | None = None
        self._accounting.negotiate()
        for cluster in self._accounting.clusters:
            try:
                yield from self._cluster(cluster, known)
            except SourceError as error:
                complaint = complaint or error
        self._ask_steps()
        if complaint is not None:
            self._accounting.forget()
            raise complaint

    def glance(self, position: str) -> Iterator[Block]:
        """Ask only whether slurmdbd knows everything, and what ended (see ``source.Glancing``)."""
        known = window.read_position(position)
        complaint: SourceError | None = None
        self._accounting.negotiate()
        for cluster in self._accounting.clusters:
            try:
                yield from self._cluster(cluster, known, is_glance=True)
            except SourceError as error:
                complaint = complaint or error
        if complaint is not None:
            self._accounting.forget()
            raise complaint

    def _cluster(
        self, cluster: str, known: dict[str, Known], *, is_glance: bool = False
    ) -> Iterator[Block]:
        now = self._now()
        controller, is_answered = self._controller(cluster)
        queue = controller.dbd_queue
        paused = ""
        if queue > self._settings.dbd_queue_max:
            paused = f"slurmctld holds {queue} messages for slurmdbd; reading waits for them"
        self._tell(cluster, dbd_queue=queue, running=controller.running, paused=paused)
        if paused:
            return
        self._ask_settings(now)
        is_empty = is_answered and queue <= 0
        before = known.get(cluster, NOTHING_KNOWN)
        yield from self._ended(cluster, known, now, queue_is_empty=is_empty)
        if is_glance:
            return
        was_away = window.is_after_outage(before, now, self._settings.reach_s)
        if was_away or now - before.open_at >= self._settings.open_every_s:
            yield from self._open(cluster, known)
        if is_empty:
            state = known[cluster]
            known[cluster] = window.went_well(state, now, overlap_s=self._settings.reach_s)
            yield self._block(known)
        yield from self._sweep(cluster, known, queue)

    def _controller(self, cluster: str) -> tuple[Controller, bool]:
        """What the controller says, and whether nothing kept it from saying it."""
        try:
            return self._accounting.controller(cluster), True
        except SourceError:
            return Controller(), False

    def _ask_settings(self, now: int) -> None:
        if not 0 <= now - self._slurmdbd_at < SETTINGS_EVERY_S:
            self._slurmdbd, self._slurmdbd_at = self._accounting.slurmdbd(), now

    def _ended(
        self, cluster: str, known: dict[str, Known], now: int, *, queue_is_empty: bool
    ) -> Iterator[Block]:
        """What ended since the watermark; each span that was read moves it."""
        state = known.get(cluster, NOTHING_KNOWN)
        begin = window.first_end(
            state,
            now,
            overlap_s=self._settings.reach_s,
            lookback_s=self._settings.lookback_s,
            queue_is_empty=queue_is_empty,
        )
        while begin < now:
            end = min(begin + known.get(cluster, NOTHING_KNOWN).pace.slice_s, now)
            if not (yield from self._span(cluster, known, (begin, end))):
                continue
            known[cluster] = window.reached(
                known[cluster],
                end,
                now,
                queue_is_empty=queue_is_empty,
                commit_delay_s=self._slurmdbd.commit_delay_s,
            )
            yield self._block(known)
            begin = end

    def _span(
        self,
        cluster: str,
        known: dict[str, Known],
        span: tuple[int, int],
        told: Sweep | None = None,
    ) -> Generator[Block, None, bool]:
        """The runs that ended in a span; returns whether it was not too much for Slurm."""
        state = known.get(cluster, NOTHING_KNOWN)
        span_s = span[1] - span[0]
        noted = Noted(self._now())
        asked_ms = self._monotonic_ms()
        try:
            with self._accounting.ended(cluster, span) as answer:
                took_ms = self._monotonic_ms() - asked_ms
                still = self._block(known)._replace(sweep=told)
                yield from filled(noted.over(answer), still, self._complete)
        except TooMuch:
            if span_s <= sweep.SLICE_MIN_S:
                raise
            known[cluster] = state._replace(pace=state.pace.halved(span_s))
            return False
        pace = state.pace.after(span_s, noted.rows, took_ms)
        ended = Runs(run for run in noted.ended if run in state.open)
        known[cluster] = state._replace(pace=pace, open=state.open.without(ended))
        self._tell(cluster, slice_s=pace.slice_s)
        return True

    def _open(self, cluster: str, known: dict[str, Known]) -> Iterator[Block]:
        """What runs now, and what ran before and is neither there nor ended: asked by id."""
        state, now = known[cluster], self._now()
        noted = Noted(now)
        with self._accounting.open(cluster) as answer:
            yield from filled(noted.over(answer), self._block(known), self._complete)
        suspects, opened = noted.suspects, Runs(noted.open)
        vanished = state.open.without(opened)
        found = Noted(now)
        for ids in window.in_batches(map(job_id_of, vanished), MAX_IDS):
            with self._accounting.by_id(cluster, ids) as answer:
                yield from filled(found.over(answer), self._block(known), self._complete)
        noted.open.extend(run for run in found.open if run in vanished)
        opened = Runs(noted.open) if found.open else opened
        self._tell(cluster, open_runs=len(opened), runaway_suspects=suspects)
        known[cluster] = state._replace(open=opened, open_at=now)
        yield self._block(known)

    def _sweep(self, cluster: str, known: dict[str, Known], queue: int) -> Iterator[Block]:
        """One slice of the past, as long as a sweep is under way."""
        state, now = known.get(cluster, NOTHING_KNOWN), self._now()
        if state.sweep.due(now) and state.watermark:
            progress = sweep.begin(
                state.sweep,
                now,
                watermark=state.watermark,
                days=self._settings.sweep_days if state.sweep.begun else 0,
                purge_after_s=self._slurmdbd.purge_after_s,
            )
            known[cluster] = state = state._replace(sweep=progress)
        self._tell(cluster, sweep_through=state.sweep.through)
        may = queue * SWEEP_QUEUE_SHARE <= self._settings.dbd_queue_max
        if not state.sweep.is_under_way or not may or now < self._sweep_from.get(cluster, 0):
            return
        # Taken back when all of it was stored: whoever reads may stop in the middle.
        self._sweep_from[cluster] = now + SWEEP_RETRY_S
        begin, end = sweep.next_slice(state.sweep, state.pace)
        told = Sweep(cluster, begin, end, is_last=False)
        yield self._block(known)._replace(sweep=told)
        if (yield from self._span(cluster, known, (begin, end), told)):
            state = known[cluster]
            known[cluster] = state._replace(sweep=sweep.after_slice(state.sweep, end))
            yield self._block(known)._replace(sweep=told._replace(is_last=True))
            self._tell(cluster, sweep_through=known[cluster].sweep.through)
        del self._sweep_from[cluster]

    def _complete(self, job: SlurmJob) -> SlurmJob | None:
        """A run with what its steps used; None if its own row is not all there yet."""
        now = self._now()
        if is_half_told(job, now, min(HALF_TOLD_S, self._settings.overlap_s // 2)):
            return None
        return self._steps.complete(job, now)

    def _block(self, known: Mapping[str, Known]) -> Block:
        """The position that says what is known."""
        through = window.complete_through(known, self._accounting.clusters)
        return Block((), window.write_position(known), through)

    def _ask_steps(self) -> None:
        """Ask what the steps used; a failure leaves that unknown and is no complaint."""
        for cluster in self._accounting.clusters:
            for ids in window.in_batches(self._steps.wanted(cluster), MAX_IDS):
                try:
                    use = self._accounting.step_use(cluster, ids)
                except SourceError:
                    self._steps.give_up()
                    return
                self._steps.learn(cluster, ids, use)

    def _tell(self, cluster: str, **facts: Any) -> None:  # noqa: ANN401 fields of SourceFacts
        self._facts[cluster] = self._facts.get(cluster, SourceFacts())._replace(**facts)
