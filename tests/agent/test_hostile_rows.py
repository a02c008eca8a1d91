"""Ten thousand hostile rows of sacct: nothing crashes, no neighbour is lost, nothing is forged.

Whoever may submit a job writes its name, comment and keys; whoever breaks a disk or
a network writes the rest. Rows go through what reads live answers and dump files.
"""

import io
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobledger_agent.records.job import MAX_RAW_BYTES, Reading, SlurmJob, Unreadable
from jobledger_agent.slurm.answers import JOB_COLUMNS, NEWER_COLUMNS, Question, job_readings
from jobledger_agent.source import SourceError
from jobledger_agent.sources.files import FileSource
from tests.agent.dumps import PLAIN, Outcome, read

ROWS_MIN = 10_000
"""Hostile rows that this module must have seen at its end."""
COLUMNS = (*JOB_COLUMNS, *NEWER_COLUMNS)
ORDINARY = dict(PLAIN) | {
    "NNodes": "1", "NodeList": "n1", "ReservationId": "", "TimelimitRaw": "60", "Restarts": "0",
    "SLUID": "",
}  # fmt: skip
WRITTEN_BY_USERS = ("WCKey", "Account", "User", "Partition", "QOS", "NodeList", "JobID")
FORGED_ID = 999_999
GOOD_FROM, HOSTILE_FROM = 1, 500_000

seen_rows = 0
"""Hostile rows so far, in this process."""
seen_tests: set[str] = set()
"""The tests that made them."""

FORGED = "|".join({**ORDINARY, "JobIDRaw": str(FORGED_ID), "JobID": str(FORGED_ID)}.values())
LOOKALIKES = (
    f"x\n{FORGED}\n", f"\n{FORGED}", f"|{FORGED}|", "a|b\nCOMPLETED|1|2\r\n", "0" * 32,
    "deadbeef" * 4, "deadbeef" * 4 + "\n", "\x00", "\x01\x02\x1b[2J", "\r", "\r\n", "\n\n\n",
    "\u2028\u2029\x85", "日本語 🚀", "caf\udce9\udcff", "\udc80" * 9, "x" * 1024, "é" * 1024,
    "|" * 1024, "\n" * 1024, '"', "'", "`$(id)`", "{{7*7}}", "'; DROP TABLE jobs;--", "%s%n",
    "../../etc/passwd", "NaN", "Infinity", "-1", "9" * 30, "1e308", "0x10", "1_000", "٣", " 7 ",
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(LOOKALIKES),
    st.text(st.sampled_from([*"|\n\r\t,;=:\"'\\ 0189aZ-[]%\x00\x1f", "\udce9", "日"]), max_size=40),
)
FIGURES = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["", "Unknown", "None", "INVALID", "00:00:00", "1-23:59:59", "16?", "4000Mc",
                     "2P", "cpu=", "cpu=-1", "=1", "cpu=1,,mem", "cpu=99999999999999999999",
                     "billing=1,cpu=1,mem=1e9M", "gres/gpu:=1", "COMPLETED by 7", "nonsense"]),
    TEXTS,
)  # fmt: skip
Changes = dict[str, str]
CHANGES = st.one_of(
    st.dictionaries(st.sampled_from(WRITTEN_BY_USERS), TEXTS, min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(sorted(set(COLUMNS) - {"JobIDRaw"})), FIGURES, min_size=1,
                    max_size=3),
)  # fmt: skip
MANY = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,  # as many rows each time: the last test counts them
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Answer(NamedTuple):
    """What a program printed, and the ids that stand in it."""

    text: bytes
    good: list[int]
    hostile: list[int]
    question: Question


def fields(job_id: int, changes: Changes | None = None) -> list[str]:
    values = ORDINARY | {"JobIDRaw": str(job_id), "JobID": str(job_id), "DBIndex": str(job_id)}
    values = values | (changes or {})
    return [values[name] for name in COLUMNS]


