"""One cluster's part of a cycle: its questions in their order, and what each answer moves.

First the controller is asked whether slurmdbd knows everything (its queue is
empty), then known runs are looked for (canaries), then what ended behind the
watermark, what is open, what vanished from there, the account tree, one slice of
the past. The watermark follows only when all of this was valid.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from jobledger_agent.reading import canary, sweep, window
from jobledger_agent.reading.accounting import Accounting, Controller, SlurmdbdSettings, TooMuch
from jobledger_agent.reading.blocks import HALF_TOLD_S, Noted, filled, is_half_told
from jobledger_agent.reading.cyclesettings import Clocks, CycleSettings
from jobledger_agent.reading.stepmemory import StepMemory
from jobledger_agent.reading.window import NOTHING_KNOWN, Known
from jobledger_agent.records import tree
from jobledger_agent.records.job import SlurmJob
from jobledger_agent.records.runs import Runs, job_id_of
from jobledger_agent.source import Block, SourceError, SourceFacts, Sweep

MAX_IDS: Final = 200
"""Job ids in one question: slurmdbd looks for the steps of each by itself."""
SETTINGS_EVERY_S: Final = 3_600
"""How often slurmdbd's own settings are asked for."""
SWEEP_RETRY_S: Final = 600
"""After a slice that could not be compared, for the collector may be away."""
SWEEP_QUEUE_SHARE: Final = 10
"""A sweep waits already at this fraction of the queue at which all reading waits."""
ODD_MAX: Final = 5
"""Looks in a row that show nothing open while slurmctld has running jobs: its figure may be
half a minute old, and a job short."""
TREE_BLOCK_ENTRIES: Final = 500
"""Entries of the account tree in one block."""


