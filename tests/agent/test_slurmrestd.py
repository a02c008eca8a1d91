"""slurmrestd as a source: what each version says, what it refuses, what is not believed."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

from jobledger_agent.reading.accounting import Controller, StepUse, TooMuch
from jobledger_agent.reading.cycle import Cycle
from jobledger_agent.records.job import UNKNOWN, SlurmJob, Unreadable
from jobledger_agent.records.tree import TreeKind
from jobledger_agent.slurm.slurmrestd import DIALECTS, Slurmrestd
from jobledger_agent.slurm.slurmrestd_http import Server
from jobledger_agent.source import SourceError
from jobledger_agent.sources.files import FileSource
from tests.agent.dumps import DATA, read
from tests.agent.restpeer import (
    CLUSTERS,
    NOBODY,
    NOTHING,
    NOTHING_22,
    NOW,
    SAMPLES,
    TREES,
    Answer,
    Asked,
    Said,
    all_of,
    asking,
    jobs_of,
    recorded,
    recording,
    said,
    state_of,
)

EVER = (1, NOW)
VERSIONS = sorted(SAMPLES)


@contextmanager
def recorded_rest(version: str) -> Iterator[tuple[Slurmrestd, list[Asked]]]:
    with asking(recording(version), CLUSTERS[SAMPLES[version]]) as both:
        yield both


@cache
def by_sacct(version: str) -> dict[tuple[int, int], SlurmJob]:
    """The runs of the recorded cluster as sacct told them, minutes apart, by id and submit."""
    slurm = SAMPLES[version]
    outcome = read(FileSource(DATA / f"slurm-{slurm}" / "allfields-D-epoch.txt"))
    assert not outcome.complaint
    jobs = [job for job in outcome.jobs if job.cluster == CLUSTERS[slurm]]
    return {(job.job_id, job.submit): job for job in jobs}


def test_every_version_from_38_to_45_was_recorded() -> None:
    assert [dialect.version for dialect in DIALECTS] == [f"v0.0.{n}" for n in range(45, 37, -1)]
    assert {dialect.version for dialect in DIALECTS} == SAMPLES.keys()


# ------------------------------------------------------- the same as sacct says

UNTOLD = {"uid": UNKNOWN, "alloc_cpus": UNKNOWN, "cancelled_by_uid": UNKNOWN}
"""What no version of the JSON tells, and so is unknown."""
UNTOLD_BY = {
    "v0.0.38": {"sluid": 0, "assoc_id": 0, "restarts": UNKNOWN},
    "v0.0.39": {"sluid": 0, "assoc_id": 0, "restarts": UNKNOWN},
    "v0.0.40": {"sluid": 0, "restarts": UNKNOWN},
    "v0.0.41": {"sluid": 0, "restarts": UNKNOWN},
    **{version: {"sluid": 0} for version in ("v0.0.42", "v0.0.43", "v0.0.44")},
    "v0.0.45": {},
}
WRONG_BY = {"v0.0.38": ("exit_code", "reservation"), "v0.0.39": ("exit_code",)}
"""Old ones tell 0 as the exit code of a job that failed, and no reservation's name."""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_has_the_same_content_as_by_sacct(version: str) -> None:
    with recorded_rest(version) as (rest, _):
        told = jobs_of(rest.ended(rest.clusters[0], EVER))
    untold = {**UNTOLD, **UNTOLD_BY[version]}
    by_name = {name: SlurmJob._fields.index(name) for name in untold}
    sacct, compared = by_sacct(version), 0
    for job in told:
        assert {name: job[at] for name, at in by_name.items()} == untold
        other = sacct.get((job.job_id, job.submit))
        if other is None or not other.end:
            continue
        compared += 1
        blind: dict[str, Any] = {
            **untold,
            "observed": 0,
            "total_cpu_ms": 0,
            "max_rss_bytes": 0,
            "steps": 0,
        }
        blind |= dict.fromkeys(WRONG_BY.get(version, ()), 0)
        assert job._replace(**blind) == other._replace(**blind)
    assert compared >= 15
    assert compared >= len(told) - 10, "the recordings are of the same hour"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_ended_run_is_told_once(version: str) -> None:
    """Requeued and resized ones, too, that old versions cannot be asked for by state."""
    with recorded_rest(version) as (rest, _):
        told = [(job.job_id, job.submit) for job in jobs_of(rest.ended(rest.clusters[0], EVER))]
    ended = [
        (job["job_id"], job["time"]["submission"])
        for job in recorded(version)["jobs"]
        if job["cluster"] == CLUSTERS[SAMPLES[version]] and job["time"]["end"]
    ]
    assert sorted(told) == sorted(ended)
    assert {"REQUEUED", "RESIZING"} <= {state_of(job) for job in recorded(version)["jobs"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_open_is_told(version: str) -> None:
    with recorded_rest(version) as (rest, _):
        told = jobs_of(rest.open(rest.clusters[0]))
    assert {job.state for job in told} <= {"RUNNING", "SUSPENDED"}
    assert told
    assert not any(job.end for job in told)


@pytest.mark.parametrize("version", VERSIONS)
def test_all_runs_of_a_job_are_told_by_its_id(version: str) -> None:
    resized = next(job for job in by_sacct(version).values() if job.state == "RESIZING")
    runs = {key for key in by_sacct(version) if key[0] == resized.job_id}
    with recorded_rest(version) as (rest, _):
        told = jobs_of(rest.by_id(rest.clusters[0], [resized.job_id, 999_999]))
        assert jobs_of(rest.by_id(rest.clusters[0], [999_999])) == []
    assert {(job.job_id, job.submit) for job in told} >= runs
    assert len(told) > 1


@pytest.mark.parametrize("version", VERSIONS)
def test_steps_are_added_up_as_by_sacct(version: str) -> None:
    sacct = by_sacct(version)
    runs = [key for key in sacct if sum(key[0] == other for other, _ in sacct) == 1]
    ended = [key for key in runs if sacct[key].end and sacct[key].steps][:20]
    with recorded_rest(version) as (rest, _):
        found = rest.step_use(rest.clusters[0], [job_id for job_id, _ in ended])
    by_id = {job_id: use for (job_id, _), use in found.items()}
    assert len(ended) >= 10
    for key in ended:
        job = sacct[key]
        assert by_id[key[0]] == StepUse(job.total_cpu_ms, job.max_rss_bytes, job.steps)


def test_steps_of_runs_that_cannot_be_told_apart_are_unknown() -> None:
    """Before v0.0.45 nothing but its submit time tells two runs of one job apart."""
    requeued = next(job for job in by_sacct("v0.0.44").values() if job.state == "REQUEUED")
    with recorded_rest("v0.0.44") as (rest, _):
        assert rest.step_use("alpha", [requeued.job_id]) == {}
    requeued = next(job for job in by_sacct("v0.0.45").values() if job.state == "REQUEUED")
    with recorded_rest("v0.0.45") as (rest, _):
        assert (requeued.job_id, requeued.sluid) in rest.step_use("lab", [requeued.job_id])


# ------------------------------------------------------------------ how it asks


def test_new_versions_are_asked_state_by_state_with_all_flags() -> None:
    with recorded_rest("v0.0.44") as (rest, asked):
        jobs_of(rest.ended("alpha", (100, 200)))
    (question,) = (each for each in asked if each.path.endswith("/jobs"))
    assert question.path == "/slurmdb/v0.0.44/jobs"
    pairs = list(question.query)
    for pair in [
        ("cluster", "alpha"), ("skip_steps", "true"), ("show_duplicates", "true"),
        ("disable_truncate_usage_time", "true"), ("start_time", "uts100"), ("end_time", "uts200"),
    ]:  # fmt: skip
        assert pairs.count(pair) == 1
    states = [value for name, value in pairs if name == "state"]
    assert len(states) == len(set(states)) == 12
    assert {"COMPLETED", "REQUEUED", "RESIZING", "REVOKED"} <= set(states)


def test_old_versions_are_asked_twice_and_know_no_flags() -> None:
    with recorded_rest("v0.0.38") as (rest, asked):
        jobs_of(rest.ended("alpha", (100, 200)))
    first, second = (dict(each.query) for each in asked if each.path.endswith("/jobs"))
    assert "REQUEUED" not in first["state"].split(",")
    assert second == {
        "cluster": "alpha", "skip_steps": "true", "start_time": "uts100", "end_time": "uts200",
    }  # fmt: skip


def test_the_newest_version_that_both_know_is_spoken() -> None:
    def answer(asked: Asked) -> Said:
        version = "v0.0.42" if "/v0.0.42/" in asked.path else "v0.0.41"
        return recording(version)(asked)

    with asking(answer) as (rest, asked):
        rest.negotiate()
        rest.negotiate()
        assert [each.path.split("/")[2] for each in asked] == [
            "v0.0.45", "v0.0.44", "v0.0.43", "v0.0.42",
        ]  # fmt: skip
        rest.forget()
        rest.open("alpha").__enter__()
        assert len(asked) == 9
    with asking(answer, data_parser="v0.0.41") as (rest, asked):
        rest.negotiate()
        assert [each.path.split("/")[2] for each in asked] == ["v0.0.41"]


@pytest.mark.parametrize(
    ("data_parser", "message"),
    [
        ("v0.0.37", "'v0.0.37' was never tried; leave it out, or name one of v0.0.45, v0.0.44"),
        ("v0.0.99", "'v0.0.99' was never tried"),
        ("44", "'44' was never tried"),
    ],
)
def test_a_version_that_was_never_tried_is_refused(data_parser: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Slurmrestd(("a",), Server("unix:/x", NOBODY, timeout_s=1), data_parser=data_parser)


def test_a_server_without_a_version_that_we_know_is_named() -> None:
    with (
        asking(lambda _: Said(404, b"Unable find requested URL.")) as (rest, _),
        pytest.raises(SourceError, match=r"serves none of v0\.0\.45, .* check its plugins"),
    ):
        rest.negotiate()


def test_a_cluster_that_slurmdbd_does_not_know_is_named() -> None:
    with (
        asking(recording("v0.0.44", ("beta", "gamma"))) as (rest, _),
        pytest.raises(SourceError, match="knows no cluster alpha, only beta, gamma"),
    ):
        rest.negotiate()


@pytest.mark.parametrize("version", TREES)
def test_the_controller_tells_its_queue(version: str) -> None:
    with recorded_rest(version) as (rest, _):
        rest.negotiate()
        found = rest.controller(rest.clusters[0])
    assert found.dbd_queue == 0
    assert found.running >= 0


def test_another_clusters_controller_cannot_be_asked() -> None:
    with asking(recording("v0.0.44", ("alpha", "beta")), "beta") as (rest, asked):
        rest.negotiate()
        assert rest.controller("beta") == Controller(UNKNOWN, UNKNOWN)
        assert not any(each.path.endswith("/diag") for each in asked)


def test_a_controller_that_gives_no_answer_is_a_complaint() -> None:
    """Then the queue is unknown and the watermark must stand still."""

    def answer(asked: Asked) -> Said:
        down = said({"errors": [{"description": "slurmctld is down", "error_number": 1}]}, 500)
        return down if asked.path.endswith("/diag") else recording("v0.0.44")(asked)

    with asking(answer) as (rest, _), pytest.raises(SourceError, match="slurmctld is down"):
        rest.controller("alpha")


# ----------------------------------------------------------- what is not an answer


def jobs_answer(document: object, status: int = 200) -> Answer:
    """A good slurmrestd, but for what it says of jobs."""
    return lambda asked: (
        said(document, status) if asked.path.endswith("/jobs") else recording("v0.0.44")(asked)
    )


def error(text: str, number: int = 1) -> dict[str, Any]:
    return {"errors": [{"description": text, "error_number": number}], "jobs": []}


ONE = next(job for job in recorded("v0.0.44")["jobs"] if job["job_id"] == 1)
NO_ANSWER: Sequence[tuple[str, object, int, str]] = [
    ("a bad token on 22.05", error("Protocol authentication error", 1007), 200,
     "Protocol authentication error.*check token_file and user"),
    ("a bad token on 25.11", error("Unable to connect to database", 7000), 502, "HTTP 502"),
    ("an error beside jobs", {**error("Unknown flag"), "jobs": [ONE]}, 200, "Unknown flag"),
    ("an error without words", {"errors": [{}], "jobs": []}, 200, "no reason given"),
    ("a status without errors", {"errors": [], "jobs": [ONE]}, 500, "HTTP 500"),
    ("nothing found, but something told", {**NOTHING_22, "jobs": [ONE]}, 200, "told something"),
    ("no list", {"errors": []}, 200, "without jobs"),
    ("a list of another kind", [], 200, "without jobs"),
    ("no token", {}, 401, "refused with HTTP 401: check token_file"),
    ("a redirect", {}, 302, "HTTP 302"),
    ("another cluster's", {"errors": [], "jobs": [{**ONE, "cluster": "beta"}]}, 200,
     "job 1 of cluster beta"),
    ("another span's", {"errors": [], "jobs": [{**ONE, "time": {**ONE["time"], "end": 5}}]}, 200,
     "ended at 5, outside of 100 to"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "status", "message"),
    [case[1:] for case in NO_ANSWER],
    ids=[case[0] for case in NO_ANSWER],
)
def test_what_is_no_proof_is_a_complaint(document: object, status: int, message: str) -> None:
    with (
        asking(jobs_answer(document, status)) as (rest, _),
        pytest.raises(SourceError, match=message),
    ):
        all_of(rest.ended("alpha", (100, NOW)))


@pytest.mark.parametrize(
    "document", [NOTHING, NOTHING_22, {"errors": [], "jobs": []}], ids=["new", "22.05", "bare"]
)
def test_an_empty_answer_without_errors_is_one(document: object) -> None:
    with asking(jobs_answer(document)) as (rest, _):
        assert all_of(rest.ended("alpha", EVER)) == []


@pytest.mark.parametrize(
    "text", ["Too wide of a date range in query", "Query result exceeds size limit"]
)
def test_too_much_is_asked_for_in_parts(text: str) -> None:
    with asking(jobs_answer(error(text), 500)) as (rest, _), pytest.raises(TooMuch, match=text):
        all_of(rest.ended("alpha", EVER))


WHOLE = json.dumps({"errors": [], "jobs": [ONE, ONE]}).encode()


@pytest.mark.parametrize("cut", [0, 1, 20, len(WHOLE) // 2, len(WHOLE) - 3, len(WHOLE) - 1])
def test_nothing_of_a_cut_off_document_is_taken(cut: int) -> None:
    def answer(asked: Asked) -> Said:
        good = recording("v0.0.44")(asked)
        return Said(200, WHOLE[:cut]) if asked.path.endswith("/jobs") else good

    with asking(answer) as (rest, _), pytest.raises(SourceError, match="no whole JSON"):
        all_of(rest.ended("alpha", EVER))


def test_a_record_that_cannot_be_read_does_not_stop_its_neighbours() -> None:
    broken = {**ONE, "job_id": "x\nforged"}
    with asking(jobs_answer({"errors": [], "jobs": [broken, ONE]})) as (rest, _):
        bad, good = all_of(rest.ended("alpha", EVER))
    assert isinstance(bad, Unreadable)
    assert (bad.cluster, bad.origin) == ("alpha", "slurmrestd for cluster alpha")
    assert isinstance(good, SlurmJob)


# -------------------------------------------------------------------- the tree


@pytest.mark.parametrize("version", TREES)
def test_the_tree_is_told(version: str) -> None:
    with asking(recording(version, ("lab",)), "lab") as (rest, _):
        entries = list(rest.tree("lab"))
    by_name = {(each.kind, each.name): dict(each.attributes) for each in entries}
    assert {each.observed for each in entries} == {NOW}
    assert by_name[TreeKind.ACCOUNT, "bio"] == {"description": "bio", "organization": "bio"}
    assert by_name[TreeKind.USER, "games"] == {"default_account": "physics", "admin_level": "None"}
    assert by_name[TreeKind.QOS, "normal"]["usage_factor"] == "1.000000"
    name = "physics/games/" if version in {"v0.0.38", "v0.0.39"} else "5"
    games = by_name[TreeKind.ASSOCIATION, name]
    assert (games["account"], games["user"], games["qos"]) == ("physics", "games", "normal")
    physics = by_name[TreeKind.ASSOCIATION, name.replace("games", "").replace("5", "3")]
    assert (physics["account"], physics["parent"]) == ("physics", "root")


def test_a_tree_of_which_not_all_may_be_seen_is_a_complaint() -> None:
    def answer(asked: Asked) -> Said:
        own = said({"errors": [], "accounts": [{"name": "bio"}]})
        return own if asked.path.endswith("/accounts") else recording("v0.0.44", ("lab",))(asked)

    with asking(answer, "lab") as (rest, _), pytest.raises(SourceError, match="no account root"):
        list(rest.tree("lab"))


# ---------------------------------------------------------------- a whole cycle


@pytest.mark.parametrize("version", ["v0.0.38", "v0.0.44"])
def test_a_cycle_runs_on_it(version: str) -> None:
    ended = [job["time"]["end"] for job in recorded(version)["jobs"]]
    now = max(ended) + 600
    with recorded_rest(version) as (rest, _):
        cycle = Cycle(rest, now=lambda: now)
        blocks = list(cycle.read(""))
        told = {
            (reading.job_id, reading.submit): reading
            for block in blocks
            for reading in block.readings
            if isinstance(reading, SlurmJob) and reading.end
        }
        again = list(cycle.read(blocks[-1].position))
    assert len(told) == sum(
        bool(job["time"]["end"]) and job["cluster"] == "alpha" for job in recorded(version)["jobs"]
    )
    assert blocks[-1].complete_through >= now - 600
    repeated = [
        reading
        for block in again
        for reading in block.readings
        if isinstance(reading, SlurmJob) and reading.end
    ]
    assert all(
        reading._replace(total_cpu_ms=0, max_rss_bytes=0, steps=0)
        == told[reading.job_id, reading.submit]._replace(total_cpu_ms=0, max_rss_bytes=0, steps=0)
        for reading in repeated
    )
