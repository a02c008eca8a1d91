"""The cycle against a Slurm in memory that writes ends late, in the past, and fails.

What must hold whatever happens: every run arrives as Slurm has it at the end, and
what ``complete_through`` promises is kept at every moment.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobledger_agent.reading.accounting import SlurmdbdSettings
from jobledger_agent.reading.cycle import Cycle, CycleSettings
from jobledger_agent.records.job import SlurmJob
from jobledger_agent.records.tree import TreeEntry, TreeKind
from jobledger_agent.source import Block, SourceError
from tests.agent.simslurm import AGENTS_UID, Message, SimSlurm, Span, a_run

NOW = 1_795_300_000
HOUR = 3_600
DAY = 86_400


class Agent:
    """A cycle, what it stored, and what it was told when."""

    def __init__(self, slurm: SimSlurm, wanted: CycleSettings) -> None:
        self.slurm = slurm
        self.wanted = wanted
        self.position = ""
        self.stored: dict[tuple[int, int], SlurmJob] = {}
        self.through = 0
        self.complaints: list[str] = []
        self.blocks: list[Block] = []
        self.restart()

    def restart(self) -> None:
        """All that was only in memory is gone."""
        clock = lambda: self.slurm.now  # noqa: E731
        self.cycle = Cycle(self.slurm, self.wanted, now=clock, monotonic_ms=lambda: 0)

    def poll(self) -> None:
        """One cycle; what it yields is stored with its position."""
        self.blocks = []
        try:
            for block in self.cycle.read(self.position):
                self.blocks.append(block)
                for job in block.readings:
                    assert isinstance(job, SlurmJob)
                    self.stored[job.job_id, job.submit] = job
                self.position, self.through = block.position, block.complete_through
        except SourceError as error:
            self.complaints.append(str(error))

    def poll_until(self, end: int, every_s: int) -> None:
        """Cycles until then."""
        while self.slurm.now < end:
            began = self.slurm.now
            self.poll()
            self.slurm.now = max(self.slurm.now, began + every_s)

    def lacks(self) -> list[tuple[int, int]]:
        """Runs that are not stored as slurmdbd has them now."""
        self.slurm.now += 1
        self.slurm.drain()
        return [
            key
            for key, row in self.slurm.table.items()
            if key not in self.stored or self.stored[key].end != row.end
        ]


class Life(NamedTuple):
    """What becomes of a run: seconds from one event to the next; 0 for an event that is not."""

    starts_after_s: int
    runs_s: int
    suspended_s: int
    """Then it is killed, and ends as of when it was suspended."""
    uid: int


lives = st.lists(
    st.builds(
        Life,
        st.integers(0, 4 * HOUR),
        st.integers(1, 2 * HOUR),
        st.sampled_from([0, 0, 0, 30, 400, 3 * HOUR]),
        st.sampled_from([AGENTS_UID, 1000, 1000, 1001]),
    ),
    min_size=1,
    max_size=25,
)
outages = st.lists(
    st.builds(
        lambda begin, length: Span(NOW + begin, NOW + begin + length),
        st.integers(60, 5 * HOUR),
        st.sampled_from([20, 200, 1000, HOUR, 2 * HOUR]),
    ),
    max_size=2,
)


def happen(slurm: SimSlurm, born: Sequence[Life]) -> None:
    """Tell slurmdbd of these runs as slurmctld would."""
    for number, life in enumerate(born, 1):
        start = NOW + life.starts_after_s
        stop = start + life.runs_s
        run = a_run(number, start, uid=life.uid)
        slurm.run(Message(start, run))
        if life.suspended_s:
            slurm.run(Message(stop, run._replace(state="SUSPENDED")))
        ended = run._replace(end=stop, state="CANCELLED", slurm_elapsed_s=stop - start)
        slurm.run(Message(stop + life.suspended_s, ended))


def history() -> dict[tuple[int, int], SlurmJob]:
    """Runs of several users that ended before the agent's first look."""
    rows = [a_run(number, NOW - 900, end=NOW - 800, uid=number) for number in range(900, 904)]
    return {(row.job_id, row.submit): row for row in rows}


