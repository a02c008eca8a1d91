"""The conformance cases that concern reading, each by its number.

A case gives rows as slurmdbd has them (id, state, submit, start, end, suspended,
TRES) and what must be used in the end. Here they go through a dump: what is
read must lead to exactly that. Cases of one answer's validation are in
test_sacct, of single values in test_fields and test_tres, of hostile names in
test_parsable; cases of pricing, revising and storing are the collector's.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from jobledger_agent.records.job import ARRAY_REMAINDER, UNKNOWN, SlurmJob
from jobledger_agent.sources.files import FileSource
from tests.agent.dumps import COLUMNS, DATA, Outcome, dump, read, row

T = "cpu=2,gres/gpu=1,mem=100M,node=1"
BASE = 1_795_000_000
NEVER = -1


class Rows:
    """Writes rows in the notation of the cases and reads them back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, *rows: Sequence[str]) -> Outcome:
        """What a dump of these rows says."""
        return read(FileSource(dump(self._folder / "dump.txt", rows)))


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(tmp_path)


def run(
    job_id: int,
    state: str,
    submit: int,
    start: int,
    end: int,
    susp: int = 0,
    tres: str = T,
    **values: str,
) -> list[str]:
    """One row; times in seconds after some day, NEVER for Unknown."""
    ran = max(0, end - start - susp) if NEVER not in {start, end} else 0
    cpus = dict(entry.split("=") for entry in tres.split(",") if entry).get("cpu", "0")
    given = {
        "JobIDRaw": str(job_id), "JobID": str(job_id), "State": state,
        "Submit": moment(submit), "Eligible": moment(submit), "Start": moment(start),
        "End": moment(end), "ElapsedRaw": str(ran), "AllocTRES": tres, "AllocCPUS": cpus,
        "Suspended": f"{susp // 3600:02}:{susp // 60 % 60:02}:{susp % 60:02}",
    }  # fmt: skip
    return row(**{**given, **values})


def moment(seconds: int) -> str:
    """A time as sacct prints it."""
    return "Unknown" if seconds == NEVER else str(BASE + seconds)


def active_s(job: SlurmJob) -> int:
    """The rule of every price: nothing before the end is known, nothing before Submit."""
    if not job.start or not job.end:
        return 0
    return max(0, job.end - max(job.start, job.submit) - job.suspended_s)


def used(outcome: Outcome) -> list[tuple[int, int, int]]:
    """Job id, CPU-seconds and GPU-seconds of each run."""
    assert not outcome.unreadable, outcome.unreadable
    assert not outcome.complaint
    held = [(job, dict(job.alloc_tres)) for job in outcome.jobs]
    return [
        (job.job_id, active_s(job) * tres.get("cpu", 0), active_s(job) * tres.get("gres/gpu", 0))
        for job, tres in held
    ]


def test_case_1_a_plain_run(rows: Rows) -> None:
    assert used(rows(run(2, "COMPLETED", 100, 100, 106))) == [(2, 12, 6)]


def test_case_2_steps_are_not_jobs(rows: Rows) -> None:
    steps = [
        run(2, "COMPLETED", 100, 100, 106, JobIDRaw=f"2.{name}", JobID=f"2.{name}")
        for name in ("batch", "extern", "0")
    ]
    outcome = rows(run(2, "COMPLETED", 100, 100, 106), *steps)
    assert used(outcome) == [(2, 12, 6)]
    assert outcome.only.steps == 3


@pytest.mark.parametrize("state", ["REQUEUED", "PREEMPTED", "NODE_FAIL"])
def test_case_3_a_requeued_job_is_several_runs(rows: Rows, state: str) -> None:
    outcome = rows(run(6, "COMPLETED", 108, 230, 260), run(6, state, 100, 100, 108))
    assert used(outcome) == [(6, 60, 30), (6, 16, 8)]


def test_case_4_the_first_run_is_the_same_with_and_without_the_second(rows: Rows) -> None:
    first = run(6, "REQUEUED", 100, 100, 108)
    alone = rows(first).jobs
    together = rows(run(6, "COMPLETED", 108, 230, 260), first).jobs
    assert together[1]._replace(observed=0) == alone[0]._replace(observed=0)


def test_case_5_a_run_that_never_started_used_nothing_whatever_it_held(rows: Rows) -> None:
    assert used(rows(run(29, "CANCELLED", 254, NEVER, 275, tres="cpu=1"))) == [(29, 0, 0)]


def test_case_6_never_started_as_until_21_08(rows: Rows) -> None:
    never = run(30, "CANCELLED", 100, 150, 150, tres="", AllocCPUS="1")
    outcome = rows(never)
    assert used(outcome) == [(30, 0, 0)]
    assert outcome.only.alloc_tres == ()


def test_case_7_held_and_cancelled(rows: Rows) -> None:
    held = run(31, "CANCELLED by 0", 100, NEVER, 150, tres="", AllocCPUS="0", Eligible="Unknown")
    outcome = rows(held)
    assert used(outcome) == [(31, 0, 0)]
    assert (outcome.only.eligible, outcome.only.cancelled_by_uid) == (0, 0)


