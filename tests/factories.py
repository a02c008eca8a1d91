"""Things that tests are about, with everything unimportant filled in."""

from collections.abc import Sequence
from typing import Any, Final

from jobledger_collector.columns import FIELDS, TEXT_FIELDS, TRES_FIELDS, Row
from jobledger_collector.core.record import UNKNOWN, JobRecord, Tres, content_text
from jobledger_collector.wire import Decoded
from jobledger_proto.v1 import usage_pb2

NOW_S: Final = 1_800_000_000
HELD: Final[Tres] = (("cpu", 2), ("gres/gpu", 1), ("mem", 100), ("node", 1))
"""cpu=2,gres/gpu=1,mem=100M,node=1: what a run of these tests usually holds."""


def a_tres(text: str) -> Tres:
    """Read "cpu=2,mem=100" as an allocation."""
    pairs = [item.rpartition("=") for item in text.split(",")] if text else []
    return tuple(sorted((name, int(count)) for name, _, count in pairs))


def a_job(job_id: int = 1, **over: Any) -> JobRecord:  # noqa: ANN401 - any field
    """Six seconds of a run that ended well, seen once; ``tres`` is text for ``alloc_tres``."""
    if "tres" in over:
        over["alloc_tres"] = a_tres(over.pop("tres"))
    usual: dict[str, Any] = {
        "cluster": "alpha", "job_id": job_id, "submit": 100, "eligible": 100, "start": 100,
        "end": 106, "suspended_s": 0, "slurm_elapsed_s": UNKNOWN, "state": "COMPLETED",
        "cancelled_by_uid": UNKNOWN, "exit_code": 0, "exit_signal": 0, "alloc_tres": HELD,
        "req_tres": HELD, "alloc_cpus": UNKNOWN, "nodes": 1, "node_list": "n001",
        "user": "alice", "uid": 1001, "account": "physics", "assoc_id": 7, "partition": "cpu",
        "qos": "normal", "wckey": "", "reservation": "", "reservation_id": 0, "array_job_id": 0,
        "array_task": -1, "het_job_id": 0, "het_offset": -1, "restarts": UNKNOWN,
        "sluid": 2**64 - 1, "timelimit_s": 3600, "energy_j": UNKNOWN, "total_cpu_ms": UNKNOWN,
        "max_rss_bytes": UNKNOWN, "steps": 0, "observed": 1_000,
    }  # fmt: skip
    return JobRecord(**{**usual, **over})


def a_row(record: JobRecord) -> Row:
    """Return the record as the border hands it on."""
    return Row(record, content_text(record))


def decoded(*records: JobRecord, number: int = 1) -> Decoded:
    """Return records as a batch that passed the border."""
    return Decoded(number, [a_row(record) for record in records], clean=True)


def columns_of(records: Sequence[JobRecord]) -> usage_pb2.JobColumns:
    """Return records as an agent sends them: column by column, with dictionaries."""
    texts: dict[str, int] = {"": 0}
    sets: dict[Tres, int] = {(): 0}
    columns = usage_pb2.JobColumns(rows=len(records))
    for field in FIELDS:
        values = [getattr(record, field) for record in records]
        if field in TEXT_FIELDS:
            values = [texts.setdefault(value, len(texts)) for value in values]
        elif field in TRES_FIELDS:
            values = [sets.setdefault(value, len(sets)) for value in values]
        getattr(columns, field).extend(values)
    for tres in sets:
        names = [texts.setdefault(name, len(texts)) for name, _ in tres]
        columns.tres_sets.add(name=names, count=[count for _, count in tres])
    columns.texts.extend(texts)
    return columns


def a_batch(*records: JobRecord, number: int = 1) -> usage_pb2.Batch:
    """Return a batch as an agent sends it."""
    return usage_pb2.Batch(number=number, jobs=columns_of(records))
