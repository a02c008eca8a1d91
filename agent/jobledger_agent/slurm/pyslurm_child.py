"""What pyslurm sees, as JSON lines: run by its source text in a Python that has pyslurm.

Nothing but pyslurm and the standard library is imported: that Python may have
nothing else. It is a process of its own because pyslurm holds the interpreter's
lock while it waits for slurmdbd, and keeps its memory for good.
"""

import json
import resource
import sys
from typing import Any

NAMES = (
    "account", "array_id", "array_task_id", "association_id", "cluster", "db_index", "elapsed_time",
    "eligible_time", "end_time", "exit_code", "exit_code_signal", "heterogeneous_id",
    "heterogeneous_offset", "id", "nodelist", "partition", "qos", "requeue_count", "reservation",
    "reservation_id", "start_time", "state", "submit_time", "suspended_time", "time_limit",
    "user_id", "user_name", "wckey",
)  # fmt: skip
"""The attributes of a job that are told; nothing that users write freely."""
MAX_OUTPUT_BYTES = 256 << 20
"""The system ends this process when it has written more."""


def main(arguments: list[str]) -> dict[str, object]:
    """``probe``, or a cluster and two times (epoch s): all that ran between them."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES))
    try:
        import pyslurm  # noqa: PLC0415 - its absence is an answer
    except ImportError as error:
        return {"problem": f"cannot import pyslurm ({error})"}
    version = getattr(pyslurm, "__version__", "?")
    if not hasattr(pyslurm.db.Job, "allocated_tres"):
        return {"problem": f"its pyslurm {version} does not tell what a job held"}
    if arguments[0] == "probe":
        return {"version": version}
    cluster, begin, end = arguments[0], int(arguments[1]), int(arguments[2])
    wanted = pyslurm.db.JobFilter(start_time=begin, end_time=end, clusters=[cluster])
    count = 0
    for job in pyslurm.db.Jobs.load(wanted).values():
        told = {name: getattr(job, name, None) for name in NAMES}
        told["allocated_tres"] = job.allocated_tres
        told["requested_tres"] = job.requested_tres
        sys.stdout.write(json.dumps(told, default=plain) + "\n")
        count += 1
    return {"end": count}


def plain(value: Any) -> object:  # noqa: ANN401 - one of pyslurm's
    """An object of pyslurm's in JSON; some of them hold others."""
    return value.to_dict()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1:])) + "\n")
