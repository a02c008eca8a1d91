"""JSON of every shape: one job is one run however a version says "no value"."""

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobledger_agent.parsing.bytestream import MAX_STRING_BYTES
from jobledger_agent.parsing.jsondump import StepSums, Unfit, job_of_json
from jobledger_agent.records.job import ARRAY_REMAINDER, UNKNOWN, SlurmJob
from jobledger_agent.sources.files import FileSource
from tests.agent.dumps import DATA, Outcome, read
from tests.agent.test_rows import ORIGIN

Json = dict[str, Any]

PLAIN: Json = {
    "account": "phys_theory",
    "array": {"job_id": 0, "task_id": {"set": False, "infinite": False, "number": 0}, "task": ""},
    "association": {"account": "", "cluster": "alpha", "partition": "", "user": "", "id": 12},
    "cluster": "alpha",
    "exit_code": {"status": ["SUCCESS"], "return_code": {"set": True, "number": 0}},
    "het": {"job_id": 0, "job_offset": {"set": False, "infinite": False, "number": 0}},
    "job_id": 6,
    "name": "a|b\nc",
    "nodes": "c1",
    "partition": "cpu",
    "qos": "normal",
    "reservation": {"id": 0, "name": ""},
    "restart_cnt": 0,
    "state": {"current": ["COMPLETED"], "reason": "None"},
    "time": {
        "elapsed": 6, "eligible": 100, "end": 116, "start": 110, "submission": 100,
        "suspended": 0, "limit": {"set": True, "infinite": False, "number": 30},
    },
    "tres": {
        "allocated": [{"type": "cpu", "name": "", "id": 1, "count": 2},
                      {"type": "mem", "name": "", "id": 2, "count": 4000}],
        "requested": [{"type": "cpu", "name": "", "id": 1, "count": 2}],
    },
    "user": "alice",
    "wckey": {"wckey": "", "flags": ["ASSIGNED_DEFAULT"]},
}  # fmt: skip


def changed(**parts: object) -> SlurmJob:
    """PLAIN with parts of it replaced; "time" and the like are updated, not replaced."""
    merged = {
        key: {**PLAIN[key], **value}
        if isinstance(value, dict) and isinstance(PLAIN.get(key), dict)
        else value
        for key, value in parts.items()
    }
    return job_of_json({**PLAIN, **merged}, StepSums(), ORIGIN)


def document(tmp_path: Path, content: object, tail: str = "") -> Outcome:
    """What a file with this JSON says."""
    path = tmp_path / "dump.json"
    path.write_text(json.dumps(content) + tail, encoding="utf-8")
    return read(FileSource(path))


def test_every_field_is_read() -> None:
    assert job_of_json(PLAIN, StepSums(), ORIGIN) == SlurmJob(
        cluster="alpha", job_id=6, submit=100, eligible=100, start=110, end=116, suspended_s=0,
        slurm_elapsed_s=6, state="COMPLETED", cancelled_by_uid=UNKNOWN, exit_code=0, exit_signal=0,
        alloc_tres=(("cpu", 2), ("mem", 4000)), req_tres=(("cpu", 2),), alloc_cpus=UNKNOWN, nodes=0,
        node_list="c1", user="alice", uid=UNKNOWN, account="phys_theory", assoc_id=12,
        partition="cpu", qos="normal", wckey="*", reservation="", reservation_id=0, array_job_id=0,
        array_task=UNKNOWN, het_job_id=0, het_offset=UNKNOWN, restarts=0, sluid=0, timelimit_s=1800,
        energy_j=UNKNOWN, total_cpu_ms=UNKNOWN, max_rss_bytes=UNKNOWN, steps=0,
        observed=ORIGIN.observed,
    )  # fmt: skip


NO_VALUE = [None, 0, 4_294_967_294, 18_446_744_073_709_551_614, -2, "",
            {"set": False, "infinite": False, "number": 0},
            {"set": False, "infinite": True, "number": 0}]  # fmt: skip