class OneCluster:
    """Reads one cluster, cycle after cycle; ``facts`` says how it is."""

    def __init__(
        self,
        name: str,
        accounting: Accounting,
        settings: CycleSettings,
        steps: StepMemory,
        clocks: Clocks,
    ) -> None:
        self.name = name
        self.facts = SourceFacts()
        self._accounting = accounting
        self._settings = settings
        self._steps = steps
        self._now, self._monotonic_ms = clocks
        self._slurmdbd = SlurmdbdSettings()
        self._state = NOTHING_KNOWN
        self._block: Callable[[Known], Block] = lambda _: Block((), "", 0)
        self._started = False
        self._canary_asked_at = self._settings_asked_at = self._tree_asked_at = 0
        self._sweep_from = 0
        self._odd = self._idle = 0

    def read(self, state: Known, block: Callable[[Known], Block]) -> Iterator[Block]:
        """Ask everything that is due; ``block`` makes a state the position of a block.

        Raises SourceError where an answer is no proof: what was read stands, but
        the watermark does not move.
        """
        self._state, self._block = state, block
        now = self._now()
        queue = self._ask_controller()
        if self.facts.paused:
            return
        if not 0 <= now - self._settings_asked_at < SETTINGS_EVERY_S:
            self._slurmdbd, self._settings_asked_at = self._accounting.slurmdbd(), now
        was_away = window.is_after_outage(state, now, self._settings.reach_s)
        doubt = yield from self._canaries_when_due(now)
        yield from self._ended(now, may_move=queue == 0 and not doubt)
        if doubt:
            yield self._moved(self._state)
            raise SourceError(doubt)
        if was_away or not 0 <= now - state.open_at < self._settings.open_every_s:
            yield from self._open(queue)
        if queue == 0 and not self._odd:
            reach_s, mark = self._settings.reach_s, self._mark(now)
            self._state = window.went_well(self._state, now, overlap_s=reach_s, mark=mark)
        yield self._moved(self._state)
        yield from self._tree(now)
        yield from self._sweep(now, queue)

    def glance(self, state: Known, block: Callable[[Known], Block]) -> Iterator[Block]:
        """Ask only for what ended, as soon as slurmctld says that a job did."""
        self._state, self._block = state, block
        self._ask_controller()
        if self.facts.paused:
            return
        yield from self._ended(self._now(), may_move=False)
        yield self._moved(self._state)

    def ask_steps(self) -> Iterator[Block]:
        """Ask what the steps used. A failure leaves that unknown and is no complaint."""
        late = self._steps.wanted_before(self.name, self._now() - self._settings.reach_s)
        try:
            for ids in window.in_batches(self._steps.wanted(self.name), MAX_IDS):
                self._steps.learn(self.name, ids, self._accounting.step_use(self.name, ids))
            yield from self._by_id(late, Noted(self._now()))
        except SourceError:
            self._steps.give_up()

    def _ask_controller(self) -> int:
        """Messages that wait for slurmdbd; 0 where that cannot be asked, -1 where it failed."""
        try:
            said = self._accounting.controller(self.name)
            queue = max(0, said.dbd_queue)
        except SourceError:
            said, queue = Controller(), -1
        paused = ""
        if queue > self._settings.dbd_queue_max:
            paused = (
                f"slurmctld holds {queue} messages for slurmdbd: cluster {self.name} is read on"
                " when there are fewer; look at slurmdbd and its database"
            )
        self._tell(dbd_queue=said.dbd_queue, running=said.running, paused=paused)
        return queue

    def _canaries_when_due(self, now: int) -> Generator[Block, None, str]:
        """Look for runs that must be there, every few minutes and at each start."""
        last = self._state.canary_ok_at if self._started else 0
        self._started = True
        if 0 <= now - last < canary.EVERY_S:
            return ""
        return (yield from self._canaries(now))

    def _canaries(self, now: int) -> Generator[Block, None, str]:
        """Ask for the canaries by id; returns why nothing can be believed, or nothing.

        Then what was read since they were last found does not count any longer.
        Newer runs become canaries all the same, so that a run that was deleted by
        hand does not stop the agent for good.
        """
        asked = canary.usable(self._state.canaries, now, self._slurmdbd.purge_after_s)
        if not asked:
            return ""
        noted = Noted(now)
        with self._accounting.by_id(self.name, [job_id_of(each.run) for each in asked]) as answer:
            deque(noted.over(answer), maxlen=0)
        missing = canary.lost(asked, noted.found)
        if canary.is_alarming(asked, missing):
            yield self._moved(window.unproved(self._state))
            return (
                f"cluster {self.name} no longer shows {len(missing)} of {len(asked)} finished runs"
                f" that it has shown before, job {job_id_of(missing[0].run)} among them; check that"
                " the agent's user may see all jobs (PrivateData, AdminLevel), and the log of"
                " slurmdbd; nothing counts as read until they are shown"
            )
        kept = tuple(each for each in asked if each not in missing)
        yield self._moved(self._state._replace(canaries=kept, canary_ok_at=now))
        self._tell(canary_ok_at=now)
        return ""

    def _ended(self, now: int, *, may_move: bool) -> Iterator[Block]:
        """What ended since the watermark, in spans that Slurm answers with ease."""
        first = begin = window.first_end(
            self._state,
            now,
            overlap_s=self._settings.reach_s,
            lookback_s=self._settings.lookback_s,
            queue_is_empty=may_move,
        )
        canaries = self._state.canaries
        while begin < now:
            end = min(begin + self._state.pace.slice_s, now)
            noted = yield from self._span((begin, end))
            if noted is None:
                continue
            canaries = canary.chosen(canaries, noted.canaries)
            if end < now:
                mark = min(end, self._mark(now)) if may_move else 0
                yield self._moved(window.reached(self._state, end, mark=mark))
            begin = end
        state = window.with_canaries(self._state, canaries, first, now)
        self._state = state._replace(read_to=max(state.read_to, now))

    def _mark(self, now: int) -> int:
        """Up to which End slurmdbd shows everything at ``now`` if slurmctld's queue is empty."""
        return now - window.SLACK_S - max(0, self._slurmdbd.commit_delay_s)

    def _span(
        self, span: tuple[int, int], told: Sweep | None = None
    ) -> Generator[Block, None, Noted | None]:
        """The runs that ended in a span; None if that was too much for Slurm."""
        span_s = span[1] - span[0]
        noted = Noted(self._now())
        asked_ms = self._monotonic_ms()
        try:
            with self._accounting.ended(self.name, span) as answer:
                took_ms = self._monotonic_ms() - asked_ms
                still = self._block(self._state)._replace(sweep=told)
                complete = self._known if told else self._complete
                yield from filled(noted.over(answer), still, complete)
        except TooMuch:
            if span_s <= sweep.SLICE_MIN_S:
                raise
            self._state = self._state._replace(pace=self._state.pace.halved(span_s))
            return None
        finally:
            self._tell(slice_s=self._state.pace.slice_s)
        pace = self._state.pace.after(span_s, noted.rows, took_ms)
        ended = Runs(run for run in noted.ended if run in self._state.open)
        still_open = self._state.open.without(ended)
        self._state = self._state._replace(pace=pace, open=still_open)
        return noted

    def _open(self, queue: int) -> Iterator[Block]:
        """What is open now, and what was and is neither there nor ended: asked by id."""
        now = self._now()
        noted, found = Noted(now), Noted(now)
        still = self._block(self._state)
        with self._accounting.open(self.name) as answer:
            yield from filled(noted.over(answer), still, self._complete)
        opened = Runs(noted.open)
        vanished = self._state.open.without(opened)
        yield from self._by_id(map(job_id_of, vanished), found)
        unknown = vanished.without(found.found)
        if unknown and (yield from self._canaries(now)):
            raise SourceError(
                f"cluster {self.name} shows nothing of {len(unknown)} runs that it showed running,"
                f" job {job_id_of(next(iter(unknown)))} among them, nor of finished ones; check"
                " that the agent's user may see all jobs"
            )
        proved = self._state.canary_ok_at == now
        again = [run for run in found.open if run in vanished]
        if again or (unknown and not proved):
            opened = Runs((*opened, *again, *(() if proved else unknown)))
        self._judge_open(opened, noted, queue)
        yield self._moved(self._state._replace(open=opened, open_at=0 if self._odd else now))

    def _judge_open(self, opened: Runs, noted: Noted, queue: int) -> None:
        """Compare what is open with what slurmctld runs, with patience for what is on its way.

        Raises SourceError if nothing was open too often while something ran.
        """
        running = self.facts.running
        self._odd = self._odd + 1 if running > 0 and queue == 0 and not opened else 0
        is_idle = noted.running > 0 and running == 0 and queue == 0
        self._idle = self._idle + 1 if is_idle else 0
        suspects = noted.running if self._idle >= ODD_MAX else noted.suspects
        self._tell(open_runs=len(opened), runaway_suspects=suspects)
        if self._odd >= ODD_MAX:
            raise SourceError(
                f"slurmctld of cluster {self.name} runs {running} jobs, but accounting shows none"
                " of them: check that the agent's user may see all jobs (PrivateData, AdminLevel)"
                " and that AccountingStorageType is accounting_storage/slurmdbd"
            )

    def _by_id(self, ids: Iterable[int], noted: Noted) -> Iterator[Block]:
        """All runs of these jobs, a limited number at a time."""
        for some in window.in_batches(ids, MAX_IDS):
            with self._accounting.by_id(self.name, some) as answer:
                yield from filled(noted.over(answer), self._block(self._state), self._complete)

    def _tree(self, now: int) -> Iterator[Block]:
        """The account tree, every hour: what changed of it, and all of it once a day."""
        if 0 <= now - max(self._tree_asked_at, self._state.tree.read_at) < tree.EVERY_S:
            return
        self._tree_asked_at = now
        mark = self._state.tree
        whole = not 0 <= now - mark.whole_at < tree.WHOLE_EVERY_S
        before, after = tree.Told.unpacked(mark.told), tree.Told()
        entries = tree.news(self._all_of_tree(), before, after, whole=whole)
        still = self._block(self._state)
        yield from _tree_blocks(entries, still)
        if not len(after):
            return
        if not after.is_whole:
            raise SourceError(
                f"the account tree of cluster {self.name} has no root account: not all of it is"
                " shown, so nothing of it counts as gone"
            )
        yield from _tree_blocks(before.gone(self.name, now), still)
        told = tree.TreeMark(now, now if whole else mark.whole_at, after.packed())
        yield self._moved(self._state._replace(tree=told))

    def _all_of_tree(self) -> Iterator[tree.TreeEntry]:
        for number, entry in enumerate(self._accounting.tree(self.name)):
            if number >= tree.MAX_ENTRIES:
                raise SourceError(
                    f"the account tree of cluster {self.name} has more than {tree.MAX_ENTRIES}"
                    " entries, which this agent does not carry"
                )
            yield entry

    def _sweep(self, now: int, queue: int) -> Iterator[Block]:
        """One slice of the past, as long as a sweep is under way."""
        state = self._state
        if state.sweep.due(now) and state.watermark:
            days = self._settings.sweep_days if state.sweep.begun else 0
            purge_after_s = self._slurmdbd.purge_after_s
            until = state.watermark
            progress = sweep.begin(
                state.sweep, now, watermark=until, days=days, purge_after_s=purge_after_s
            )
            state = state._replace(sweep=progress)
            yield self._moved(state)
        self._tell(sweep_through=state.sweep.through)
        is_busy = queue * SWEEP_QUEUE_SHARE > self._settings.dbd_queue_max
        if not state.sweep.is_under_way or is_busy or now < self._sweep_from:
            return
        # Taken back when all of it was stored: whoever reads may stop in the middle.
        self._sweep_from = now + SWEEP_RETRY_S
        begin, end = sweep.next_slice(state.sweep, state.pace)
        told = Sweep(self.name, begin, end, is_last=False)
        yield self._moved(self._state)._replace(sweep=told)
        if (yield from self._span((begin, end), told)) is not None:
            progress = sweep.after_slice(self._state.sweep, end)
            last = self._moved(self._state._replace(sweep=progress))
            yield last._replace(sweep=told._replace(is_last=True))
            self._tell(sweep_through=progress.through)
        else:
            yield self._moved(self._state)  # or the shorter slice is forgotten with this cycle
        self._sweep_from = 0

    def _complete(self, job: SlurmJob) -> SlurmJob | None:
        """A run with what its steps used; None if its own row is not all there yet."""
        now = self._now()
        if is_half_told(job, now, min(HALF_TOLD_S, self._settings.overlap_s // 2)):
            return None
        return self._steps.complete(job, now)

    def _known(self, job: SlurmJob) -> SlurmJob:
        """A run of long ago; its steps are not asked for once more, for each costs slurmdbd."""
        return self._steps.known(job)

    def _moved(self, state: Known) -> Block:
        """A block without readings: the position that says this."""
        self._state = state
        return self._block(state)

    def _tell(self, **facts: Any) -> None:  # noqa: ANN401 fields of SourceFacts
        self.facts = self.facts._replace(**facts)


def _tree_blocks(entries: Iterable[tree.TreeEntry], still: Block) -> Iterator[Block]:
    """Entries of the account tree in blocks that do not move the position."""
    every = iter(entries)
    while some := tuple(islice(every, TREE_BLOCK_ENTRIES)):
        yield still._replace(tree=some)
