"""The cycle against a Slurm in memory that writes ends late, in the past, and fails.

What must hold whatever happens: every run arrives as Slurm has it at the end, and
what ``complete_through`` promises is kept at every moment.
"""

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from jobledger_agent.cycle import Cycle, CycleSettings
from jobledger_agent.job import SlurmJob
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