def test_case_8_an_end_in_the_past(rows: Rows) -> None:
    assert used(rows(run(32, "CANCELLED", 0, 0, 12))) == [(32, 24, 12)]


def test_case_9_suspended_in_between(rows: Rows) -> None:
    assert used(rows(run(33, "COMPLETED", 0, 0, 72, susp=60))) == [(33, 24, 12)]


def test_case_11_a_resize_whose_second_row_keeps_the_first_start(rows: Rows) -> None:
    outcome = rows(
        run(7, "COMPLETED", 323, 315, 340, tres="cpu=1"),
        run(7, "RESIZING", 315, 315, 323, tres="cpu=2"),
    )
    assert used(outcome) == [(7, 17, 0), (7, 16, 0)]


def test_case_12_a_resize_with_its_own_start(rows: Rows) -> None:
    outcome = rows(
        run(7, "COMPLETED", 323, 323, 340, tres="cpu=1"),
        run(7, "RESIZING", 315, 315, 323, tres="cpu=2"),
    )
    assert used(outcome) == [(7, 17, 0), (7, 16, 0)]


def test_case_13_an_array_and_its_cancelled_remainder(rows: Rows) -> None:
    tasks = [run(26 + n, "COMPLETED", 100, 110, 120, JobID=f"22_{n}") for n in range(1, 5)]
    rest = run(22, "CANCELLED", 100, NEVER, 150, tres="", AllocCPUS="0", JobID="22_[2-4%2]")
    outcome = rows(*tasks, rest)
    assert used(outcome) == [*((26 + n, 20, 10) for n in range(1, 5)), (22, 0, 0)]
    members = [(job.array_job_id, job.array_task) for job in outcome.jobs]
    assert members == [(22, 1), (22, 2), (22, 3), (22, 4), (22, ARRAY_REMAINDER)]


def test_case_14_the_last_task_takes_over_the_id_of_the_array(rows: Rows) -> None:
    waiting = run(22, "PENDING", 100, NEVER, NEVER, tres="", AllocCPUS="0", JobID="22_[5%2]")
    last = run(22, "COMPLETED", 100, 200, 210, JobID="22_5")
    outcome = rows(waiting, last)
    assert used(outcome) == [(22, 0, 0), (22, 20, 10)]
    assert len({(job.cluster, job.job_id, job.submit) for job in outcome.jobs}) == 1


def test_case_15_the_components_of_a_heterogeneous_job(rows: Rows) -> None:
    parts = [run(23 + n, "COMPLETED", 100, 100, 110, JobID=f"23+{n}") for n in range(2)]
    outcome = rows(*parts)
    assert used(outcome) == [(23, 20, 10), (24, 20, 10)]
    assert [(job.het_job_id, job.het_offset) for job in outcome.jobs] == [(23, 0), (23, 1)]


def test_case_16_an_id_that_comes_round_again(rows: Rows) -> None:
    early = -600_000_000
    outcome = rows(run(500, "COMPLETED", 0, 0, 6), run(500, "COMPLETED", early, early, early + 6))
    assert used(outcome) == [(500, 12, 6), (500, 12, 6)]
    assert len({job.submit for job in outcome.jobs}) == 2


def test_case_17_a_rebuilt_cluster_counts_from_one_again(rows: Rows) -> None:
    outcome = rows(
        run(1, "COMPLETED", 100, 100, 106, DBIndex="1"),
        run(1, "COMPLETED", 900, 900, 906, DBIndex="1"),
        run(2, "COMPLETED", 900, 900, 906, DBIndex="1"),
    )
    assert used(outcome) == [(1, 12, 6), (1, 12, 6), (2, 12, 6)]


def test_case_18_the_row_index_is_no_part_of_a_runs_identity(rows: Rows) -> None:
    (before,) = rows(run(1, "COMPLETED", 100, 100, 106, DBIndex="1")).jobs
    (after,) = rows(run(1, "COMPLETED", 100, 100, 106, DBIndex="12760536031503386624")).jobs
    assert before[:3] == after[:3]
    assert before._replace(sluid=0, observed=0) == after._replace(sluid=0, observed=0)
    assert after.sluid == 12_760_536_031_503_386_624


def test_case_20_a_federated_sibling_that_was_revoked(rows: Rows) -> None:
    outcome = rows(
        run(67_108_865, "REVOKED", 100, 100, 130, tres="", AllocCPUS="0", Cluster="a"),
        run(67_108_865, "COMPLETED", 100, 100, 106, Cluster="b"),
    )
    assert used(outcome) == [(67_108_865, 0, 0), (67_108_865, 12, 6)]


def test_case_21_one_row_twice_in_one_answer(rows: Rows) -> None:
    twice = run(5, "CANCELLED", 100, NEVER, 150, tres="", AllocCPUS="0")
    assert used(rows(twice, twice)) == [(5, 0, 0)]