def broken_promises(slurm: SimSlurm, agent: Agent, promised: int) -> list[int]:
    """Runs whose end Slurm told at that time, before ``promised``, and that are not stored."""
    told = {m.row.job_id for m in slurm.messages if m.at == m.row.end < promised}
    return sorted(told - {job.job_id for job in agent.stored.values() if job.end})


@settings(max_examples=60, deadline=None)
@given(lives, outages, outages, outages, outages, st.sampled_from([30, 120, 300]), st.booleans())
def test_every_run_arrives_as_slurm_has_it_whatever_fails(
    born: list[Life],
    dbd_down: list[Span],
    sdiag_down: list[Span],
    hidden: list[Span],
    agent_down: list[Span],
    every_s: int,
    has_sdiag: bool,
) -> None:
    """Without sweeps: window, open runs, canaries and the reading again of outages suffice."""
    slurm = SimSlurm(NOW)
    slurm.dbd_down, slurm.sdiag_down, slurm.has_sdiag = dbd_down, sdiag_down, has_sdiag
    slurm.hidden = hidden
    happen(slurm, born)
    slurm.table |= history()
    agent = Agent(slurm, CycleSettings(lookback_s=HOUR, sweep_days=0))
    agent.poll()
    while slurm.now < NOW + 12 * HOUR:
        began = slurm.now
        if any(span.holds(slurm.now) for span in agent_down):
            agent.restart()
        else:
            agent.poll()
            promised = min(agent.through, slurm.now)
            if not hidden and has_sdiag:
                assert not broken_promises(slurm, agent, promised)
        slurm.now = max(slurm.now, began + every_s)
    assert agent.lacks() == []


# ------------------------------------------------------------------- one mechanism each


def an_agent(slurm: SimSlurm, **wanted: int) -> Agent:
    defaults = {"lookback_s": HOUR, "sweep_days": 0}
    return Agent(slurm, CycleSettings(**{**defaults, **wanted}))


def kinds(slurm: SimSlurm) -> list[str]:
    """What was asked since the last call."""
    asked = [kind for kind, _ in slurm.asked]
    slurm.asked.clear()
    return asked


def test_the_questions_of_a_cycle_and_how_often() -> None:
    slurm = SimSlurm(NOW)
    slurm.table |= history()
    slurm.run(Message(NOW - 50, a_run(1, NOW - 50)))
    agent = an_agent(slurm)
    agent.poll()
    assert kinds(slurm) == ["ended", "open", "tree", "steps", "by_id"]
    agent.poll()
    assert kinds(slurm) == ["by_id", "ended"], "the canaries of the first answer"
    for _ in range(4):
        slurm.now += 30
        agent.poll()
    assert kinds(slurm) == ["ended"] * 4
    agent.poll_until(NOW + HOUR, 30)
    asked = kinds(slurm)
    hour_s = HOUR - 150
    assert asked.count("ended") <= hour_s // 30 + 2
    assert asked.count("open") <= hour_s // 300 + 1
    assert asked.count("by_id") <= hour_s // 300 + 1


def test_nothing_moves_when_a_later_question_of_the_cycle_fails() -> None:
    """The watermark stands until every answer of a cycle was valid."""
    slurm = SimSlurm(NOW)
    agent = an_agent(slurm)
    agent.poll()
    through = agent.through
    assert through == NOW + 1 - 60 - 1
    slurm.now = NOW + 310
    slurm.dbd_down = [Span(NOW + 313, NOW + 320)]  # after what ended, before what is open
    slurm.asked.clear()
    agent.poll()
    assert kinds(slurm) == ["ended", "open"]
    assert agent.complaints
    assert agent.through == through
    slurm.now = NOW + 330
    agent.poll()
    assert agent.through == NOW + 330 - 60
    assert ("ended", (through - 600, NOW + 330)) in slurm.asked