@pytest.mark.parametrize("value", NO_VALUE)
def test_a_time_that_has_not_come(value: object) -> None:
    """Conformance case 6: a run that never started is dumped in many ways."""
    job = changed(time={"start": value, "end": value}, state={"current": ["PENDING"]})
    assert (job.start, job.end) == (0, 0)


@pytest.mark.parametrize(
    ("current", "state"),
    [
        ("COMPLETED", "COMPLETED"),
        (["COMPLETED"], "COMPLETED"),
        (["PENDING", "REQUEUED"], "REQUEUED"),
        (["PENDING", "RESIZING"], "RESIZING"),
        (["PENDING"], "PENDING"),
        (["RUNNING", "COMPLETING"], "RUNNING"),
        (["EVAPORATED"], "EVAPORATED"),
    ],
)
def test_the_state_that_tells_most(current: object, state: str) -> None:
    """A requeued run is stored as a flag alone, and its base is dumped as PENDING."""
    job = changed(state={"current": current})
    assert job.state == state
    assert job.end == 116


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"exit_code": {"return_code": 2}}, {"exit_code": 2, "exit_signal": 0}),
        ({"exit_code": {"return_code": None, "signal": {"signal_id": 9}}}, {"exit_signal": 9}),
        ({"exit_code": {"return_code": {"set": False, "number": 0},
                        "signal": {"id": {"set": True, "number": 15}}}},
         {"exit_code": 0, "exit_signal": 15}),
        ({"array": {"job_id": 37, "task_id": 10}}, {"array_job_id": 37, "array_task": 10}),
        ({"array": {"job_id": 37, "task_id": {"set": True, "number": 0}}}, {"array_task": 0}),
        ({"array": {"job_id": 54, "task_id": None, "task": "3-30%2"}},
         {"array_job_id": 54, "array_task": ARRAY_REMAINDER}),
        ({"het": {"job_id": 426, "job_offset": 1}}, {"het_job_id": 426, "het_offset": 1}),
        ({"wckey": {"wckey": "campaign", "flags": []}}, {"wckey": "campaign"}),
        ({"wckey": {"wckey": "p", "flags": ["ASSIGNED_DEFAULT"]}}, {"wckey": "*p"}),
        ({"wckey": "plain"}, {"wckey": "plain"}),
        ({"reservation": {"id": 2, "name": 3316517008}}, {"reservation_id": 2, "reservation": ""}),
        ({"user": None, "association": {"user": "bob"}}, {"user": "bob"}),
        ({"account": "", "association": {"account": "a"}}, {"account": "a"}),
        ({"cluster": None}, {"cluster": "alpha"}),
        ({"nodes": "None assigned"}, {"node_list": ""}),
        ({"restart_cnt": None}, {"restarts": UNKNOWN}),
        ({"sluid": "sB25M7X6ANVM00"}, {"sluid": 12_760_536_031_503_962_112}),
        ({"time": {"limit": {"set": False, "infinite": True}}}, {"timelimit_s": UNKNOWN}),
        ({"time": {"limit": "Infinite"}}, {"timelimit_s": UNKNOWN}),
        ({"time": {"limit": 30}}, {"timelimit_s": 1800}),
    ],
)  # fmt: skip
def test_parts(parts: dict[str, object], expected: dict[str, object]) -> None:
    got = changed(**parts)._asdict()
    assert {name: got[name] for name in expected} == expected


