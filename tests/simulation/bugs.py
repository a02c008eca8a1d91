"""Protocol bugs, each planted into production code or the collector's shell.

Every one of them has been made by somebody: each must be caught by the
simulation, or what the simulation proves is worth little.
"""
# ruff: noqa: ANN401 - what is planted takes the place of functions with many kinds of arguments

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from jobledger_agent.delivery.link import Link
from jobledger_agent.protocol import stream
from jobledger_agent.protocol.stream import Effect, Event, Forget, Hold, Send, Sender
from jobledger_agent.protocol.wire import Encoded
from jobledger_agent.reading import window
from jobledger_agent.reading.cycle import Cycle, CycleSettings
from jobledger_agent.reading.onecluster import OneCluster
from jobledger_agent.records.job import Reading
from jobledger_agent.records.runs import NO_RUNS
from jobledger_agent.source import Block, SourceError
from jobledger_agent.spooling import spoolrows
from jobledger_agent.spooling.spool import Sighting, Spool, SpoolFull
from jobledger_collector.core.record import Verdict
from tests.simulation import ledger, network
from tests.simulation.agent import SimSpool
from tests.simulation.ledger import Change, Ledger, Posting
from tests.simulation.truth import Slurm

Plant = Callable[[pytest.MonkeyPatch], None]


def ack_before_commit(patch: pytest.MonkeyPatch) -> None:
    """The collector acknowledges, then commits."""

    def apply(world: Any, call: Any, number: int, change: Change) -> None:
        call.answer(network.acknowledgement(number, change))
        if world.chance(max(10, world.faults.collector_crash)):
            network.collector_dies(world, "before the commit")
            return
        world.ledger.commit(change)

    patch.setattr(network, "apply", apply)


def skip_by_sequence(patch: pytest.MonkeyPatch) -> None:
    """The collector remembers the highest number of an agent and takes what is below as known."""
    apply = network.apply
    highest: dict[tuple[int, str], int] = {}

    def skipping(world: Any, call: Any, number: int, change: Change) -> None:
        key = (id(world), call.agent.name)
        if number <= highest.get(key, 0):
            known = change._replace(verdicts=(Verdict.KNOWN,) * len(change.verdicts))
            call.answer(network.acknowledgement(number, known))
            return
        highest[key] = number
        apply(world, call, number, change)

    patch.setattr(network, "apply", skipping)


def no_dedupe(patch: pytest.MonkeyPatch) -> None:
    """The collector charges what it is sent, known or not."""
    compare = ledger.compare

    def charging(known: Any, row: Any) -> Any:
        verdict, history, postings = compare(known, row)
        if verdict is Verdict.KNOWN and row.record.end:
            key = (row.record.job_id, row.record.submit)
            cpu_s = (row.record.end - row.record.start) * 4
            return Verdict.NEW, history, [Posting(key, cpu_s)]
        return verdict, history, postings

    patch.setattr(ledger, "compare", charging)


def revision_replaces_nothing(patch: pytest.MonkeyPatch) -> None:
    """The collector charges a revision in full, beside what it revises."""
    compare = ledger.compare

    def charging(known: Any, row: Any) -> Any:
        verdict, history, postings = compare(known, row)
        if verdict is Verdict.REVISED and known and known.versions:
            key = (row.record.job_id, row.record.submit)
            postings = [Posting(key, (row.record.end - row.record.start) * 4)]
        return verdict, history, postings

    patch.setattr(ledger, "compare", charging)


def key_without_submit(patch: pytest.MonkeyPatch) -> None:
    """The collector takes the job's id for its identity."""
    find = Ledger.find

    def by_id(self: Ledger, key: tuple[int, int]) -> Any:
        same = [each for each in self.histories if each[0] == key[0]]
        return find(self, same[0]) if same else None

    patch.setattr(Ledger, "find", by_id)


def cursor_first(patch: pytest.MonkeyPatch) -> None:
    """Where a reading ends is stored before what it read."""
    read = Cycle.read

    def backwards(self: Cycle, position: str) -> Iterator[Block]:
        blocks = list(read(self, position))
        if blocks:
            yield blocks[-1]._replace(readings=(), sweep=None)
        yield from blocks

    patch.setattr(Cycle, "read", backwards)


def sightings_first(patch: pytest.MonkeyPatch) -> None:
    """What was sighted is remembered before it is stored."""
    append = SimSpool.append

    def backwards(
        self: SimSpool, source: str, blocks: Sequence[Encoded], position: str, through: int,
        sightings: Sequence[Sighting] = (),
    ) -> None:  # fmt: skip
        for mark in self.marks():
            append(self, source, [], self.position(source), mark.complete_through, sightings)
        append(self, source, blocks, position, through, sightings)

    patch.setattr(SimSpool, "append", backwards)


