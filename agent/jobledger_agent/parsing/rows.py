"""Rows of named columns -> SlurmJob, a whole block of rows at a time.

Columns are read one after the other and not row by row: that keeps the usual
row in C. A value that cannot be read is None; its row is left out and
``fault`` says in words what is wrong with it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from functools import lru_cache, partial
from operator import sub
from typing import Any, NamedTuple, cast

from jobledger_agent.parsing import fields
from jobledger_agent.parsing.fields import JobIds, each
from jobledger_agent.parsing.tres import NOTHING, Held, parse_tres
from jobledger_agent.records.job import UNKNOWN, SlurmJob

Row = Sequence[str]
Column = list[Any]
"""Values of one column; None where the text could not be read."""

NEEDED = ("JobIDRaw", "Submit", "Start", "End", "State", "AllocTRES")
"""Without these a run can be neither identified nor priced."""
GOOD_COMMAND = (
    "TZ=UTC SLURM_TIME_FORMAT=%s sacct -a -D -X -p --noconvert --delimiter=$(openssl rand -hex 16)"
    " -S START -E END -o Cluster,JobIDRaw,JobID,DBIndex,Submit,Eligible,Start,End,ElapsedRaw,"
    "Suspended,State,ExitCode,AllocTRES,ReqTRES,AllocCPUS,NNodes,NodeList,UID,User,Account,AssocID,"
    "Partition,QOS,ReservationId,WCKey,TimelimitRaw"
)
"""The command that gives everything, for a person whose dump lacks something."""
STEP_MARK = "."
"""In JobIDRaw: what follows it names a step."""

_make = cast("Callable[[tuple[Any, ...]], SlurmJob]", partial(tuple.__new__, SlurmJob))


class StepRow(NamedTuple):
    """What a step adds to its job; all other things about it are the job's.

    ``row_index`` is the DBIndex or SLUID of the job's row, 0 if unknown;
    ``total_cpu_ms`` and ``max_rss_bytes`` are UNKNOWN where Slurm gave none.
    ``row`` is the step as it came, for when its job is not there.
    """

    cluster: str
    job_id: int
    row_index: int
    total_cpu_ms: int
    max_rss_bytes: int
    row: tuple[str, ...]


class Origin(NamedTuple):
    """What is known of all records of one dump besides its columns."""

    default_cluster: str
    rename: Mapping[str, str]
    zone: tzinfo
    observed: int


class RowReader:
    """Reads rows that all have the columns ``names`` (any case, any order)."""

    def __init__(self, names: Sequence[str], origin: Origin) -> None:
        self._index = {name.lower(): i for i, name in reversed(list(enumerate(names)))}
        self._origin = origin
        self._time = fields.time_reader(origin.zone)
        self._text = lru_cache(maxsize=4096)(fields.clean)
        # Not of its own method: a reader that holds itself would outlive its answer.
        cluster = partial(fields.renamed, origin.rename, origin.default_cluster)
        self._cluster_of = lru_cache(maxsize=1024)(cluster)
        self.missing = tuple(name for name in NEEDED if name.lower() not in self._index)
        self.raw_id = self._index.get("jobidraw", self._index.get("jobid", -1))

    def is_step(self, row: Row) -> bool:
        """Whether this row is one of a job's steps (``1.batch``, ``1.0``)."""
        return self.raw_id >= 0 and STEP_MARK in row[self.raw_id]

    def jobs(self, rows: Sequence[Row], *, cross_check: bool) -> list[SlurmJob | None]:
        """Each job row as a SlurmJob; None for one that cannot be read.

        ``cross_check`` also refuses rows whose figures contradict each other:
        in a dump whose delimiter a user can write into a job's name, that is
        the mark of a row that is not what it seems.
        """
        if not rows:
            return []
        columns = list(zip(*rows, strict=True))
        parsed = self._columns(columns, len(rows))
        made = list(map(_make, zip(*parsed.values(), strict=True)))
        bad = {i for c in parsed.values() if None in c for i, v in enumerate(c) if v is None}
        if cross_check:
            bad.update(self._contradictions(columns, parsed))
        return [None if i in bad else job for i, job in enumerate(made)] if bad else list(made)

    def fault(self, row: Row, *, cross_check: bool) -> str:
        """Why this row is not a job, in one sentence without a full stop."""
        columns = [[value] for value in row]
        parsed = self._columns(columns, 1)
        for field, column in parsed.items():
            if column[0] is None:
                name = next(
                    (n for n in _SOURCES[field] if n.lower() in self._index), _SOURCES[field][0]
                )
                found = self._find(columns, name)
                if found and (found[0] or field != "cluster"):
                    return f"{name} is {fields.clean(found[0][:80])!r}"
                return f"no {name}; take the dump with it, or name it in the settings"
        if cross_check and list(self._contradictions(columns, parsed)):
            return "its figures contradict each other (times, ElapsedRaw, AllocCPUS, AllocTRES)"
        return "it cannot be told from text in a name"

    def steps(self, rows: Sequence[Row]) -> list[StepRow | None]:
        """Each step's row; None for one that cannot be read."""
        if not rows:
            return []
        n, columns = len(rows), list(zip(*rows, strict=True))
        parsed: list[Column] = [
            self._cluster_column(columns, n),
            fields.counts([text.partition(STEP_MARK)[0] for text in columns[self.raw_id]]),
            self._index_column(columns, n),
            self._parsed(columns, "TotalCPU", _step_cpu, UNKNOWN, n),
            self._parsed(columns, "MaxRSS", fields.size_bytes, UNKNOWN, n),
            list(map(tuple, rows)),
        ]
        made = zip(*parsed, strict=True)
        return [None if None in values else StepRow(*values) for values in made]

    def _find(self, columns: Sequence[Row], *names: str) -> Row | None:
        for name in names:
            if (at := self._index.get(name.lower())) is not None:
                return columns[at]
        return None

    def _parsed(
        self, columns: Sequence[Row], name: str, read: Callable[[str], Any], absent: object, n: int
    ) -> Column:
        found = self._find(columns, name)
        return [absent] * n if found is None else each(read, found)

    def _cluster_column(self, columns: Sequence[Row], n: int) -> Column:
        found = self._find(columns, "Cluster")
        return [self._cluster_of("")] * n if found is None else each(self._cluster_of, found)

    def _texts(self, columns: Sequence[Row], name: str, n: int) -> Column:
        return self._parsed(columns, name, self._text, "", n)

    def _index_column(self, columns: Sequence[Row], n: int) -> Column:
        found = self._find(columns, "DBIndex", "SLUID")
        return [0] * n if found is None else list(map(fields.identifier, found))

    def _optional(self, columns: Sequence[Row], name: str, absent: int, n: int) -> Column:
        found = self._find(columns, name)
        if found is None:
            return [absent] * n
        column: Column = fields.counts(found)
        if None not in column and max(column) < fields.NO_VAL:
            return column
        read = [fields.optional_count(text) for text in found]
        return [absent if value == UNKNOWN else value for value in read]

    def _columns(self, columns: Sequence[Row], n: int) -> dict[str, Column]:
        ids = fields.counts(self._find(columns, "JobIDRaw") or [""] * n)
        start, end = (self._times(columns, name, n) for name in ("Start", "End"))
        elapsed = self._elapsed(columns, n)
        states = self._parsed(columns, "State", fields.state, None, n)
        exits = self._parsed(columns, "ExitCode", fields.exit_code, fields.ExitCode(0, 0), n)
        alloc = self._parsed(columns, "AllocTRES", parse_tres, None, n)
        asked = self._parsed(columns, "ReqTRES", parse_tres, NOTHING, n)
        parts = self._job_ids(columns, n)
        cpus = "AllocCPUS" if "alloccpus" in self._index else "NCPUS"
        return {
            "cluster": self._cluster_column(columns, n),
            "job_id": [value or None for value in ids],
            "submit": [value or None for value in self._times(columns, "Submit", n)],
            "eligible": self._times(columns, "Eligible", n),
            "start": start,
            "end": end,
            "suspended_s": self._suspended(columns, start, end, elapsed),
            "slurm_elapsed_s": elapsed,
            "state": _attribute(states, 0),
            "cancelled_by_uid": _attribute(states, 1),
            "exit_code": _attribute(exits, 0),
            "exit_signal": _attribute(exits, 1),
            "alloc_tres": _attribute(alloc, 0),
            "req_tres": _attribute(asked, 0),
            "alloc_cpus": self._optional(columns, cpus, UNKNOWN, n),
            "nodes": _attribute(alloc, 3),
            "node_list": self._nodes(columns, n),
            "user": self._texts(columns, "User", n),
            "uid": self._optional(columns, "UID", UNKNOWN, n),
            "account": self._texts(columns, "Account", n),
            "assoc_id": self._optional(columns, "AssocID", 0, n),
            "partition": self._texts(columns, "Partition", n),
            "qos": self._texts(columns, "QOS", n),
            "wckey": self._texts(columns, "WCKey", n),
            "reservation": self._texts(columns, "Reservation", n),
            "reservation_id": self._optional(columns, "ReservationId", 0, n),
            "array_job_id": _attribute(parts, 0),
            "array_task": _attribute(parts, 1),
            "het_job_id": _attribute(parts, 2),
            "het_offset": _attribute(parts, 3),
            "restarts": self._optional(columns, "Restarts", UNKNOWN, n),
            "sluid": self._index_column(columns, n),
            "timelimit_s": self._limit(columns, n),
            "energy_j": self._energy(columns, alloc),
            "total_cpu_ms": [UNKNOWN] * n,
            "max_rss_bytes": [UNKNOWN] * n,
            "steps": [0] * n,
            "observed": [self._origin.observed] * n,
        }

    def _times(self, columns: Sequence[Row], name: str, n: int) -> Column:
        found = self._find(columns, name)
        return [0] * n if found is None else fields.times(found, self._time)

    def _elapsed(self, columns: Sequence[Row], n: int) -> Column:
        if "elapsedraw" in self._index:
            return self._optional(columns, "ElapsedRaw", UNKNOWN, n)
        return self._parsed(columns, "Elapsed", fields.duration_s, UNKNOWN, n)

    def _suspended(self, columns: Sequence[Row], start: Column, end: Column, ran: Column) -> Column:
        """Seconds suspended; without that column, what Elapsed leaves of End - Start."""
        found = self._find(columns, "Suspended")
        if found is not None:
            return each(fields.duration_s, found)
        return [
            max(0, e - s - r) if e and s and r is not None and r >= 0 else 0
            for s, e, r in zip(start, end, ran, strict=True)
        ]

    def _job_ids(self, columns: Sequence[Row], n: int) -> Column:
        shown, raw = self._find(columns, "JobID"), self._find(columns, "JobIDRaw")
        if shown is None or raw is None:
            return [fields.PLAIN] * n
        if shown == raw:
            return [fields.PLAIN] * n
        pairs = zip(shown, raw, strict=True)
        return [fields.PLAIN if a == b else _part(a) for a, b in pairs]

    def _nodes(self, columns: Sequence[Row], n: int) -> Column:
        texts = self._texts(columns, "NodeList", n)
        return ["" if text == "None assigned" else text for text in texts]

    def _limit(self, columns: Sequence[Row], n: int) -> Column:
        if (raw := self._find(columns, "TimelimitRaw")) is not None:
            return each(lru_cache(maxsize=1024)(fields.limit_minutes_s), raw)
        return self._parsed(columns, "Timelimit", fields.limit_s, UNKNOWN, n)

    def _energy(self, columns: Sequence[Row], alloc: Column) -> Column:
        """The job's own energy: from AllocTRES, else ConsumedEnergyRaw; 0 is unknown."""
        own, raw = _attribute(alloc, 1), self._find(columns, "ConsumedEnergyRaw")
        if raw is None:
            return own
        pairs = zip(own, raw, strict=True)
        return [a if a is None or a > 0 else fields.count(r) or UNKNOWN for a, r in pairs]

    def _contradictions(self, columns: Sequence[Row], parsed: dict[str, Column]) -> list[int]:
        """Rows in which Slurm's own arithmetic does not hold."""
        alloc = self._parsed(columns, "AllocTRES", parse_tres, None, len(parsed["end"]))
        cost = self._optional(columns, "CPUTimeRAW", UNKNOWN, len(alloc))
        start, end, susp = parsed["start"], parsed["end"], parsed["suspended_s"]
        ran, cpus = parsed["slurm_elapsed_s"], parsed["alloc_cpus"]
        usual = None not in end and None not in start and None not in susp and None not in ran
        if usual and "cputimeraw" not in self._index:
            exact = list(map(sub, map(sub, end, start), susp)) == ran
            if exact and _attribute(alloc, 2) == cpus:
                return []
        everything = zip(start, end, susp, ran, cpus, alloc, cost, strict=True)
        return [i for i, values in enumerate(everything) if not _consistent(*values)]


