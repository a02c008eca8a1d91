"""What the steps of recently ended jobs used: asked for later, added when known.

A job's record never waits for its steps. It is read again as long as the
window overlaps, and carries what its steps used once that is known. Pure.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from jobledger_agent.reading.accounting import StepUse
from jobledger_agent.records.job import UNKNOWN, SlurmJob

MAX_REMEMBERED = 20_000
"""Runs whose steps are remembered: far more than end within one overlap."""
MAX_WANTED = 2_000
"""Runs whose steps are asked for after one cycle."""

Key = tuple[str, int, int]
NO_STEPS = StepUse(UNKNOWN, UNKNOWN, 0)


class StepMemory:
    """Remembers step use by run; forgets the oldest."""

    def __init__(self, settle_s: int) -> None:
        self._settle_s = settle_s
        self._known: OrderedDict[Key, StepUse] = OrderedDict()
        self._wanted: dict[Key, tuple[int, int]] = {}
        """Row (DBIndex) and End of the runs whose steps are to be asked for."""

    def complete(self, job: SlurmJob, now: int) -> SlurmJob:
        """The job with what its steps used; unknown until that has been asked.

        It is asked once the job's end is ``settle_s`` seconds past, for the
        steps' own last figures arrive after the job's.
        """
        use = self._known.get(job[:3])
        if use is not None:
            return job._replace(**use._asdict())
        settled = job.start and job.end and job.end <= now - self._settle_s
        if settled and len(self._wanted) < MAX_WANTED:
            self._wanted[job[:3]] = (job.sluid, job.end)
        return job

    def known(self, job: SlurmJob) -> SlurmJob:
        """The job with what its steps used if that is known; it is not asked for."""
        use = self._known.get(job[:3])
        return job if use is None else job._replace(**use._asdict())

    def wanted(self, cluster: str) -> list[int]:
        """Ids of the jobs whose steps are to be asked for."""
        return sorted({key[1] for key in self._wanted if key[0] == cluster})

    def wanted_before(self, cluster: str, end: int) -> set[int]:
        """Those of them that ended before ``end`` (epoch s): no window reads them again."""
        return {
            key[1] for key, (_, ended) in self._wanted.items() if key[0] == cluster and ended < end
        }

    def learn(
        self, cluster: str, ids: Sequence[int], found: Mapping[tuple[int, int], StepUse]
    ) -> None:
        """Take the answer about the jobs ``ids``: those that it does not name have no steps."""
        asked = set(ids)
        for key, (row, _) in list(self._wanted.items()):
            if key[0] == cluster and key[1] in asked:
                del self._wanted[key]
                use = found.get((key[1], row)) or found.get((key[1], 0)) or NO_STEPS
                self._known[key] = use
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    def give_up(self) -> None:
        """Nothing is wanted any more; what is read again is wanted again."""
        self._wanted.clear()