def oldest_dropped_when_full(patch: pytest.MonkeyPatch) -> None:
    """A full spool makes room by dropping its oldest block."""
    append = Spool.append

    def dropping(self: Spool, *arguments: Any) -> None:
        while True:
            try:
                return append(self, *arguments)
            except SpoolFull:
                oldest = Spool.head(self, 0, 1)
                if not oldest:
                    raise
                Spool.forget(self, [oldest[0].block_id])

    patch.setattr(Spool, "append", dropping)


def append_after_damage(patch: pytest.MonkeyPatch) -> None:
    """A reading that began before the spool was damaged may go on afterwards."""
    rebuild = Spool._rebuild  # noqa: SLF001

    def forgiving(self: Spool, generation: int, damage: str) -> None:
        rebuild(self, generation, damage)
        self._begun = dict.fromkeys(self._begun, self._generation)

    patch.setattr(Spool, "_rebuild", forgiving)


def damage_keeps_positions(patch: pytest.MonkeyPatch) -> None:
    """After damage the positions are carried over, too."""
    rebuild = Spool._rebuild  # noqa: SLF001

    def keeping(self: Spool, generation: int, damage: str) -> None:
        query = "SELECT source, position, complete_through FROM positions"
        rows = self._reaper.execute(query).fetchall()
        rebuild(self, generation, damage)
        with self._transaction() as delta:
            delta += [spoolrows.move(self._writer, *row) for row in rows]

    patch.setattr(Spool, "_rebuild", keeping)


def damage_delivered(patch: pytest.MonkeyPatch) -> None:
    """A block is sent as it is found."""
    patch.setattr(spoolrows, "_proved", lambda *row: spoolrows.StoredBlock(row[0], row[2], row[6]))