def answer_of(changes: Sequence[Changes]) -> Answer:
    """An answer in which each hostile row stands between two ordinary ones."""
    global seen_rows  # noqa: PLW0603  hypothesis calls this; the last test counts
    seen_rows += len(changes)
    seen_tests.add(os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split("[")[0].split(" ")[0])
    nonce = secrets.token_hex(16)
    good = list(range(GOOD_FROM, GOOD_FROM + len(changes) + 1))
    hostile = list(range(HOSTILE_FROM, HOSTILE_FROM + len(changes)))
    rows = [fields(good[0])]
    for good_id, bad_id, change in zip(good[1:], hostile, changes, strict=True):
        rows += [fields(bad_id, change), fields(good_id)]
    lines = ["".join(value + nonce for value in row) + "\n" for row in rows]
    text = "".join(lines).encode("utf-8", "surrogateescape")
    question = Question("alpha", COLUMNS, nonce, (0, 0), 1_795_300_000)
    return Answer(text, good, hostile, question)


def understood(answer: Answer, text: bytes | None = None) -> tuple[list[Reading], str]:
    """What was read before the answer's end, or before it was refused, and why it was."""
    readings: list[Reading] = []
    try:
        for reading in job_readings(io.BytesIO(text or answer.text), answer.question):
            readings.append(reading)  # noqa: PERF402  what came before a refusal counts
    except SourceError as error:
        return readings, str(error)
    return readings, ""


def jobs_in(readings: Sequence[Reading]) -> dict[int, SlurmJob]:
    jobs = [reading for reading in readings if isinstance(reading, SlurmJob)]
    assert len({job.job_id for job in jobs}) == len(jobs), "a run was read twice"
    return {job.job_id: job for job in jobs}


def check_asides(readings: Sequence[Reading]) -> list[Unreadable]:
    asides = [reading for reading in readings if isinstance(reading, Unreadable)]
    for aside in asides:
        assert aside.reason
        assert 0 < len(aside.raw) <= min(MAX_RAW_BYTES, aside.raw_size)
    return asides


@MANY
@given(st.lists(CHANGES, min_size=20, max_size=30))
def test_a_live_answer_with_hostile_values(changes: list[Changes]) -> None:
    """Every row is read or set aside by itself; ordinary ones are what they were."""
    answer = answer_of(changes)
    readings, complaint = understood(answer)
    jobs, asides = jobs_in(readings), check_asides(readings)
    assert FORGED_ID not in jobs
    assert jobs.keys() <= {*answer.good, *answer.hostile}
    if complaint:  # the whole answer is refused, and asked for again
        assert "cluster" in complaint, complaint
        assert any("Cluster" in change for change in changes)
        return
    assert set(answer.good) <= jobs.keys()
    plain = jobs[answer.good[0]]._replace(job_id=0, sluid=0)
    assert {jobs[each]._replace(job_id=0, sluid=0) for each in answer.good} == {plain}
    steps = sum("." in change.get("JobID", "") for change in changes)
    assert len(jobs) + len(asides) + steps >= len(answer.good) + len(answer.hostile)