def test_slurmrestd_that_gives_the_eligible_time_as_the_start() -> None:
    """v0.0.36 and v0.0.37 of 22.05; Elapsed is right and tells when the run started."""
    job = changed(time={"start": 100, "eligible": 100, "end": 176, "suspended": 60, "elapsed": 6})
    assert job.start == 110
    assert changed(time={"start": 100, "eligible": 100, "end": 106}).start == 100
    pending = changed(time={"start": 900, "end": 0}, state={"current": "PENDING"})
    assert pending.start == 0


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"job_id": None}, "job_id is None"),
        ({"job_id": "six"}, "job_id is six"),
        ({"job_id": True}, "job_id is True"),
        ({"time": {"submission": 0}}, "time.submission is 0"),
        ({"time": {"end": "tomorrow"}}, "time.end is tomorrow"),
        ({"time": {"end": 10**12}}, "time.end is 1000000000000"),
        ({"tres": None}, "tres is missing or not a list of type, name and count"),
        ({"tres": {"allocated": "cpu=2"}}, "tres is missing or not a list of type, name and count"),
        ({"state": None}, "state.current is no state"),
        ({"state": {"current": []}}, "state.current is no state"),
        ({"cluster": "", "association": {"cluster": ""}}, "no cluster"),
    ],
)
def test_what_cannot_be_priced_says_why(parts: dict[str, object], reason: str) -> None:
    with pytest.raises(Unfit) as caught:
        changed(**parts)
    assert str(caught.value) == reason


def test_steps_are_summed() -> None:
    step = {
        "time": {"total": {"seconds": 3, "microseconds": 250_999}},
        "tres": {
            "requested": {"max": [{"type": "mem", "count": 4096}, {"type": "cpu", "count": 9}]}
        },
    }
    sums = StepSums()
    steps: list[object] = [step, step, {}, {"time": None, "tres": []}]
    for each in steps:
        sums.add(each)
    assert (sums.steps, sums.total_cpu_ms, sums.max_rss_bytes) == (4, 6500, 4096)


def test_the_neighbours_of_a_bad_job_come_through(tmp_path: Path) -> None:
    jobs = [{**PLAIN, "job_id": 1}, {"job_id": 2}, 7, [1], None, {**PLAIN, "job_id": 3}]
    outcome = document(tmp_path, {"jobs": jobs, "errors": []})
    assert [job.job_id for job in outcome.jobs] == [1, 3]
    assert len(outcome.unreadable) == 4
    assert json.loads(outcome.unreadable[0].raw) == {"job_id": 2}
    assert outcome.unreadable[0].reason == "tres is missing or not a list of type, name and count"
    assert not outcome.complaint