def test_reading_waits_while_the_queue_is_long() -> None:
    slurm = SimSlurm(NOW)
    slurm.per_second = 1
    agent = an_agent(slurm, dbd_queue_max=10)
    slurm.run(*(Message(NOW, a_run(number, NOW)) for number in range(40)))
    agent.poll()
    assert kinds(slurm) == []
    assert "holds 39 messages for slurmdbd" in agent.cycle.facts()["alpha"].paused
    assert agent.blocks == []
    slurm.now += 60
    agent.poll()
    assert agent.cycle.facts()["alpha"].paused == ""
    assert len(agent.stored) == 40


def test_the_watermark_heeds_slurmdbds_commit_delay() -> None:
    slurm = SimSlurm(NOW)
    slurm.settings = SlurmdbdSettings(commit_delay_s=30)
    agent = an_agent(slurm)
    agent.poll()
    assert agent.through == NOW - 60 - 30


def test_a_sweep_finds_what_an_archive_brought_back() -> None:
    """Conformance case 41; its Ends are weeks old, and no window looks there."""
    slurm = SimSlurm(NOW)
    agent = an_agent(slurm, sweep_days=35)
    agent.poll_until(NOW + HOUR, 60)
    assert agent.cycle.facts()["alpha"].sweep_through == 0, "the first day has just been read"
    old = a_run(1, NOW - 20 * DAY, end=NOW - 20 * DAY + 50)
    slurm.table[1, old.submit] = old
    slurm.now = NOW + DAY
    sweeps = []
    for _ in range(40):
        agent.poll()
        slurm.now += 30
        sweeps += [block.sweep for block in agent.blocks if block.sweep and block.sweep.is_last]
    assert agent.stored[1, old.submit].end == old.end
    assert len(sweeps) == 35
    assert all(a.end + 1 == b.begin for a, b in pairwise(sweeps))
    assert sweeps[0].begin == pytest.approx(NOW + DAY - 35 * DAY, abs=60)
    assert agent.cycle.facts()["alpha"].sweep_through == sweeps[-1].end
    told = [block.sweep for block in agent.blocks]
    assert told == [None] * len(told), "the sweep is over"


def test_the_readings_of_a_slice_come_with_it_and_its_end_is_said_last() -> None:
    slurm = SimSlurm(NOW)
    for number in range(2_500):
        end = NOW - DAY - number
        slurm.table[number, end - 15] = a_run(number, end - 10, end=end)
    agent = an_agent(slurm, sweep_days=3, lookback_s=3 * DAY)
    agent.poll()
    slurm.now = NOW + DAY
    told: list[tuple[int, bool]] = []
    for _ in range(5):
        agent.poll()
        slurm.now += 30
        told += [(len(b.readings), b.sweep.is_last) for b in agent.blocks if b.sweep]
        assert all(not b.readings or not b.sweep.is_last for b in agent.blocks if b.sweep)
    assert sum(readings for readings, _ in told) == 2_500
    assert [is_last for readings, is_last in told if not readings] == [False, True] * 3
    assert agent.position


def test_steps_are_not_asked_for_once_more_by_a_sweep() -> None:
    slurm = SimSlurm(NOW)
    slurm.table[1, 5] = a_run(1, NOW - 2 * DAY, submit=5, end=NOW - 2 * DAY + 9)
    agent = an_agent(slurm, sweep_days=3, lookback_s=3 * DAY)
    agent.poll()
    assert kinds(slurm).count("steps") == 1
    agent.restart()
    slurm.now = NOW + DAY
    agent.poll_until(NOW + DAY + 300, 30)
    assert "steps" not in kinds(slurm)


def test_a_slice_that_is_not_stored_is_asked_again_later() -> None:
    """The collector was away: whoever reads stopped in the middle, and the position stands."""
    slurm = SimSlurm(NOW)
    agent = an_agent(slurm, sweep_days=3)
    agent.poll()
    slurm.now = NOW + DAY
    for block in agent.cycle.read(agent.position):
        if block.sweep:
            break
        agent.position = block.position
    slurm.asked.clear()
    for later_s, expected in ((30, 0), (300, 0), (700, 1)):
        slurm.now = NOW + DAY + later_s
        agent.poll()
        sweeps = [block for block in agent.blocks if block.sweep and block.sweep.is_last]
        assert len(sweeps) == expected