def held_block_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A block that is refused is thrown away, so that the others flow."""

    def throw_away(self: Spool, block_id: int, _: str) -> None:
        Spool.forget(self, [block_id])

    patch.setattr(SimSpool, "hold", throw_away)


def _patched_step(
    patch: pytest.MonkeyPatch, change: Callable[[Sender, Event, tuple[Effect, ...]], Any]
) -> None:
    step = Sender.step

    def changed(self: Sender, now_ms: int, event: Event) -> tuple[Effect, ...]:
        return tuple(change(self, event, step(self, now_ms, event)))

    patch.setattr(Sender, "step", changed)


def forget_on_send(patch: pytest.MonkeyPatch) -> None:
    """A block is forgotten once it is sent."""

    def change(_: Sender, __: Event, effects: tuple[Effect, ...]) -> Iterator[Effect]:
        for effect in effects:
            if not isinstance(effect, Forget):
                yield effect
            if isinstance(effect, Send):
                yield Forget(effect.block_id)

    _patched_step(patch, change)


def forget_the_oldest(patch: pytest.MonkeyPatch) -> None:
    """An acknowledgement is taken for that of the oldest block in flight."""
    acked = Sender._acked  # noqa: SLF001

    def wrong(self: Sender, now_ms: int, number: int, verdicts: Sequence[int]) -> Any:
        flight = self._in_flight
        others = [each for key, each in flight.items() if key > number]
        effects = acked(self, now_ms, number, verdicts)
        if others and effects and isinstance(effects[0], Forget):
            return (Forget(others[0].block_id), *effects[1:])
        return effects

    patch.setattr(Sender, "_acked", wrong)


def verdicts_not_counted(patch: pytest.MonkeyPatch) -> None:
    """Any number of verdicts acknowledges a batch."""
    acked = Sender._acked  # noqa: SLF001

    def lenient(self: Sender, now_ms: int, number: int, verdicts: Sequence[int]) -> Any:
        sent = self._in_flight.get(number)
        if sent and 0 not in verdicts:
            verdicts = (1,) * sent.records
        return acked(self, now_ms, number, verdicts)

    patch.setattr(Sender, "_acked", lenient)


def unnamed_counts(patch: pytest.MonkeyPatch) -> None:
    """A record that the collector left unnamed counts as named."""
    patch.setattr(stream, "VERDICT_UNNAMED", -1)


def silence_is_consent(patch: pytest.MonkeyPatch) -> None:
    """What was sent before the stream broke counts as delivered."""
    broke = Sender._broke  # noqa: SLF001

    def content(self: Sender, now_ms: int, reason: str, *, is_refusal: bool) -> Any:
        sent = [Forget(block.block_id) for block in self._in_flight.values()]
        return (*sent, *broke(self, now_ms, reason, is_refusal=is_refusal))

    patch.setattr(Sender, "_broke", content)


def resume_where_it_was(patch: pytest.MonkeyPatch) -> None:
    """A new stream goes on after the last block of the old one."""
    afresh = Sender._start_afresh  # noqa: SLF001

    def resuming(self: Sender) -> None:
        last = getattr(self, "_last_id", 0)
        afresh(self)
        self._last_id = last

    patch.setattr(Sender, "_start_afresh", resuming)


def any_stream_counts(patch: pytest.MonkeyPatch) -> None:
    """An acknowledgement of an old stream counts for the one that is open now."""
    patch.setattr(Link, "_hear", lambda self, _, event: self._events.put((None, event)))


def last_sent_is_held(patch: pytest.MonkeyPatch) -> None:
    """After a refusal the last block that was sent is held, without a proof that it was the one."""
    broke = Sender._broke  # noqa: SLF001

    def hasty(self: Sender, now_ms: int, reason: str, *, is_refusal: bool) -> Any:
        sent = [block.block_id for block in self._in_flight.values()]
        effects = broke(self, now_ms, reason, is_refusal=is_refusal)
        return (Hold(sent[-1], reason), *effects) if is_refusal and sent else effects

    patch.setattr(Sender, "_broke", hasty)


def poison_blocks_for_ever(patch: pytest.MonkeyPatch) -> None:
    """A refusal is taken for a cut: the same is sent again and again."""
    broke = Sender._broke  # noqa: SLF001
    patch.setattr(
        Sender, "_broke", lambda self, now, reason, is_refusal: broke(  # noqa: ARG005
            self, now, reason, is_refusal=False)
    )  # fmt: skip


def failed_call_moves_position(patch: pytest.MonkeyPatch) -> None:
    """A question that failed counts as one without rows."""
    ended = Slurm.ended

    @contextmanager
    def swallowing(self: Slurm, cluster: str, span: tuple[int, int]) -> Iterator[Iterator[Reading]]:
        try:
            with ended(self, cluster, span) as answer:
                rows = list(answer)
        except SourceError:
            rows = []
        yield iter(rows)

    patch.setattr(Slurm, "ended", swallowing)


def queue_is_not_asked(patch: pytest.MonkeyPatch) -> None:
    """The watermark follows the clock while slurmctld still holds messages for slurmdbd."""
    patch.setattr(OneCluster, "_ask_controller", lambda _: 0)


def open_set_dropped(patch: pytest.MonkeyPatch) -> None:
    """Which runs were open is not remembered from one cycle to the next."""
    plain = window.write_position

    def forgetful(known: Mapping[str, window.Known]) -> str:
        return plain({name: state._replace(open=NO_RUNS) for name, state in known.items()})

    patch.setattr(window, "write_position", forgetful)


def no_overlap(patch: pytest.MonkeyPatch) -> None:
    """Each question begins where the last one ended."""
    patch.setattr(CycleSettings, "reach_s", property(lambda _: 0))


def sweep_is_not_compared(patch: pytest.MonkeyPatch) -> None:
    """The daily sweep believes what it remembers, not what the collector has."""
    blind = OneCluster._sweep  # noqa: SLF001

    def silent(self: OneCluster, now: int, queue: int) -> Iterator[Block]:
        for block in blind(self, now, queue):
            yield block._replace(readings=())

    patch.setattr(OneCluster, "_sweep", silent)


BUGS: tuple[tuple[Plant, Mapping[str, int]], ...] = (
    (ack_before_commit, {}),
    (skip_by_sequence, {}),
    (no_dedupe, {}),
    (revision_replaces_nothing, {}),
    (key_without_submit, {}),
    (cursor_first, {"crash": 4, "slurm_errors": 20}),
    (sightings_first, {}),
    (oldest_dropped_when_full, {"small_quota": 100}),
    (append_after_damage, {"damage": 100, "meanwhile": 40}),
    (damage_keeps_positions, {"damage": 100}),
    (damage_delivered, {"damage": 100}),
    (held_block_forgotten, {"poison": 100}),
    (forget_on_send, {}),
    (forget_the_oldest, {}),
    (verdicts_not_counted, {"nonsense": 20}),
    (unnamed_counts, {"nonsense": 20}),
    (silence_is_consent, {}),
    (resume_where_it_was, {}),
    (any_stream_counts, {"late_old_stream": 100, "cut": 10, "nonsense": 0}),
    (last_sent_is_held, {"poison": 100}),
    (poison_blocks_for_ever, {"poison": 100}),
    (failed_call_moves_position, {}),
    (queue_is_not_asked, {}),
    (open_set_dropped, {"late_end": 50}),
    (no_overlap, {"late_end": 50}),
    (sweep_is_not_compared, {"long": 100, "late_end": 30}),
)
"""Each with the faults that its worlds are richer in, so that it is met soon."""
