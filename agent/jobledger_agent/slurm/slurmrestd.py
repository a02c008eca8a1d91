"""slurmrestd as an Accounting: Slurm's accounting where there is no shell to run sacct in.

Each version of the interface has its own rules (see ``Dialect``), found by
trial. All that a version does not tell (DBIndex, uid, ...) is unknown, never
made up, so that the same run has the same content each time it is read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC
from itertools import chain
from typing import Final, NamedTuple

from jobledger_agent import clock
from jobledger_agent.parsing.bytestream import CleanJson
from jobledger_agent.parsing.jsondump import Json, read_json
from jobledger_agent.parsing.rows import Origin
from jobledger_agent.reading.accounting import Answer, Controller, RowKey, SlurmdbdSettings, StepUse
from jobledger_agent.records.job import UNKNOWN, Reading, SlurmJob, Unreadable
from jobledger_agent.records.tree import TreeEntry
from jobledger_agent.slurm.commands import check_cluster
from jobledger_agent.slurm.slurmrestd_answers import NOT_FOUND, events, objects, prove
from jobledger_agent.slurm.slurmrestd_http import Reply, Server
from jobledger_agent.slurm.slurmrestd_tree import tree
from jobledger_agent.source import SourceError

Pairs = tuple[tuple[str, str], ...]

MAX_IDS: Final = 200
"""Job ids in one question."""
ENDED: Final = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "TIMEOUT", "REQUEUED", "RESIZING", "REVOKED",
)  # fmt: skip
"""The states in which a run has ended."""
FLAGGED: Final = frozenset({"REQUEUED", "RESIZING", "REVOKED"})
"""Those that Slurm keeps as a flag: 22.05 cannot be asked for them."""
OPEN: Final = ("RUNNING", "SUSPENDED")
"""The states in which a run holds resources."""
LATE_S: Final = 1
"""Slurm adds a second to the end of a span that is now."""


class Dialect(NamedTuple):
    """How one version wants to be asked.

    ``repeats``: a list is one parameter for each value; it takes a comma for part
    of the value, answers with all states and says so in ``errors`` only.
    ``masks``: it takes a state that is a flag for PENDING. ``flags`` go with
    every question: from 24.05 on a single flag turns the others' defaults off.
    """

    version: str
    repeats: bool
    masks: bool
    flags: Pairs

    def several(self, name: str, values: Sequence[str]) -> Pairs:
        """One parameter with several values."""
        if self.repeats:
            return tuple((name, value) for value in values)
        return ((name, ",".join(values)),)


_DIAG: Final = ("dbd_agent_queue_size", "jobs_running")
"""Where slurmctld's statistics have the fields of Controller."""
_NO_STEPS: Final = ("skip_steps", "true")
_ALL_RUNS: Final = (("show_duplicates", "true"), ("disable_truncate_usage_time", "true"))
_OLD: Final = ("v0.0.39", "v0.0.38")
DIALECTS: Final = (
    *(
        Dialect(f"v0.0.{number}", repeats=True, masks=False, flags=_ALL_RUNS)
        for number in (45, 44, 43, 42, 41)
    ),
    # With any flag, 23.11 shows only runs without a note on how they were scheduled, so none.
    Dialect("v0.0.40", repeats=True, masks=False, flags=(*_ALL_RUNS, ("scheduler_unset", "true"))),
    *(Dialect(version, repeats=False, masks=True, flags=()) for version in _OLD),
)
"""The versions that were tried on a real slurmrestd, newest first."""