def test_slices_are_halved_until_slurm_answers() -> None:
    slurm = SimSlurm(NOW)
    for number in range(300):
        end = NOW - 10 - 200 * number
        slurm.table[number, end - 15] = a_run(number, end - 10, end=end)
    slurm.rows_max = 40
    agent = an_agent(slurm, lookback_s=DAY)
    agent.poll()
    assert not agent.complaints
    assert len(agent.stored) == 300
    assert agent.through == NOW - 60
    spans = [span for kind, span in slurm.asked if kind == "ended"]
    assert len(spans) < 30
    slurm.rows_max = 0
    slurm.now += 30
    agent.poll()
    assert agent.complaints == ["too many rows"], "below a quarter of an hour it is a failure"


def test_a_slice_of_a_sweep_that_was_too_much_is_read_in_parts_and_none_left_out() -> None:
    slurm = SimSlurm(NOW)
    agent = an_agent(slurm, sweep_days=3)
    agent.poll()
    for number in range(300):
        end = NOW - DAY - 200 * number
        slurm.table[number, end - 15] = a_run(number, end - 10, end=end)
    slurm.rows_max = 40
    slurm.now = NOW + DAY
    for _ in range(60):
        agent.poll()
        slurm.now += 30
    assert agent.cycle.facts()["alpha"].sweep_through > 0
    assert len(agent.stored) == 300


def test_a_backlog_moves_no_watermark_while_messages_wait() -> None:
    """What waits may have ended days ago, in a slice that has been read already."""
    slurm = SimSlurm(NOW)
    slurm.per_second = 1
    agent = an_agent(slurm, lookback_s=3 * DAY)
    late = [a_run(n, NOW - 2 * DAY, end=NOW - 2 * DAY + 60 + n) for n in range(40)]
    slurm.run(*(Message(NOW, each) for each in late))
    agent.poll()
    assert 0 < len(agent.stored) < 40
    assert agent.through == 0
    slurm.now += 60
    agent.poll()
    assert len(agent.stored) == 40
    assert agent.through > 0


def test_a_run_of_which_sacct_does_not_say_yet_what_it_held_is_left_for_a_later_cycle() -> None:
    slurm = SimSlurm(NOW)
    agent = an_agent(slurm)
    whole = a_run(1, NOW - 50, end=NOW - 10, slurm_elapsed_s=40)
    key = (1, whole.submit)
    slurm.table[key] = whole._replace(alloc_tres=())
    agent.poll()
    assert agent.stored == {}
    slurm.table[key] = whole
    slurm.now += 30
    agent.poll()
    assert agent.stored[key].alloc_tres == whole.alloc_tres


def test_a_deleted_canary_does_not_stop_the_agent_for_good() -> None:
    slurm = SimSlurm(NOW)
    slurm.table = dict([next(iter(history().items()))])
    agent = an_agent(slurm)
    agent.poll()
    agent.poll()
    slurm.table.clear()
    slurm.now += 400
    agent.poll()
    assert "no longer shows 1 of 1 finished runs" in agent.complaints[-1]
    stood = agent.through
    assert stood < NOW, "nothing since it was last found counts"
    newer = a_run(5, slurm.now - 20, end=slurm.now - 10, uid=900)
    slurm.table[5, newer.submit] = newer
    slurm.now += 30
    agent.poll()
    slurm.now += 30
    agent.poll()
    assert len(agent.complaints) == 2
    assert agent.through > NOW


def test_a_run_that_nobody_knows_any_more_is_forgotten_only_beside_a_canary() -> None:
    slurm = SimSlurm(NOW)
    gone = a_run(1, NOW - 50)
    slurm.table = {(1, gone.submit): gone}
    agent = an_agent(slurm)
    agent.poll()
    slurm.table.clear()
    for _ in range(3):
        slurm.now += 300
        agent.poll()
        assert agent.cycle.facts()["alpha"].open_runs == 1, "nothing proves that it is gone"
    slurm.table |= {(7, 7): a_run(7, slurm.now - 9, submit=7, end=slurm.now - 1)}
    for _ in range(3):
        slurm.now += 300
        agent.poll()
    assert agent.cycle.facts()["alpha"].open_runs == 0
    assert not agent.complaints