def test_a_document_that_breaks_off_loses_nothing_before(tmp_path: Path) -> None:
    text = json.dumps({"jobs": [{**PLAIN, "job_id": n} for n in range(1, 4)]})
    for cut in range(len(text) // 2, len(text) - 3, 97):
        path = tmp_path / "cut.json"
        path.write_text(text[:cut], encoding="utf-8")
        outcome = read(FileSource(path))
        whole = text[:cut].count('["ASSIGNED_DEFAULT"]}}')
        assert [job.job_id for job in outcome.jobs] == list(range(1, whole + 1))
        assert outcome.complaint.startswith(f"{path} is not whole")
        assert [r.reason[:9] for r in outcome.unreadable] == ["truncated"] or text[cut - 2] == "}"


def test_what_slurm_says_went_wrong_is_said(tmp_path: Path) -> None:
    outcome = document(tmp_path, {"jobs": [PLAIN], "errors": [{"description": "no database"}]})
    assert [job.job_id for job in outcome.jobs] == [6]
    assert outcome.complaint.endswith("dump.json: no database")


@pytest.mark.parametrize("content", [{}, {"data": []}, {"jobs": 7}, {"nodes": [{"name": "c1"}]}])
def test_json_without_jobs_is_refused(tmp_path: Path, content: object) -> None:
    outcome = document(tmp_path, content)
    assert not outcome.jobs
    assert "without a list of jobs" in outcome.complaint


def test_the_queue_is_not_accounting(tmp_path: Path) -> None:
    outcome = document(tmp_path, {"jobs": [{"job_id": 1, "job_state": ["RUNNING"]}]})
    assert "squeue or scontrol" in outcome.complaint
    assert not outcome.jobs
    assert not outcome.unreadable


def test_an_empty_list_is_an_answer(tmp_path: Path) -> None:
    assert document(tmp_path, {"jobs": [], "errors": []}) == Outcome([], [], "")
    captured = read(FileSource(DATA / "slurm-25.11" / "failures" / "json-empty.out"))
    assert captured == Outcome([], [], "")


def test_text_that_is_not_utf8_does_no_harm(tmp_path: Path) -> None:
    """Conformance case 29."""
    raw = json.dumps({"jobs": [{**PLAIN, "user": "Zo@", "name": "@"}]}).encode()
    path = tmp_path / "dump.json"
    path.write_bytes(b"\xef\xbb\xbf" + raw.replace(b"@", b"\xeb\xff"))
    assert read(FileSource(path)).only.user == "Zo\ufffd\ufffd"


def test_an_endless_text_is_stopped(tmp_path: Path) -> None:
    good = json.dumps({**PLAIN, "job_id": 1})
    endless = json.dumps({**PLAIN, "job_id": 2, "name": "x" * (MAX_STRING_BYTES * 2)})
    path = tmp_path / "dump.json.gz"
    with gzip.open(path, "wt") as file:
        file.write(f'{{"jobs":[{good},{endless}]}}')
    outcome = read(FileSource(path))
    assert [job.job_id for job in outcome.jobs] == [1]
    assert "text of more than 4 MiB" in outcome.complaint


def test_gzip_that_breaks_off(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with gzip.open(packed, "wt") as file:
        file.write(json.dumps({"jobs": [{**PLAIN, "job_id": n} for n in range(1, 400)]}))
    path = tmp_path / "cut.json.gz"
    path.write_bytes(packed.getvalue()[:-9])
    outcome = read(FileSource(path))
    assert outcome.jobs
    assert "is not whole" in outcome.complaint


HOSTILE = {
    "deep": b'{"jobs":[{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    "deep names": b'{"jobs":[{"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}]}",
    "a long number": b'{"jobs":[{"job_id":' + b"9" * 6_000 + b"}]}",
    "an endless number": b'{"jobs":[{"job_id":' + b"9" * 1_000_000 + b"}]}",
    "an exponent": b'{"jobs":[{"job_id":1e99999999999999999999}]}',
    "a large job": b'{"jobs":[{"x":[' + b'"text",' * 400_000 + b"1]}]}",
    "a large step": b'{"jobs":[{"steps":[{"x":[' + b'"text",' * 400_000 + b"1]}]}]}",
    "many errors": b'{"errors":[' + b'"text",' * 400_000 + b'"x"],"jobs":[]}',
}
MEMORY_MIB_MAX = 40
"""For reading alone: without gRPC, the spool and metrics."""
READ = """
import re, sys
from pathlib import Path
from jobledger_agent.sources.files import FileSource
from jobledger_agent.source import SourceError
try:
    print(sum(len(block.readings) for block in FileSource(sys.argv[1]).read("")))
except SourceError as error:
    print(error)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10)
"""


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_no_document_costs_the_agent_its_memory_or_its_life(tmp_path: Path, content: bytes) -> None:
    """In a process of its own: one of these once took 19 GB, another ended the interpreter."""
    path = tmp_path / "hostile.json"
    path.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True
    )
    said, peak_mib = done.stdout.strip().splitlines()
    assert int(peak_mib) <= MEMORY_MIB_MAX
    assert said == "1" or str(path) in said


@pytest.mark.parametrize("start", ["1.5", "1e30", "true", "99999999999999999999", '"soon"', "[]"])
def test_a_time_that_is_none_is_set_aside(tmp_path: Path, start: str) -> None:
    path = tmp_path / "d.json"
    job = {"job_id": 1, "time": {"start": "START", "end": 9, "submission": 1}}
    job |= {"tres": {"allocated": []}, "state": {"current": "COMPLETED"}, "cluster": "alpha"}
    path.write_text(json.dumps({"jobs": [job]}).replace('"START"', start))
    (aside,) = read(FileSource(path)).unreadable
    assert aside.reason.startswith("time.start is ")
