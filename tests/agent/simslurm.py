"""A Slurm in memory, with its habits: an ``accounting.Accounting`` with a clock of its own.

slurmctld sends slurmdbd one message after the other; while slurmdbd is away they
wait. A run that is killed while suspended ends as of when it was suspended. Each
question takes a second, so that things happen between two of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from jobledger_agent.reading.accounting import (
    Controller,
    RowKey,
    SlurmdbdSettings,
    StepUse,
    TooMuch,
)
from jobledger_agent.records.job import UNKNOWN, Reading, SlurmJob
from jobledger_agent.records.tree import TreeEntry
from jobledger_agent.source import SourceError

CLUSTER = "alpha"
AGENTS_UID = 990


class Span(NamedTuple):
    """From ``begin`` to ``end``, not included (epoch seconds)."""

    begin: int
    end: int

    def holds(self, when: int) -> bool:
        return self.begin <= when < self.end


class Message(NamedTuple):
    """What slurmctld tells slurmdbd at a time: a row as it then is."""

    at: int
    row: SlurmJob


def a_run(job_id: int, start: int, **values: object) -> SlurmJob:
    """A run as slurmdbd would store it; open unless ``end`` is given."""
    end = values.get("end", 0)
    plain: dict[str, object] = {
        "cluster": CLUSTER, "job_id": job_id, "submit": start - 5, "eligible": start - 5,
        "start": start, "end": 0, "suspended_s": 0, "slurm_elapsed_s": 1 if end else 0,
        "state": "COMPLETED" if end else "RUNNING", "cancelled_by_uid": UNKNOWN, "exit_code": 0,
        "exit_signal": 0, "alloc_tres": (("cpu", 2),), "req_tres": (("cpu", 2),), "alloc_cpus": 2,
        "nodes": 1, "node_list": "n1", "user": "alice", "uid": 1000, "account": "physics",
        "assoc_id": 3, "partition": "cpu", "qos": "normal", "wckey": "", "reservation": "",
        "reservation_id": 0, "array_job_id": 0, "array_task": UNKNOWN, "het_job_id": 0,
        "het_offset": UNKNOWN, "restarts": UNKNOWN, "sluid": job_id, "timelimit_s": UNKNOWN,
        "energy_j": UNKNOWN, "total_cpu_ms": UNKNOWN, "max_rss_bytes": UNKNOWN, "steps": 0,
        "observed": 0,
    }  # fmt: skip
    return SlurmJob(**{**plain, **values})  # type: ignore[arg-type]  # by name


class SimSlurm:
    """Slurm, its database and its faults; ``now`` moves on with each question."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.name = "simulated:alpha"
        self.clusters = (CLUSTER,)
        self.messages: list[Message] = []
        self.dbd_down: list[Span] = []
        self.sdiag_down: list[Span] = []
        self.hidden: list[Span] = []
        self.rows_max = 1 << 30
        self.has_sdiag = True
        self.per_second = 50
        """Messages that slurmdbd takes in a second in which it takes any."""
        self.takes_every_s = 1
        self.settings = SlurmdbdSettings(0, 0)
        self.entries: list[TreeEntry] = []
        self.table: dict[tuple[int, int], SlurmJob] = {}
        self.asked: list[tuple[str, Any]] = []
        self._sent = 0
        self._drained_at = now

    def run(self, *messages: Message) -> None:
        """Let these things happen."""
        self.messages.extend(messages)
        self.messages.sort(key=lambda message: message.at)

    # ------------------------------------------------------------------ Accounting

    def negotiate(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def slurmdbd(self) -> SlurmdbdSettings:
        return self.settings

    def controller(self, cluster: str) -> Controller:
        self._tick()
        assert cluster == CLUSTER
        if not self.has_sdiag:
            return Controller()
        if any(span.holds(self.now) for span in self.sdiag_down):
            raise SourceError("sdiag gave no answer")
        told = [message for message in self.messages if message.at <= self.now]
        latest = {(m.row.job_id, m.row.submit): m.row for m in told}
        running = sum(row.end == 0 and row.state == "RUNNING" for row in latest.values())
        return Controller(len(told) - self._sent, running)

    @contextmanager
    def ended(self, cluster: str, span: tuple[int, int]) -> Iterator[Iterator[Reading]]:
        self._ask("ended", span)
        begin, end = span
        rows = [row for row in self._visible() if begin <= row.end <= end]
        if len(rows) > self.rows_max:
            raise TooMuch("too many rows")
        yield iter([row._replace(cluster=cluster) for row in rows])

    @contextmanager
    def open(self, cluster: str) -> Iterator[Iterator[Reading]]:
        self._ask("open", cluster)
        yield iter([row for row in self._visible() if not row.end])

    @contextmanager
    def by_id(self, cluster: str, ids: Sequence[int]) -> Iterator[Iterator[Reading]]:
        self._ask("by_id", tuple(ids))
        assert cluster == CLUSTER
        assert len(ids) <= 200
        yield iter([row for row in self._visible() if row.job_id in ids])

    def step_use(self, cluster: str, ids: Sequence[int]) -> Mapping[RowKey, StepUse]:
        self._ask("steps", tuple(ids))
        assert cluster == CLUSTER
        return {(number, number): StepUse(1000 * number, 1 << 20, 1) for number in ids}

    def tree(self, cluster: str) -> Iterator[TreeEntry]:
        self._ask("tree", cluster)
        return iter([entry._replace(observed=self.now) for entry in self.entries])

    # ---------------------------------------------------------------------- inside

    def _ask(self, kind: str, what: object) -> None:
        self._tick()
        self.asked.append((kind, what))
        if any(span.holds(self.now) for span in self.dbd_down):
            raise SourceError("sacct failed with exit 1 (Problem talking to the database)")

    def _tick(self) -> None:
        """A second passes; slurmdbd takes what it can."""
        self.now += 1
        self.drain()

    def drain(self) -> None:
        """Bring slurmdbd's table up to now."""
        while self._drained_at < self.now:
            self._drained_at += 1
            is_down = any(span.holds(self._drained_at) for span in self.dbd_down)
            if is_down or self._drained_at % self.takes_every_s:
                continue
            for message in self.messages[self._sent : self._sent + self.per_second]:
                if message.at > self._drained_at:
                    break
                self.table[message.row.job_id, message.row.submit] = message.row
                self._sent += 1

    def _visible(self) -> list[SlurmJob]:
        """What the agent's user may see."""
        rows = [row._replace(observed=self.now) for row in self.table.values()]
        if any(span.holds(self.now) for span in self.hidden):
            return [row for row in rows if row.uid == AGENTS_UID]
        return rows
