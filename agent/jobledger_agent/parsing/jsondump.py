"""JSON dumps: ``sacct --json`` and slurmrestd's answers, every shape of 21.08 to 26.05.

A document is streamed: one job, and of its steps one step, is in memory at a
time. Shapes differ in how they say "no value" (null, 0, -2, 4294967294, an
object with "set": false) and in whether a state is a word or a list.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import ijson

from jobledger_agent.parsing import fields
from jobledger_agent.parsing.bytestream import Readable
from jobledger_agent.parsing.fields import NO_VAL, NO_VAL64
from jobledger_agent.parsing.growing import MAX_OBJECT_BYTES, Growing
from jobledger_agent.parsing.rows import Origin
from jobledger_agent.parsing.tres import tres_of_json
from jobledger_agent.records.job import ARRAY_REMAINDER, UNKNOWN, Reading, SlurmJob, set_aside
from jobledger_agent.source import SourceError

Json = Any
"""What a JSON document holds; every use checks what it is."""

MAX_PATH_CHARS = 512
"""Of the names that lead to a value: Slurm nests a dozen, and paths of all depths add up."""
BUFFER_BYTES = 2_048
"""Parsed at a time: all that one buffer holds is in memory at once, a thousand times its size
if it does nothing but nest."""

_JOB = "jobs.item"
_STEP = "jobs.item.steps.item"


class Unfit(ValueError):
    """A job's object that cannot be read; its text says which part and why."""


class StepSums:
    """What the steps of one job add up to."""

    def __init__(self) -> None:
        self.steps = 0
        self.total_cpu_ms = UNKNOWN
        self.max_rss_bytes = UNKNOWN

    def add(self, step: Json) -> None:
        """Fold one step's object in; what it does not say stays unknown."""
        self.steps += 1
        spent = _part(_part(step, "time"), "total")
        seconds, micro = _number(spent.get("seconds")), _number(spent.get("microseconds"))
        if seconds is not None:
            ms = seconds * 1000 + (micro or 0) // 1000
            self.total_cpu_ms = ms + max(0, self.total_cpu_ms)
        peaks = _part(_part(step, "tres"), "requested").get("max")
        for peak in peaks if isinstance(peaks, list) else []:
            if isinstance(peak, Mapping) and peak.get("type") == "mem":
                self.max_rss_bytes = max(self.max_rss_bytes, _number(peak.get("count")) or 0)


def read_json(stream: Readable, origin: Origin, name: str) -> Iterator[Reading]:
    """The jobs of one document, in its order.

    Raises SourceError, after all that can be read, if the document is cut off,
    holds errors of Slurm's, or is not accounting.
    """
    walk = _Walk(origin, name)
    try:
        for prefix, event, value in ijson.parse(stream, buf_size=BUFFER_BYTES):
            if len(prefix) > MAX_PATH_CHARS:
                raise ijson.JSONError("it nests deeper than anything of Slurm's")  # noqa: TRY301
            reading = walk.event(prefix, event, value)
            if reading is not None:
                yield reading
    except (ijson.JSONError, UnicodeDecodeError, ArithmeticError) as error:
        rest = walk.rest()
        if rest is not None:
            yield rest
        raise SourceError(
            f"{name} is not whole: the JSON breaks off after {walk.count} jobs"
            f" ({_line(error)}); what came before is kept; take the dump again"
        ) from error
    walk.check()