def test_case_27_a_run_without_alloctres_is_passed_on_as_it_is(rows: Rows) -> None:
    """Never as nothing used: the collector sets it aside."""
    outcome = rows(run(8, "COMPLETED", 100, 100, 106, tres="", AllocCPUS="0"))
    assert outcome.only.alloc_tres == ()
    assert active_s(outcome.only) == 6


@pytest.mark.parametrize(
    ("tres", "gpus"),
    [
        ("gres/gpu=4,gres/gpu:a100=3,gres/gpu:h100=1", {"": 4, ":a100": 3, ":h100": 1}),
        ("gres/gpu:a100=3,gres/gpu:h100=1", {":a100": 3, ":h100": 1}),
        ("gres/gpu=2", {"": 2}),
        ("gres/gpu=0", {"": 0}),
    ],
)
def test_case_31_gpus_with_and_without_types(rows: Rows, tres: str, gpus: dict[str, int]) -> None:
    """All entries are kept: what is a total and what repeats it is decided when pricing."""
    job = rows(run(9, "COMPLETED", 100, 100, 106, tres=f"cpu=2,{tres}")).only
    held = dict(job.alloc_tres)
    assert {n.removeprefix("gres/gpu"): c for n, c in held.items() if n != "cpu"} == gpus


@pytest.mark.parametrize("mem", ["4608M", "4.50G", "4718592K", "4608"])
def test_case_32_memory_in_any_unit(rows: Rows, mem: str) -> None:
    job = rows(run(10, "COMPLETED", 100, 100, 106, tres=f"cpu=2,mem={mem}")).only
    assert dict(job.alloc_tres)["mem"] == 4608


@pytest.mark.parametrize("energy", ["", ",energy=0", ",energy=18446744073709551614", ",energy="])
def test_case_33_energy_that_nobody_measured(rows: Rows, energy: str) -> None:
    job = rows(run(11, "COMPLETED", 100, 100, 106, tres=f"cpu=2{energy}")).only
    assert (job.energy_j, job.alloc_tres) == (UNKNOWN, (("cpu", 2),))
    later = rows(run(11, "COMPLETED", 100, 100, 106, tres="cpu=2,energy=5000")).only
    assert later.energy_j == 5000


def test_case_34_a_runaway_job_that_was_fixed(rows: Rows) -> None:
    assert used(rows(run(12, "COMPLETED", 100, 100, 100))) == [(12, 0, 0)]


def test_case_35_flushed_first_and_true_later(rows: Rows) -> None:
    flushed = rows(run(13, "CANCELLED", 0, 0, 50))
    true = rows(run(13, "COMPLETED", 0, 0, 500))
    assert used(flushed) == [(13, 100, 50)]
    assert used(true) == [(13, 1000, 500)]
    assert flushed.only[:3] == true.only[:3]


def test_case_36_a_start_that_moves_while_the_nodes_boot(rows: Rows) -> None:
    running = rows(run(14, "RUNNING", 90, 100, NEVER))
    assert (used(running), running.only.start) == ([(14, 0, 0)], BASE + 100)
    assert used(rows(run(14, "COMPLETED", 90, 220, 230))) == [(14, 20, 10)]


def test_case_40_a_row_that_was_created_at_the_end(rows: Rows) -> None:
    """Its start message was lost: no uid, partition or eligible time, but a true user."""
    lost = run(15, "COMPLETED", 100, 100, 106, UID="0", Partition="", QOS="", Eligible="Unknown")
    job = rows(lost).only
    assert (job.user, job.account, job.uid, job.partition, job.eligible) == (
        "alice", "phys_theory", 0, "", 0,
    )  # fmt: skip
    assert active_s(job) == 6


def test_case_42_local_times_of_a_zone_of_half_an_hour(tmp_path: Path) -> None:
    values = dict(zip(COLUMNS, run(16, "COMPLETED", 0, 0, 6), strict=True))
    values |= {"Submit": "2026-11-18T16:36:40", "Start": "2026-11-18T16:36:40"}
    values |= {"End": "2026-11-18T16:36:46"}
    path = dump(tmp_path / "d.txt", [list(values.values())])
    job = read(FileSource(path, timezone="Asia/Kolkata")).only
    assert (job.submit, active_s(job)) == (BASE, 6)


@pytest.mark.parametrize("version", ["22.05", "25.11"])
def test_requeues_and_resizes_of_a_real_cluster(version: str) -> None:
    """The same rules on captured rows: text and JSON lead to the same figures."""
    figures = []
    for name in ("allfields-D-epoch.txt", "json-D-X.json.gz"):
        outcome = read(FileSource(DATA / f"slurm-{version}" / name))
        ended = [job for job in outcome.jobs if job.end]
        told = {(j.job_id, j.submit): (j.state, active_s(j), j.alloc_tres) for j in ended}
        figures.append(told)
        states = [state for state, _, _ in told.values()]
        assert states.count("REQUEUED") >= 4
        assert states.count("RESIZING") == 1
        assert states.count("PREEMPTED") == 2
    text, from_json = figures
    common = text.keys() & from_json.keys()
    assert len(common) > 280
    assert {key: text[key] for key in common} == {key: from_json[key] for key in common}
