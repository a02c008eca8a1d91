"""One job as pyslurm tells it -> SlurmJob, by the border that reads Slurm's own JSON. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from jobledger_agent.parsing.fields import NO_VAL
from jobledger_agent.parsing.jsondump import StepSums, Unfit, job_of_json
from jobledger_agent.parsing.rows import Origin
from jobledger_agent.records.job import UNKNOWN, SlurmJob

Told = Mapping[str, Any]


def job_of(told: object, origin: Origin) -> SlurmJob:
    """The job that a line of the child's holds. Raises Unfit for one that cannot be priced."""
    if not isinstance(told, Mapping):
        raise Unfit("not a job's object")
    if not isinstance(told.get("allocated_tres"), Mapping):
        raise Unfit("allocated_tres is missing")
    job = job_of_json(_as_json(told), StepSums(), origin)
    # What its steps used is for the complete source to say.
    return job._replace(
        uid=_count(told.get("user_id"), UNKNOWN), sluid=_count(told.get("db_index"))
    )


def is_nameless(told: object) -> bool:
    """Whether the user is told by number, as of one who is gone: the bill is to have the name."""
    if not isinstance(told, Mapping):
        return False
    name = told.get("user_name")
    return not name or str(name) == str(told.get("user_id"))


def _as_json(told: Told) -> Told:
    """In the words of ``sacct --json``. Of the number 0 pyslurm often tells None."""
    return {
        "account": told.get("account"),
        "array": {"job_id": told.get("array_id"), "task_id": told.get("array_task_id") or 0},
        "association": {"id": told.get("association_id")},
        "cluster": told.get("cluster"),
        "exit_code": {
            "return_code": told.get("exit_code"),
            "signal": {"id": told.get("exit_code_signal")},
        },
        "het": {"job_id": told.get("heterogeneous_id"), "job_offset": _offset(told)},
        "job_id": told.get("id"),
        "nodes": told.get("nodelist"),
        "partition": told.get("partition"),
        "qos": told.get("qos"),
        "reservation": {"id": told.get("reservation_id"), "name": told.get("reservation")},
        "restart_cnt": told.get("requeue_count"),
        "state": {"current": told.get("state")},
        "time": {
            "elapsed": told.get("elapsed_time") or 0,
            "eligible": told.get("eligible_time"),
            "end": told.get("end_time"),
            "limit": told.get("time_limit"),
            "start": told.get("start_time"),
            "submission": told.get("submit_time"),
            "suspended": told.get("suspended_time"),
        },
        "tres": {
            "allocated": _tres(told.get("allocated_tres")),
            "requested": _tres(told.get("requested_tres")),
        },
        "user": told.get("user_name"),
        "wckey": told.get("wckey"),
    }


def _offset(told: Told) -> object:
    """Of a heterogeneous job's first part pyslurm tells None."""
    offset = told.get("heterogeneous_offset")
    if offset is None and told.get("heterogeneous_id"):
        return 0
    return None if offset == NO_VAL else offset


def _tres(told: object) -> list[Told] | None:
    """The entries of a tree in which each kind has a place of its own."""
    return list(_entries(told)) if isinstance(told, Mapping) else None


def _entries(told: Told) -> Iterator[Told]:
    for value in told.values():
        if isinstance(value, Mapping):
            if "type_and_name" in value:
                yield {"type": value["type_and_name"], "count": value.get("count")}
            else:
                yield from _entries(value)


def _count(value: object, absent: int = 0) -> int:
    return (
        value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else absent
    )