class Slurmrestd:
    """A live Slurm behind slurmrestd; an ``accounting.Accounting``."""

    def __init__(
        self,
        clusters: Sequence[str],
        server: Server,
        *,
        data_parser: str = "",
        now: Callable[[], int] = clock.now_s,
    ) -> None:
        """``data_parser`` "": the newest that both sides know. Raises SourceError for another."""
        self.clusters = tuple(check_cluster(name) for name in clusters)
        self._server = server
        self._now = now
        self._offered = [each for each in DIALECTS if data_parser in {"", each.version}]
        if not self._offered:
            known = ", ".join(each.version for each in DIALECTS)
            raise SourceError(
                f"data_parser {data_parser!r} was never tried; leave it out, or name one of {known}"
            )
        self._dialect: Dialect | None = None
        self._local = ""

    @property
    def name(self) -> str:
        """Unique among the agent's sources."""
        return "slurmrestd:" + ",".join(self.clusters)

    def negotiate(self) -> None:
        """Find out, once, which version is served and whether the clusters exist."""
        if self._dialect is not None:
            return
        for dialect in self._offered:
            what = f"the clusters of slurmrestd ({dialect.version})"
            with self._server.get(f"/slurmdb/{dialect.version}/clusters") as reply:
                if reply.status == NOT_FOUND:
                    continue
                proof = prove(reply, what, "clusters")
                found = [str(each.get("name") or "") for each in objects(reply.body, "clusters")]
            self._check_clusters(found)
            # Up to 23.02 it does not say whose it is; of one it can only be that one's.
            self._local = proof.cluster or (found[0] if len(found) == 1 else "")
            self._dialect = dialect
            return
        wanted = ", ".join(each.version for each in self._offered)
        raise SourceError(
            f"slurmrestd at {self._server.address.text} serves none of {wanted}; check its plugins"
            " (slurmrestd -s list; openapi/slurmdbd is needed) and data_parser in [[source]]"
        )

    def _check_clusters(self, found: Sequence[str]) -> None:
        for cluster in self.clusters:
            if cluster not in found:
                raise SourceError(
                    f"slurmdbd knows no cluster {cluster}, only {', '.join(sorted(found))};"
                    " correct clusters in [[source]]"
                )

    def forget(self) -> None:
        """Negotiate again."""
        self._dialect = None

    def controller(self, cluster: str) -> Controller:
        """What the one slurmctld that slurmrestd knows says; UNKNOWN for other clusters."""
        dialect = self._spoken()
        if cluster != self._local:
            return Controller()
        what = f"slurmctld of {cluster} through slurmrestd"
        with self._server.get(f"/slurm/{dialect.version}/diag") as reply:
            prove(reply, what, "")
            told = {
                prefix.rpartition(".")[2]: value
                for prefix, event, value in events(reply.body)
                if event == "number" and prefix.startswith("statistics.")
            }
        return Controller(*(_count(told.get(name)) for name in _DIAG))

    def slurmdbd(self) -> SlurmdbdSettings:
        """Not to be learned by HTTP."""
        return SlurmdbdSettings()

    @contextmanager
    def ended(self, cluster: str, span: tuple[int, int]) -> Iterator[Iterator[Reading]]:
        """All runs that ended in ``span``; from 22.05 by two questions."""
        begin, end = span
        dialect = self._spoken()
        times = (("start_time", f"uts{begin}"), ("end_time", f"uts{end}"))
        asked = [state for state in ENDED if not (dialect.masks and state in FLAGGED)]
        states = dialect.several("state", asked)
        with ExitStack() as stack:
            ask = self._jobs(cluster, (_NO_STEPS, *times, *states))
            readings = _within(stack.enter_context(ask), span, cluster)
            if dialect.masks:
                overlapping = stack.enter_context(self._jobs(cluster, (_NO_STEPS, *times)))
                readings = chain(readings, _flagged(overlapping, span))
            yield readings

    def open(self, cluster: str) -> Answer:
        """All runs that hold resources now."""
        return self._jobs(cluster, (_NO_STEPS, *self._spoken().several("state", OPEN)))

    def by_id(self, cluster: str, ids: Sequence[int]) -> Answer:
        """All runs of these jobs."""
        return self._jobs(cluster, (_NO_STEPS, *self._ids(ids)))

    def step_use(self, cluster: str, ids: Sequence[int]) -> Mapping[RowKey, StepUse]:
        """What the steps add up to; unknown for a job with several runs that are not told apart."""
        found: dict[RowKey, list[StepUse]] = {}
        with self._jobs(cluster, self._ids(ids)) as readings:
            for job in readings:
                if isinstance(job, SlurmJob):
                    use = StepUse(job.total_cpu_ms, job.max_rss_bytes, job.steps)
                    found.setdefault((job.job_id, job.sluid), []).append(use)
        return {key: uses[0] for key, uses in found.items() if len(uses) == 1 and uses[0].steps}

    def tree(self, cluster: str) -> Iterator[TreeEntry]:
        """Every account, user, association and QOS of the cluster as it is now."""
        version = self._spoken().version

        @contextmanager
        def ask(name: str) -> Iterator[Iterator[Mapping[str, Json]]]:
            list_name = "QOS" if (version, name) == ("v0.0.38", "qos") else name
            with self._server.get(f"/slurmdb/{version}/{name}") as reply:
                prove(reply, f"the {name} of slurmrestd", list_name)
                yield objects(reply.body, list_name)

        return tree(ask, cluster, self._now())

    def _spoken(self) -> Dialect:
        self.negotiate()
        if self._dialect is None:
            raise SourceError("slurmrestd was not negotiated with; it is asked again")
        return self._dialect

    def _ids(self, ids: Sequence[int]) -> Pairs:
        return self._spoken().several("step", [str(number) for number in ids[:MAX_IDS]])

    @contextmanager
    def _jobs(self, cluster: str, query: Pairs) -> Iterator[Iterator[Reading]]:
        """The readings of one whole answer."""
        dialect = self._spoken()
        what = f"slurmrestd for cluster {cluster}"
        query = (("cluster", cluster), *dialect.flags, *query)
        with self._server.get(f"/slurmdb/{dialect.version}/jobs", query) as reply:
            proof = prove(reply, what, "jobs")
            yield iter(()) if proof.is_empty else self._readings(reply, what, cluster)

    def _readings(self, reply: Reply, what: str, cluster: str) -> Iterator[Reading]:
        origin = Origin(cluster, {}, UTC, self._now())
        for reading in read_json(CleanJson(reply.body), origin, what):
            if isinstance(reading, Unreadable):
                yield reading._replace(cluster=cluster, origin=what)
                continue
            if reading.cluster != cluster:
                raise SourceError(
                    f"{what} told of job {reading.job_id} of cluster {reading.cluster}; check"
                    " address and the cluster's name in [[source]]"
                )
            yield reading


def _within(readings: Iterator[Reading], span: tuple[int, int], cluster: str) -> Iterator[Reading]:
    """The readings of a question about ``span``. Raises SourceError for another's."""
    begin, end = span
    for reading in readings:
        if isinstance(reading, SlurmJob) and not begin <= reading.end <= end + LATE_S:
            raise SourceError(
                f"slurmrestd for cluster {cluster} told of job {reading.job_id} that ended at"
                f" {reading.end}, outside of {begin} to {end}; it is asked again"
            )
        yield reading


def _flagged(readings: Iterator[Reading], span: tuple[int, int]) -> Iterator[Reading]:
    """Of all that overlaps ``span``: what ended in it and cannot be asked for by its state."""
    begin, end = span
    for reading in readings:
        if not isinstance(reading, SlurmJob) or reading.state not in FLAGGED:
            continue
        if begin <= reading.end <= end + LATE_S:
            yield reading


def _count(value: Json) -> int:
    return value if isinstance(value, int) and value >= 0 else UNKNOWN
