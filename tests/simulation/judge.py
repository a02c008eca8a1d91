"""What must always hold in a world, and what must hold in the end."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from jobledger_agent.reading import window
from jobledger_agent.spooling.spool import SpoolUnwell
from jobledger_proto.v1 import usage_pb2 as pb
from tests.simulation.agent import Agent
from tests.simulation.truth import CPUS, EPOCH_S, Key, Run

if TYPE_CHECKING:
    from tests.simulation.world import World


SETS_BACK = ("rolled back", "damage")
"""After these an agent may not know any more what it saw running."""


class Violation(AssertionError):
    """Something that must never be was seen."""


def before_forget(world: "World", agent: Agent, block_ids: Sequence[int]) -> None:
    """What leaves a spool is durable elsewhere."""
    wanted = set(block_ids)
    for block in agent.spool.head(min(wanted) - 1, 1000):
        if block.block_id in wanted:
            check_durable(world, f"{agent.name} forgets block {block.block_id}", block.payload)


def check_durable(world: "World", what: str, payload: bytes) -> None:
    batch = pb.ReportRequest.FromString(payload).batch
    for key, end in zip(
        zip(batch.jobs.job_id, batch.jobs.submit, strict=True), batch.jobs.end, strict=True
    ):
        history = world.ledger.histories.get(key)
        known = {version.record.end for version in history.versions} if history else set()
        if history is None or (end and end not in known):
            raise Violation(f"{what} with job {key}, which is not stored")
    for unreadable in batch.unreadable:
        if unreadable.raw not in world.ledger.quarantined:
            raise Violation(f"{what} with an unreadable record that is not in quarantine")


def check_position(world: "World", agent: Agent) -> None:
    """A position is never ahead of its records; the spool never above its bound."""
    try:
        marks, stats = agent.spool.marks(), agent.spool.stats()
        held = {each.block_id for each in agent.spool.held()}
        there = ended_waiting(agent, held)
    except SpoolUnwell:
        return  # damage was met: it begins anew
    if stats.payload_bytes > max(agent.payload_bytes_max, 0):
        raise Violation(f"{agent.name} holds {stats.payload_bytes} bytes")
    through = min((mark.complete_through for mark in marks), default=0)
    is_met_later = held and world.happened.seen["damage"]  # one that is held is not read
    if world.was_blind or len(world.agents) > 1 or is_met_later:
        return
    stored = world.ledger.ends()
    now = world.clock.now_s()
    for run in promised(world, through, now):
        if run.key not in stored and run.key not in there:
            raise Violation(
                f"{agent.name} says that all before {through - EPOCH_S} was read, but job "
                f"{run.key}, ended {run.end - EPOCH_S}, is neither stored nor waiting"
            )


def promised(world: "World", through: int, now: int) -> Iterator[Run]:
    """Runs that a complete reading up to then must have shown."""
    for run in world.slurm.runs:
        # One that was told later than the watermark waits is found behind it, but afterwards.
        is_prompt = run.was_queued or run.end_known - run.end <= window.SLACK_S
        is_shown = not (run.is_garbled or run.is_purged) and run.end_known < now - 120
        if run.end < through and is_prompt and is_shown:
            yield run


def ended_waiting(agent: Agent, held: set[int]) -> set[Key]:
    keys: set[Key] = set()
    payloads = [block.payload for block in agent.spool.head(0, 1000)]
    if held:
        connection = agent.spool._reaper  # noqa: SLF001
        payloads += [row[0] for row in connection.execute(
            "SELECT payload FROM blocks JOIN held ON id = block_id")]  # fmt: skip
    for payload in payloads:
        with suppress(DecodeError):  # damaged, and not met yet
            keys |= _ended_in(payload)
    return keys


def check_held(world: "World") -> None:
    """Only what the collector refuses is held, and it waits there."""
    if world.happened.seen["damage"]:
        return  # one that is held is met when it is released
    for agent in world.agents:
        for held in agent.spool.held():
            query = "SELECT payload FROM blocks WHERE id = ?"
            connection = agent.spool._reaper  # noqa: SLF001
            (payload,) = connection.execute(query, (held.block_id,)).fetchone()
            jobs = set(pb.ReportRequest.FromString(payload).batch.jobs.job_id)
            if not jobs & world.ledger.poison:
                raise Violation(f"{agent.name} holds {sorted(jobs)}, which nobody refused")


def check_ordinary(world: "World") -> None:
    """What the cycle alone, without the daily sweep, must have delivered."""
    if world.was_blind:
        return
    stored = world.ledger.ends()
    was_set_back = len(world.agents) > 1 or any(map(world.happened.seen.get, SETS_BACK))
    for run in world.slurm.runs:
        is_found = run.was_seen_open and not was_set_back
        if (run.is_late and not is_found) or run.is_garbled or run.is_purged:
            continue
        if run.key not in stored:
            raise Violation(f"job {run.key} was never delivered")


def may_be(world: "World", key: Key) -> set[int]:
    """Ends that a run may be stored with: the last, or before the sweep any that was told."""
    (run,) = (each for each in world.slurm.runs if each.key == key)
    if world.is_swept:
        return {run.last_end}
    return {run.end, *(end for _, end in run.revisions)}


def check_all(world: "World") -> None:
    """Σ stored + Σ quarantined = Σ in Slurm, nothing twice, to the second."""
    stored = world.ledger.ends()
    may_lack = set() if world.is_swept else {run.key for run in world.slurm.runs if run.is_late}
    expected = {run.key: run.last_end for run in world.slurm.runs if not run.is_garbled}
    lacking = sorted(expected.keys() - stored.keys() - may_lack)
    wrong = sorted(key for key in stored if stored[key] not in may_be(world, key))
    if lacking or wrong:
        raise Violation(f"in the end lacking {lacking}, otherwise {wrong}")
    starts = {run.key: run.start for run in world.slurm.runs}
    cpu_s = sum((end - starts[key]) * CPUS for key, end in stored.items())
    if world.ledger.cpu_s() != cpu_s:
        raise Violation(f"charged {world.ledger.cpu_s()} cpu-seconds for {cpu_s}")
    garbled = {run.raw for run in world.slurm.runs if run.is_garbled}
    late = set() if world.is_swept else {run.raw for run in world.slurm.runs if run.is_late}
    if not garbled - late <= world.ledger.quarantined <= garbled:
        raise Violation(f"in quarantine {world.ledger.quarantined}, unreadable {garbled}")


def past_is_read(world: "World") -> bool:
    """Whether every agent has read the past again since all was told."""
    began_s = world.clock.now_s() - 86_400
    facts = [agent.feed.source.facts() for agent in world.agents]  # type: ignore[attr-defined]
    return all(each.sweep_through > began_s for fact in facts for each in fact.values())


def _ended_in(payload: bytes) -> set[Key]:
    """Runs that a block tells the end of."""
    jobs = pb.ReportRequest.FromString(payload).batch.jobs
    rows = zip(jobs.job_id, jobs.submit, jobs.end, strict=True)
    return {(job_id, submit) for job_id, submit, end in rows if end}
