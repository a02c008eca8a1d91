"""Every captured file, against slurmdbd's own job table captured beside it.

The files and the table are minutes apart, so some jobs differ. Each that does is
named here with the reason, and no other may.
"""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from jobledger_agent.sources.files import FileSource
from tests.agent.dumps import DATA, Outcome, Sums, as_truth, read, sums, truth

NOTHING = Sums(0, 0, 0, 0, 0)

# Never eligible, or an array's tasks not started, when sacct was asked without -s.
HELD_22 = {41, 53, 54, 64, 65, 66, 67, 68, 69, 70, 82, 83, 87, 429, 430, 431, 432}
HELD_25 = {42, 44, 45, 63, 64, 70, 71, 72, 73, 74, 86, 87}
# Were to begin later (--begin, a dependency): outside of a window that ends now.
LATER_22 = {84, 85}
LATER_25 = {88, 89, 90, 91}
# Had not ended when the table was copied, or not when sacct was asked with -s.
OPEN_22 = {53, 54, 66, 67, 82, 83, 84, 86, 87, 92, 159, 431, 432, 442, 446, 447}
OPEN_25 = {44, 45, 70, 71, 86, 87, 88, 89, 90, 96, 104, 164, 173, 298, 299}
# Suspended all the while: slurmdbd keeps a time there, sacct counts on.
SUSPENDED_22, SUSPENDED_25 = {92}, {96}


class Capture(NamedTuple):
    """A file, which of the table's jobs it lacks, has besides, and says differently."""

    file: str
    lacks: Collection[int]
    besides: Collection[int]
    differs: Collection[int]
    beta: int = 0
    steps: int = 0
    zone: str = "UTC"


def of_22(file: str, *, steps: int = 0, zone: str = "UTC") -> Capture:
    """A file of 22.05 from the moment of the table."""
    return Capture(file, HELD_22 | LATER_22, (), SUSPENDED_22, 0, steps, zone)


def of_25(file: str, *, steps: int = 0, zone: str = "UTC") -> Capture:
    """A file of 25.11 from the moment of the table."""
    return Capture(file, HELD_25 | LATER_25, (), SUSPENDED_25, 0, steps, zone)


# 85 began and ended after the table was copied, 168 ended; 900001 was planted later.
LATE_22 = (HELD_22, {900001}, {85, 92, 168}, 7)
TERMINAL_22 = (OPEN_22, {900001}, {85, 168}, 7)
# 57 and 58 ended after the table was copied; 306 and up came later.
LATE_25 = (HELD_25 | LATER_25, {306, 307}, {57, 58, 96}, 7)
TERMINAL_25 = (OPEN_25, (), {57, 58}, 6)
LATEST_25 = (
    (HELD_25 | LATER_25) - {90},
    {306, 307, 308, 309, 310, 311, 312},
    {57, 58, 96, 104, 298, 299},
    0,
)