def test_jobs_that_run_but_are_not_shown_are_an_alarm_after_some_patience() -> None:
    slurm = SimSlurm(NOW)
    slurm.run(Message(NOW, a_run(1, NOW)))
    slurm.hidden = [Span(NOW, NOW + DAY)]
    agent = an_agent(slurm)
    for _ in range(4):
        slurm.now += 30
        agent.poll()
    assert not agent.complaints, "slurmctld's figure may be old"
    assert agent.through == 0, "but nothing counts"
    slurm.now += 30
    agent.poll()
    assert "runs 1 jobs, but accounting shows none" in agent.complaints[-1]
    slurm.hidden = []
    slurm.now += 30
    agent.poll()
    assert len(agent.complaints) == 1
    assert agent.through > NOW


def test_runaways_are_suspected_and_left_alone() -> None:
    slurm = SimSlurm(NOW)
    rows = [
        a_run(1, NOW - 3 * DAY, timelimit_s=HOUR),
        a_run(2, NOW - 3 * DAY, timelimit_s=HOUR, state="SUSPENDED"),
        a_run(3, NOW - 3 * DAY),
        a_run(4, NOW - HOUR, timelimit_s=60),
        a_run(5, NOW - 3 * DAY, timelimit_s=HOUR, suspended_s=2 * DAY + HOUR),
    ]
    slurm.run(*(Message(NOW, row) for row in rows))
    agent = an_agent(slurm)
    slurm.now += 10
    agent.poll()
    assert agent.cycle.facts()["alpha"].runaway_suspects == 1
    assert all(run.end == 0 for run in agent.stored.values())


def test_a_restart_forgets_nothing() -> None:
    slurm = SimSlurm(NOW)
    slurm.run(Message(NOW, a_run(1, NOW)))
    agent = an_agent(slurm)
    slurm.now += 10
    agent.poll()
    slurm.run(Message(NOW + 60, a_run(1, NOW, end=NOW + 60)))
    slurm.now = NOW + 3 * DAY
    agent.restart()
    agent.poll()
    assert agent.lacks() == []
    agent.poll_until(NOW + 3 * DAY + 2 * HOUR, 60)
    begins = [span[0] for kind, span in slurm.asked if kind == "ended"]
    again = [begin for begin in begins if begin <= NOW + 10 - 600 + 60]
    # Lookback; after the restart; ten minutes and an hour later; and once all of it,
    # when there was the first finished run to prove that the answers are true.
    assert len(again) == 5


def test_all_of_the_tree_daily_changes_hourly_and_never_all_gone() -> None:
    slurm = SimSlurm(NOW)
    root = TreeEntry("alpha", TreeKind.ACCOUNT, "root", (), gone=False, observed=0)
    slurm.entries = [root, root._replace(kind=TreeKind.ASSOCIATION, name="1"),
                     root._replace(kind=TreeKind.USER, name="alice")]  # fmt: skip
    agent = an_agent(slurm)

    def told() -> list[TreeEntry]:
        agent.poll()
        return [entry for block in agent.blocks for entry in block.tree]

    assert [entry.name for entry in told()] == ["root", "1", "alice"]
    slurm.now += 300
    assert told() == []
    del slurm.entries[2]
    slurm.now += HOUR
    (gone,) = told()
    assert (gone.name, gone.gone) == ("alice", True)
    kept, slurm.entries = slurm.entries, slurm.entries[1:]
    slurm.now += HOUR
    assert [entry for entry in told() if entry.gone] == []
    assert "has no root account" in agent.complaints[-1]
    slurm.entries = []
    slurm.now += HOUR
    assert told() == [], "it cannot be asked"
    slurm.entries = kept
    slurm.now += DAY
    assert [entry.name for entry in told()] == ["root", "1"], "once a day all of it"