class _Walk:
    """Turns the events of a JSON parser into readings."""

    def __init__(self, origin: Origin, name: str) -> None:
        self._origin = origin
        self._name = name
        self._job: Growing | None = None
        self._step: Growing | None = None
        self._sums = StepSums()
        self._error = ""
        self._jobs_seen = False
        self.count = 0

    def event(self, prefix: str, event: str, value: Json) -> Reading | None:
        """Take one event; a reading if it completes a job."""
        if prefix.startswith(_JOB):
            return self._inside(prefix, event, value)
        if prefix == "jobs" and event == "start_array":
            self._jobs_seen = True
        elif prefix.startswith("errors.item") and event == "string" and not self._error:
            self._error = str(value)
        return None

    def _inside(self, prefix: str, event: str, value: Json) -> Reading | None:
        if prefix.startswith(_STEP):
            self._in_step(prefix, event, value)
            return None
        if prefix == _JOB and event in {"start_map", "start_array"}:
            self._job, self._sums = Growing(), StepSums()
        if self._job is None:
            return self._reading(value)
        self._job.event(event, value)
        if prefix == _JOB and event in {"end_map", "end_array"}:
            job, self._job = self._job, None
            return self._reading(job.value) if job.is_whole else self._too_large(job.value)
        return None

    def _in_step(self, prefix: str, event: str, value: Json) -> None:
        if prefix == _STEP and event == "start_map":
            self._step = Growing()
        if self._step is not None:
            self._step.event(event, value)
            if prefix == _STEP and event == "end_map":
                self._sums.add(self._step.value)
                self._step = None

    def _origin_of(self) -> str:
        return f"{self._name} job {self.count}"

    def _reading(self, job: Json) -> Reading:
        self.count += 1
        if isinstance(job, dict) and "job_state" in job and "time" not in job:
            raise SourceError(
                f"{self._name} is what squeue or scontrol prints: the queue, not accounting;"
                " take it with: sacct -a -D --json -S START -E END"
            )
        try:
            return job_of_json(job, self._sums, self._origin)
        except Unfit as unfit:
            text = json.dumps(job, default=str, ensure_ascii=False)
            cluster = str(job.get("cluster") or "") if isinstance(job, dict) else ""
            return set_aside(cluster, self._origin_of(), str(unfit), text)

    def _too_large(self, job: Json) -> Reading:
        self.count += 1
        text = json.dumps(job, default=str, ensure_ascii=False)
        reason = f"an object of more than {MAX_OBJECT_BYTES >> 20} MiB, larger than any of Slurm's"
        return set_aside("", self._origin_of(), reason, text)

    def rest(self) -> Reading | None:
        """The job that was being read when the document broke off."""
        if self._job is None:
            return None
        text = json.dumps(self._job.value, default=str, ensure_ascii=False)
        self.count += 1
        return set_aside("", self._origin_of(), "truncated: the dump ends in this job", text)

    def check(self) -> None:
        """Raise SourceError if the whole document says that something is wrong."""
        if self._error:
            raise SourceError(f"Slurm wrote an error into {self._name}: {_line(self._error)}")
        if not self._jobs_seen:
            raise SourceError(
                f"{self._name} is JSON without a list of jobs, so not accounting;"
                " take it with: sacct -a -D --json -S START -E END"
            )


def job_of_json(job: Json, sums: StepSums, origin: Origin) -> SlurmJob:
    """One job's object. Raises Unfit if it cannot be identified or priced."""
    if not isinstance(job, Mapping):
        raise Unfit("not a job's object")
    time, tres = _part(job, "time"), _part(job, "tres")
    association, reservation = _part(job, "association"), _part(job, "reservation")
    alloc, asked = tres_of_json(tres.get("allocated")), tres_of_json(tres.get("requested"))
    if alloc is None or asked is None or "allocated" not in tres:
        raise Unfit("tres is missing or not a list of type, name and count")
    missing = [key for key in ("start", "end", "submission") if key not in time]
    if missing:
        raise Unfit(f"time has no {', '.join(missing)}")
    state = fields.state(_state(_part(job, "state").get("current")))
    code, signal = _exit(_part(job, "exit_code"))
    array_job, array_task, het_job, het_offset = _membership(job)
    limit = _number(time.get("limit"))
    if state is None:
        raise Unfit("state.current is no state")
    return SlurmJob(
        cluster=_cluster(job.get("cluster") or association.get("cluster"), origin),
        job_id=_required("job_id", job.get("job_id")),
        submit=_required("time.submission", _time(time, "submission")),
        eligible=_time(time, "eligible"),
        start=0 if state.name == "PENDING" and not _time(time, "end") else _start(time),
        end=_time(time, "end"),
        suspended_s=_number(time.get("suspended")) or 0,
        slurm_elapsed_s=_or(_number(time.get("elapsed")), UNKNOWN),
        state=state.name,
        cancelled_by_uid=UNKNOWN,  # JSON gives the name only
        exit_code=code,
        exit_signal=signal,
        alloc_tres=alloc.tres,
        req_tres=asked.tres,
        alloc_cpus=UNKNOWN,
        nodes=alloc.node,
        node_list=_nodes(job.get("nodes")),
        user=_text(job.get("user")) or _text(association.get("user")),
        uid=UNKNOWN,
        account=_text(job.get("account")) or _text(association.get("account")),
        assoc_id=_number(association.get("id")) or 0,
        partition=_text(job.get("partition")),
        qos=_text(job.get("qos")),
        wckey=_wckey(job.get("wckey")),
        reservation=_text(reservation.get("name")),
        reservation_id=_number(reservation.get("id")) or 0,
        array_job_id=array_job,
        array_task=array_task,
        het_job_id=het_job,
        het_offset=het_offset,
        restarts=_or(_number(job.get("restart_cnt")), UNKNOWN),
        sluid=fields.identifier(_text(job.get("sluid"))) or 0,
        timelimit_s=UNKNOWN if limit is None else limit * 60,
        energy_j=alloc.energy_j,
        total_cpu_ms=sums.total_cpu_ms,
        max_rss_bytes=sums.max_rss_bytes,
        steps=sums.steps,
        observed=origin.observed,
    )