CAPTURES = {
    "22.05": [
        of_22("allfields-D.txt", steps=947),
        of_22("allfields-D-epoch.txt", steps=947),
        of_22("allfields-D-noconvert.txt", steps=947),
        of_22("allfields-D-tz-newyork.txt", steps=947, zone="America/New_York"),
        of_22("allfields-D-delim-multichar.txt", steps=947),
        of_22("json-D-X.json.gz"),
        of_22("json-D.json.gz", steps=947),
        Capture("rest-v0.0.36-slurmdb-jobs.json.gz", HELD_22, (), {92}, 7, 961),
        Capture("rest-v0.0.37-slurmdb-jobs.json.gz", HELD_22, (), {92}, 7, 961),
        Capture("rest-v0.0.38-slurmdb-jobs.json.gz", HELD_22, (), {92}, 0, 947),
        Capture("safe-billing.txt", *LATE_22, 963),
        Capture("safe-billing-X.txt", *LATE_22),
        Capture("safe-billing-terminal.txt", *TERMINAL_22, 956),
        Capture("safe-billing-X-terminal.txt", *TERMINAL_22),
    ],
    "25.11": [
        of_25("allfields-D.txt", steps=672),
        of_25("allfields-D-epoch.txt", steps=672),
        of_25("allfields-D-noconvert.txt", steps=672),
        of_25("allfields-D-tz-newyork.txt", steps=672, zone="America/New_York"),
        of_25("allfields-D-delim-multichar.txt", steps=672),
        of_25("json-D-X.json.gz"),
        of_25("json-D.json.gz", steps=672),
        of_25("json-D-complex.json.gz", steps=672),
        of_25("json-D-v0.0.41.json.gz", steps=672),
        *(
            Capture(f"rest-v0.0.{v}-slurmdb-jobs.json.gz", HELD_25 | {91}, (), SUSPENDED_25, 0, 672)
            for v in (41, 42, 43, 44)
        ),
        Capture("safe-billing.txt", *LATE_25, 690),
        Capture("safe-billing-X.txt", *LATE_25),
        Capture("safe-billing-terminal.txt", *TERMINAL_25, 671),
        Capture("safe-billing-X-terminal.txt", *TERMINAL_25),
        Capture("safe-billing-X-at-sreport.txt", *LATEST_25),
    ],
}
ALL = [(version, capture) for version, captures in CAPTURES.items() for capture in captures]


@pytest.mark.parametrize(
    ("version", "capture"), ALL, ids=[f"{version}-{capture.file}" for version, capture in ALL]
)
def test_a_capture_says_what_slurmdbd_says(version: str, capture: Capture) -> None:
    outcome = read_capture(version, capture.file, capture.zone)
    table = truth(version)
    alpha = [job for job in outcome.jobs if job.cluster == "alpha"]
    said = {(job.job_id, job.submit): as_truth(job) for job in alpha}

    assert not outcome.unreadable
    assert not outcome.complaint
    assert len(said) == len(alpha), "a run was yielded twice"
    assert {job.cluster for job in outcome.jobs} - {"alpha"} == (
        {"beta"} if capture.beta else set()
    )
    assert len(outcome.jobs) - len(alpha) == capture.beta
    assert sum(job.steps for job in outcome.jobs) == capture.steps

    changed = {key for key in said.keys() & table.keys() if said[key] != table[key]}
    assert {job_id for job_id, _ in table.keys() - said.keys()} == set(capture.lacks)
    assert {job_id for job_id, _ in said.keys() - table.keys()} == set(capture.besides)
    assert {job_id for job_id, _ in changed} == set(capture.differs)

    known = (said.keys() & table.keys()) - changed
    assert sums({key: said[key] for key in known}) == sums({key: table[key] for key in known})
    assert sums({key: run for key, run in table.items() if key not in said}) == NOTHING


@pytest.mark.parametrize(
    ("version", "capture"),
    [(version, capture) for version, capture in ALL if not capture.besides and "22" in version],
    ids=lambda value: str(value)[:50],
)
def test_nothing_that_was_used_is_missing(version: str, capture: Capture) -> None:
    """Where no job ended later, the sums of the file are those of the whole table."""
    outcome = read_capture(version, capture.file, capture.zone)
    said = {
        (job.job_id, job.submit): as_truth(job) for job in outcome.jobs if job.cluster == "alpha"
    }
    assert sums(said) == sums(truth(version)) != NOTHING


@pytest.mark.parametrize("version", CAPTURES)
def test_the_forms_of_one_answer_say_the_same(version: str) -> None:
    """Local times, epochs, units, delimiters: only what still grew may differ."""
    forms = ["", "-epoch", "-noconvert", "-delim-multichar", "-tz-newyork"]
    answers = []
    for form in forms:
        zone = "America/New_York" if "newyork" in form else "UTC"
        jobs = read_capture(version, f"allfields-D{form}.txt", zone).jobs
        answers.append({(j.job_id, j.submit): j._replace(observed=0) for j in jobs if j.end})
    # 22.05 was still busy: a few runs ended between the first form and the last.
    common = set.intersection(*(set(answer) for answer in answers))
    assert len(common) > 280
    for answer in answers[1:]:
        assert {key: answer[key] for key in common} == {key: answers[0][key] for key in common}