@MANY
@given(st.lists(CHANGES, min_size=20, max_size=24), st.data())
def test_a_live_answer_that_is_damaged_is_not_believed_past_the_damage(
    changes: list[Changes], data: st.DataObject
) -> None:
    """Cut anywhere, a column missing or too many: the answer fails, nothing is invented."""
    answer = answer_of(changes)
    kind = data.draw(st.sampled_from(["cut", "column lost", "column added", "lines swapped"]))
    nonce = answer.question.nonce.encode()
    at = data.draw(st.integers(1, len(answer.text) - 1))
    if kind == "cut":
        text = answer.text[:at]
    elif kind == "column lost":
        text = answer.text[:at] + answer.text[at:].replace(nonce, b"", 1)
    elif kind == "column added":
        at = answer.text.index(nonce, at % (len(answer.text) // 2))
        text = answer.text[:at] + nonce + answer.text[at:]
    else:
        lines = answer.text.split(b"\n")
        text = b"\n".join(reversed(lines))
    readings, complaint = understood(answer, text)
    jobs = jobs_in(readings)
    check_asides(readings)
    assert FORGED_ID not in jobs
    if kind != "lines swapped" and (kind != "cut" or not text.endswith(nonce + b"\n")):
        assert complaint
    if kind == "cut":
        assert jobs.keys() <= {*answer.good, *answer.hostile}


@pytest.mark.parametrize("delimiter", ["\x01\x02", "0123456789abcdef0123456789abcdef"])
def test_a_dump_with_a_safe_delimiter(delimiter: str, tmp_path: Path) -> None:
    """No name can hold it: every neighbour is there, whatever the others hold."""

    @settings(MANY, max_examples=120)
    @given(st.lists(CHANGES, min_size=20, max_size=24))
    def examine(changes: list[Changes]) -> None:
        clean = [
            {name: value.replace("\x01", "").replace("\x02", "") for name, value in each.items()}
            for each in changes
        ]
        answer = answer_of(clean)
        outcome = read_dump(tmp_path / "dump", answer, delimiter)
        jobs = jobs_in(outcome.jobs)
        check_asides(outcome.unreadable)
        assert set(answer.good) <= jobs.keys()
        assert jobs.keys() <= {*answer.good, *answer.hostile}
        assert all(jobs[each].end == int(ORDINARY["End"]) for each in answer.good)

    examine()


def test_a_dump_with_the_delimiter_that_users_can_type(tmp_path: Path) -> None:
    """A dump of sacct -P: what may be several records is set aside together, never guessed at."""
    distant = 8

    @settings(MANY, max_examples=120)
    @given(st.lists(CHANGES, min_size=4, max_size=4))
    def examine(changes: list[Changes]) -> None:
        # Between two hostile rows stand several ordinary ones.
        spread = [each for change in changes for each in (change, *[{}] * distant)]
        answer = answer_of(spread)
        outcome = read_dump(tmp_path / "dump", answer, "|")
        jobs = {job.job_id: job for job in outcome.jobs}
        check_asides(outcome.unreadable)
        assert FORGED_ID not in jobs
        assert jobs.keys() <= {*answer.good, *answer.hostile}
        ordinary = [n for n, change in zip(answer.hostile, spread, strict=True) if not change]
        assert {jobs[each].end for each in answer.good[2:] if each in jobs} <= {
            int(ORDINARY["End"])
        }
        lost = [n for n in (*ordinary, *answer.good) if n not in jobs]
        assert len(lost) <= 2 * len(changes), lost
        assert not lost or outcome.unreadable, "a neighbour is gone without a trace"

    examine()


def read_dump(path: Path, answer: Answer, delimiter: str) -> Outcome:
    """The rows of an answer as a dump with a header."""
    nonce = answer.question.nonce.encode()
    text = answer.text.replace(nonce + b"\n", b"\n").replace(nonce, delimiter.encode())
    path.write_bytes(delimiter.join(COLUMNS).encode() + b"\n" + text)
    return read(FileSource(path))


@pytest.mark.parametrize("name", LOOKALIKES)
@pytest.mark.parametrize("column", WRITTEN_BY_USERS)
def test_each_lookalike_in_each_column_that_a_user_writes(column: str, name: str) -> None:
    """Exactly one record, or one set aside: never two, never none (conformance case 28)."""
    answer = answer_of([{column: name}])
    readings, complaint = understood(answer)
    assert not complaint
    assert len(readings) == 3 or (column == "JobID" and len(readings) == 2)
    assert set(answer.good) <= jobs_in(readings).keys()


def test_as_many_rows_as_promised_were_read() -> None:
    """The last test of this file: counts, unless some of the others ran in another process."""
    others = {name for name in globals() if name.startswith("test_")} - {
        "test_as_many_rows_as_promised_were_read"
    }
    if seen_tests >= others:
        assert seen_rows >= ROWS_MIN