def _part(value: Json, key: str) -> Mapping[str, Json]:
    part = value.get(key) if isinstance(value, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _number(value: Json) -> int | None:
    """A whole number >= 0; None in all of the ways in which Slurm says "no value"."""
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set") else None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value if value not in {NO_VAL, NO_VAL + 1} and value < NO_VAL64 >> 1 else None


def _or(value: int | None, absent: int) -> int:
    return absent if value is None else value


def _required(name: str, value: Json) -> int:
    number = _number(value)
    if not number:
        raise Unfit(f"{name} is {_line(value)}")
    return number


def _time(times: Mapping[str, Json], key: str) -> int:
    """Epoch seconds, 0 for a time that has not come. Raises Unfit for anything else."""
    value = times.get(key)
    number = _number(value)
    if number is None and not _is_no_value(value):
        raise Unfit(f"time.{key} is {_line(value)}")
    if number is not None and number > NO_VAL:
        raise Unfit(f"time.{key} is {number}")
    return number or 0


def _is_no_value(value: Json) -> bool:
    """Whether this is one of the ways in which Slurm says that there is none."""
    if isinstance(value, Mapping):
        return not value.get("set") or _is_no_value(value.get("number"))
    if isinstance(value, str):
        return value in fields.NEVER
    return value is None or (type(value) is int and value <= fields.MAX_ID)


def _start(times: Mapping[str, Json]) -> int:
    """When the run began to hold its resources.

    slurmrestd of 22.05 gives the eligible time as the start in v0.0.36 and
    v0.0.37, but the right elapsed time: for an ended run that gives the start.
    """
    start, end, elapsed = _time(times, "start"), _time(times, "end"), _number(times.get("elapsed"))
    if not end or not start or elapsed is None or start != _time(times, "eligible"):
        return start
    return max(1, end - (_number(times.get("suspended")) or 0) - elapsed)


def _text(value: Json) -> str:
    return fields.clean(value) if isinstance(value, str) else ""


def _nodes(value: Json) -> str:
    text = _text(value)
    return "" if text == "None assigned" else text


def _cluster(value: Json, origin: Origin) -> str:
    name = _text(value).strip() or origin.default_cluster
    renamed = origin.rename.get(name, name)
    if not renamed:
        raise Unfit("no cluster")
    return renamed


def _state(value: Json) -> str:
    """The state that tells most: a requeued or resized run is dumped as PENDING first."""
    if not isinstance(value, list):
        return _text(value)
    states = [_text(state) for state in value]
    telling = [state for state in states if state != "PENDING"]
    return (telling or states or [""])[0]


def _exit(code: Mapping[str, Json]) -> tuple[int, int]:
    signal = _part(code, "signal")
    number = signal.get("id", signal.get("signal_id"))
    return _number(code.get("return_code")) or 0, _number(number) or 0


def _membership(job: Mapping[str, Json]) -> tuple[int, int, int, int]:
    """Array job and task, leader and offset of a heterogeneous job; as in SlurmJob."""
    array, het = _part(job, "array"), _part(job, "het")
    array_job, het_job = _number(array.get("job_id")) or 0, _number(het.get("job_id")) or 0
    task, offset = _number(array.get("task_id")), _number(het.get("job_offset"))
    return (
        array_job,
        _or(task, ARRAY_REMAINDER) if array_job else UNKNOWN,
        het_job,
        _or(offset, UNKNOWN) if het_job else UNKNOWN,
    )


def _wckey(value: Json) -> str:
    """As sacct prints it: ``*`` before a key that was the user's default."""
    if isinstance(value, str):
        return fields.clean(value)
    flags = _part({"w": value}, "w").get("flags")
    assigned = isinstance(flags, list) and "ASSIGNED_DEFAULT" in flags
    return ("*" if assigned else "") + _text(_part({"w": value}, "w").get("wckey"))


def _line(value: object) -> str:
    return " ".join(fields.clean(str(value)).split())[:200]