# Dumps of jobs that lack what a price needs, and how many jobs' lines each has.
LACKING = {
    "22.05": {
        "brief.txt": 438,
        "cluster-beta.txt": 7,
        "cluster-nosuch.txt": 0,
        "human.txt": 441,  # three names hold a newline
        "state-BOOT_FAIL.txt": 0,
        "state-CANCELLED.txt": 14,
        "state-COMPLETED.txt": 396,
        "state-DEADLINE.txt": 0,
        "state-FAILED.txt": 14,
        "state-NODE_FAIL.txt": 2,
        "state-OUT_OF_MEMORY.txt": 1,
        "state-PENDING.txt": 438,
        "state-PREEMPTED.txt": 2,
        "state-REQUEUED.txt": 7,
        "state-RESIZING.txt": 1,
        "state-RUNNING.txt": 443,
        "state-SUSPENDED.txt": 3,
        "state-TIMEOUT.txt": 2,
        "state-window-CD.txt": 2,
        "truncate-T.txt": 9,
        "whole-hetjob.txt": 4,
        "window-S-E-5to3min.txt": 12,
        "window-epoch.txt": 14,
        "window-last-minute.txt": 7,
    },
    "25.11": {
        "brief.txt": 298,
        "cluster-beta.txt": 7,
        "cluster-nosuch.txt": 0,
        "human.txt": 301,
        "state-BOOT_FAIL.txt": 0,
        "state-CANCELLED.txt": 11,
        "state-COMPLETED.txt": 257,
        "state-DEADLINE.txt": 1,
        "state-FAILED.txt": 15,
        "state-NODE_FAIL.txt": 2,
        "state-OUT_OF_MEMORY.txt": 1,
        "state-PENDING.txt": 298,
        "state-PREEMPTED.txt": 2,
        "state-REQUEUED.txt": 5,
        "state-RESIZING.txt": 1,
        "state-RUNNING.txt": 296,
        "state-SUSPENDED.txt": 3,
        "state-TIMEOUT.txt": 2,
        "state-window-CD.txt": 3,
        "truncate-T.txt": 11,
        "whole-hetjob.txt": 4,
        "window-S-E-5to3min.txt": 150,
        "window-epoch.txt": 153,
        "window-last-minute.txt": 8,
    },
}


@pytest.mark.parametrize(
    ("version", "file", "lines"),
    [(version, file, n) for version, files in LACKING.items() for file, n in files.items()],
)
def test_a_dump_that_lacks_columns_is_set_aside_line_by_line(
    version: str, file: str, lines: int
) -> None:
    outcome = read_capture(version, file)
    assert not outcome.jobs
    assert not outcome.complaint
    assert len(outcome.unreadable) == lines
    for record in outcome.unreadable:
        assert "take it again with: TZ=UTC SLURM_TIME_FORMAT=%s sacct -a -D -X" in record.reason
        assert record.raw
    if lines and file.startswith("state-") and file != "state-window-CD.txt":
        assert "the dump has no AllocTRES;" in outcome.unreadable[0].reason


def other_files() -> list[Path]:
    """The captured files that are no answers of sacct's."""
    tables = {version: {c.file for c in captures} for version, captures in CAPTURES.items()}
    return [
        path
        for version in CAPTURES
        for path in sorted((DATA / f"slurm-{version}").glob("*"))
        if path.is_file() and path.name not in tables[version] | LACKING[version].keys()
    ]


@pytest.mark.parametrize("path", other_files(), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_file_of_another_program_is_refused_in_one_sentence(path: Path) -> None:
    outcome = read(FileSource(path))
    assert not outcome.jobs
    assert not outcome.unreadable
    assert str(path) in outcome.complaint
    assert "sacct" in outcome.complaint
    assert "\n" not in outcome.complaint


@cache
def read_capture(version: str, file: str, zone: str = "UTC") -> Outcome:
    """What a captured file says."""
    return read(FileSource(DATA / f"slurm-{version}" / file, timezone=zone))