def _consistent(
    start: int | None,
    end: int | None,
    susp: int | None,
    ran: int | None,
    cpus: int | None,
    alloc: Held | None,
    cost: int | None,
) -> bool:
    """Whether one ended row's figures agree with each other."""
    if start is None or end is None or susp is None or ran is None or alloc is None:
        return False
    if end and start and ran != UNKNOWN and ran != max(0, end - start - susp):
        return False
    if cpus is None or cost is None:
        return False
    if UNKNOWN not in {alloc.cpu, cpus} and alloc.cpu != cpus:
        return False
    return UNKNOWN in {cost, ran, cpus} or cost == ran * cpus


def _attribute(column: Column, at: int) -> Column:
    return [None if value is None else value[at] for value in column]


def _step_cpu(text: str) -> int | None:
    return fields.duration_ms(text) if text else UNKNOWN


def _part(shown: str) -> JobIds | None:
    return fields.job_ids(shown) if len(shown) <= fields.MAX_CACHED_CHARS else None


_SOURCES: dict[str, tuple[str, ...]] = {
    "cluster": ("Cluster",),
    "job_id": ("JobIDRaw",),
    "submit": ("Submit",),
    "eligible": ("Eligible",),
    "start": ("Start",),
    "end": ("End",),
    "suspended_s": ("Suspended",),
    "slurm_elapsed_s": ("ElapsedRaw", "Elapsed"),
    "state": ("State",),
    "cancelled_by_uid": ("State",),
    "exit_code": ("ExitCode",),
    "exit_signal": ("ExitCode",),
    "alloc_tres": ("AllocTRES",),
    "req_tres": ("ReqTRES",),
    "alloc_cpus": ("AllocCPUS", "NCPUS"),
    "nodes": ("AllocTRES",),
    "uid": ("UID",),
    "assoc_id": ("AssocID",),
    "reservation_id": ("ReservationId",),
    "array_job_id": ("JobID",),
    "array_task": ("JobID",),
    "het_job_id": ("JobID",),
    "het_offset": ("JobID",),
    "restarts": ("Restarts",),
    "sluid": ("DBIndex", "SLUID"),
    "timelimit_s": ("TimelimitRaw", "Timelimit"),
    "energy_j": ("AllocTRES", "ConsumedEnergyRaw"),
}
"""Columns that each field is read from, the preferred first; texts by their own name."""

USED = frozenset(
    name.lower()
    for names in (
        *_SOURCES.values(),
        ("User", "Account", "Partition", "QOS", "WCKey", "Reservation", "NodeList"),
        ("CPUTimeRAW", "TotalCPU", "MaxRSS"),
    )
    for name in names
)
"""Columns (lower case) whose values end up in a SlurmJob or vouch for one."""
