"""No golden case may vanish: each has a test in the tree that is about it.

Two lists: the conformance cases of Slurm's accounting (1 to 50), and the oddities
of the field on which other programs lost or doubled records. The few that no
other test is about are tested here.
"""

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from jobledger_agent.parsing.tres import parse_tres
from jobledger_agent.sources.files import FileSource
from tests.agent.dumps import DATA, PLAIN, read, read_rows, row
from tests.agent.test_sacct import Lab

TESTS: Final = Path(__file__).parents[1]
READING, BOOKS = "agent/test_conformance_reading.py", "collector/test_conformance.py"
HERE = "agent/test_golden.py"
SACCT, CYCLE, LIVE = "agent/test_sacct.py", "agent/test_cycle.py", "slurm/test_cycle.py"
CONFORMANCE: Final[Mapping[int, tuple[str, ...]]] = {
    1: (f"{READING}::test_case_1_a_plain_run", f"{BOOKS}::Case(1)"),
    2: (f"{READING}::test_case_2_steps_are_not_jobs", f"{BOOKS}::Case(2)"),
    3: (f"{READING}::test_case_3_a_requeued_job_is_several_runs", f"{BOOKS}::Case(3)"),
    4: (f"{READING}::test_case_4_the_first_run_is_the_same_with_and_without_the_second",
        f"{BOOKS}::test_case_4_the_first_run_is_not_touched_by_the_second"),
    5: (f"{READING}::test_case_5_a_run_that_never_started_used_nothing_whatever_it_held",
        f"{BOOKS}::Case(5)"),
    6: (f"{READING}::test_case_6_never_started_as_until_21_08", f"{BOOKS}::Case(6)"),
    7: (f"{READING}::test_case_7_held_and_cancelled", f"{BOOKS}::Case(7)"),
    8: (f"{READING}::test_case_8_an_end_in_the_past", f"{BOOKS}::Case(8)",
        f"{LIVE}::test_a_run_killed_while_suspended_ends_as_of_its_suspension"),
    9: (f"{READING}::test_case_9_suspended_in_between", f"{BOOKS}::Case(9)"),
    10: ("collector/test_pricing.py::test_a_suspended_run_over_midnight_is_cut_without_loss",),
    11: (f"{READING}::test_case_11_a_resize_whose_second_row_keeps_the_first_start",
         f"{BOOKS}::Case(11)"),
    12: (f"{READING}::test_case_12_a_resize_with_its_own_start", f"{BOOKS}::Case(12)"),
    13: (f"{READING}::test_case_13_an_array_and_its_cancelled_remainder", f"{BOOKS}::Case(13)"),
    14: (f"{READING}::test_case_14_the_last_task_takes_over_the_id_of_the_array",
         f"{BOOKS}::Case(14)"),
    15: (f"{READING}::test_case_15_the_components_of_a_heterogeneous_job", f"{BOOKS}::Case(15)"),
    16: (f"{READING}::test_case_16_an_id_that_comes_round_again", f"{BOOKS}::Case(16)"),
    17: (f"{READING}::test_case_17_a_rebuilt_cluster_counts_from_one_again",
         f"{BOOKS}::Case(17)"),
    18: (f"{READING}::test_case_18_the_row_index_is_no_part_of_a_runs_identity",
         f"{BOOKS}::test_case_18_a_new_index_is_a_revision_without_a_charge"),
    19: (f"{BOOKS}::test_case_19_is_told", f"{BOOKS}::Case(19)"),
    20: (f"{READING}::test_case_20_a_federated_sibling_that_was_revoked", f"{BOOKS}::Case(20)"),
    21: (f"{READING}::test_case_21_one_row_twice_in_one_answer", f"{BOOKS}::Case(21)"),
    22: (f"{LIVE}::test_jobs_that_end_while_slurmdbd_is_away_all_arrive_with_their_own_ends",
         "agent/test_window.py::test_an_outage_is_read_again_ten_minutes_and_an_hour_later"),
    23: (f"{SACCT}::test_a_failure_moves_nothing",),
    24: (f"{SACCT}::test_a_failure_moves_nothing",),
    25: (f"{SACCT}::test_a_span_that_is_too_wide_is_halved",),
    26: (f"{LIVE}::test_an_empty_answer_is_believed_only_beside_a_known_run",
         f"{LIVE}::test_private_data_that_hides_jobs_is_noticed",
         f"{SACCT}::test_a_cluster_that_slurmdbd_does_not_know"),
    27: (f"{READING}::test_case_27_a_run_without_alloctres_is_passed_on_as_it_is",
         f"{SACCT}::test_a_list_of_tres_that_sacct_could_not_fetch",
         f"{BOOKS}::test_case_27_ran_on_nothing_is_quarantined_and_priced_once_slurm_knows"),
    28: ("agent/test_hostile_rows.py::test_each_lookalike_in_each_column_that_a_user_writes",
         f"{SACCT}::test_a_key_with_a_newline_is_one_record"),
    29: (f"{BOOKS}::test_case_29_names_in_any_script_are_kept",
         "agent/test_fields.py::test_text_is_made_fit_for_any_store"),
    30: (f"{BOOKS}::test_case_30_who_cancelled_it_and_an_unknown_state_are_told",
         "agent/test_fields.py::test_states"),
    31: (f"{READING}::test_case_31_gpus_with_and_without_types", f"{BOOKS}::Case(31)"),
    32: (f"{READING}::test_case_32_memory_in_any_unit",
         f"{BOOKS}::test_case_32_no_memory_named_is_flagged"),
    33: (f"{READING}::test_case_33_energy_that_nobody_measured",
         f"{BOOKS}::test_case_33_energy_is_charged_once_it_is_known"),
    34: (f"{READING}::test_case_34_a_runaway_job_that_was_fixed",
         f"{LIVE}::test_a_repaired_runaway_is_no_longer_open", f"{BOOKS}::Case(34)"),
    35: (f"{READING}::test_case_35_flushed_first_and_true_later",
         f"{BOOKS}::test_case_35_after_the_invoice_the_difference_is_an_adjustment"),
    36: (f"{READING}::test_case_36_a_start_that_moves_while_the_nodes_boot",
         f"{BOOKS}::Case(36)"),
    37: (f"{BOOKS}::test_cases_37_and_39_attribution_stands_and_the_change_is_logged",),
    38: (f"{BOOKS}::test_case_38_a_decrease_is_held_for_a_person_and_energy_may_grow",),
    39: (f"{BOOKS}::test_cases_37_and_39_attribution_stands_and_the_change_is_logged",),
    40: (f"{READING}::test_case_40_a_row_that_was_created_at_the_end", f"{BOOKS}::Case(40)"),
    41: (f"{BOOKS}::Case(41)", f"{CYCLE}::test_a_sweep_finds_what_an_archive_brought_back",
         "agent/test_sweep.py::test_nothing_is_swept_that_slurm_may_have_purged"),
    42: (f"{READING}::test_case_42_local_times_of_a_zone_of_half_an_hour",
         "faults/test_data.py::test_fault_31_hour_that_comes_twice"),
    43: (f"{BOOKS}::Case(43)",),
    44: (f"{BOOKS}::Case(44)",
         "faults/test_collector.py::test_fault_19_kill_between_commit_and_ack"),
    45: (f"{BOOKS}::test_case_45_two_agents_tell_the_same",),
    46: (f"{BOOKS}::Case(46)",),
    47: (f"{HERE}::test_case_47_idle_reserved_time_is_in_no_run",),
    48: (f"{BOOKS}::Case(48)",),
    49: (f"{HERE}::test_case_49_each_question_is_a_connection_of_its_own",),
    50: ("agent/test_preflight.py::test_what_slurmctld_is_set_to",
         "slurm/test_doctor.py::test_a_slurmctld_that_records_no_jobs"),
}  # fmt: skip
FIELD: Final[Mapping[str, tuple[str, ...]]] = {
    "delimiters, control characters, invalid UTF-8, CJK in names": (
        "agent/test_parsable.py::test_a_name_changes_nothing",
        "agent/test_hostile_rows.py::test_a_live_answer_with_hostile_values",
    ),
    ".interactive .extern .batch 123+1.0": ("agent/test_rows.py::test_steps",),
    "123_[1-10%4] 123_7": ("agent/test_fields.py::test_displayed_job_ids",),
    "CANCELLED by 1000": ("agent/test_fields.py::test_states", f"{BOOKS}::Case(5)"),
    "requeue three times": (f"{HERE}::test_three_requeues_are_four_runs",),
    "an id recycled after nine years": (f"{READING}::test_case_16_an_id_that_comes_round_again",),
    "END corrected later": (f"{READING}::test_case_35_flushed_first_and_true_later",),
    "END in the hour that comes twice": (
        "faults/test_data.py::test_fault_31_hour_that_comes_twice",
    ),
    "Start and End Unknown": (f"{HERE}::test_unknown_times_use_nothing",),
    "a run of 45 days, and of 400": (f"{HERE}::test_a_run_of_many_days",),
    "suspended": (f"{READING}::test_case_9_suspended_in_between",),
    "RESIZING": (f"{READING}::test_case_11_a_resize_whose_second_row_keeps_the_first_start",),
    "REVOKED sibling": (f"{READING}::test_case_20_a_federated_sibling_that_was_revoked",),
    "mixed GPUs, MIG, shard": (f"{HERE}::test_parts_of_gpus_are_resources_of_their_own",),
    "mem 250.5G 2P 0 16? 4000Mc 0n": (f"{HERE}::test_memory_as_the_field_has_seen_it",),
    "energy 0, huge, beyond 2^63": (
        "agent/test_tres.py::test_energy_is_a_measurement_and_unknown_is_not_zero",
    ),
    "a user deleted from slurmdbd": (f"{HERE}::test_a_deleted_user_keeps_his_number",),
    "an account renamed": (
        f"{BOOKS}::test_cases_37_and_39_attribution_stands_and_the_change_is_logged",
    ),
    "slurmdbd down for days, then flushed": (
        f"{CYCLE}::test_every_run_arrives_as_slurm_has_it_whatever_fails",
    ),
    "a result over 3 GiB": (f"{SACCT}::test_a_span_that_is_too_wide_is_halved",),
    "exit 0 with an error on stderr": (f"{SACCT}::test_a_failure_moves_nothing",),
    "a window that ends before it begins": (
        f"{HERE}::test_a_clock_set_back_asks_for_no_window_that_ends_before_it_begins",
    ),
}


@cache
def names(path: str) -> frozenset[str]:
    """Tests of a file, and the numbers of its table of cases."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Case":
            found.add(f"Case({ast.unparse(node.args[0])})")
    return frozenset(found)


@pytest.mark.parametrize(
    "where",
    sorted({each for of in (CONFORMANCE, FIELD) for tests in of.values() for each in tests}),
)
def test_the_test_of_a_golden_case_is_in_the_tree(where: str) -> None:
    path, _, name = where.partition("::")
    assert name in names(path), f"{path} lost {name}"


def test_every_conformance_case_has_one() -> None:
    assert list(CONFORMANCE) == list(range(1, 51))
    assert all(CONFORMANCE.values())
    assert all(FIELD.values())


def test_case_47_idle_reserved_time_is_in_no_run() -> None:
    """Sreport gives reserved idle time to those who could have used it; rows of runs do not."""
    report = (DATA / "slurm-22.05" / "sreport-acct-user.txt").read_text()
    told = sum(
        int(line.split("|")[4]) for line in report.splitlines() if line.split("|")[2:3] == ["alice"]
    )
    jobs = read(FileSource(DATA / "slurm-22.05" / "safe-billing-X.txt", timezone="UTC")).jobs
    used = sum(
        dict(job.alloc_tres).get("cpu", 0)
        * max(0, job.end - max(job.start, job.submit) - job.suspended_s)
        for job in jobs
        if job.user == "alice" and job.cluster == "alpha" and job.start and job.end
    )
    assert told == 70_194 + 77_428
    assert 0 < used < told // 10


def test_case_49_each_question_is_a_connection_of_its_own(tmp_path: Path) -> None:
    """A connection that is kept sees slurmdbd as it was: every question starts a program."""
    lab = Lab(tmp_path)
    sacct = (tmp_path / "sacct").read_text()
    lab.program("sacct", sacct.replace("\n", '\necho $$ >> "$(dirname "$0")/pids"\n', 1))
    source = lab.source(open_every_s=1)
    position = ""
    for _ in range(3):
        for block in source.read(position):
            position = block.position
        lab.now += 60
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == len(set(pids)) >= len(lab.asked("ended"))


def test_three_requeues_are_four_runs(tmp_path: Path) -> None:
    begin = int(PLAIN["Submit"])
    rows = [
        row(Submit=str(begin + 100 * n), Start=str(begin + 100 * n + 10),
            End=str(begin + 100 * n + 16), DBIndex=str(n + 1),
            State="REQUEUED" if n < 3 else "COMPLETED")
        for n in range(4)
    ]  # fmt: skip
    jobs = read_rows(tmp_path, *rows).jobs
    assert len({(job.job_id, job.submit) for job in jobs}) == 4
    assert sum(job.end - job.start for job in jobs) == 24


def test_unknown_times_use_nothing(tmp_path: Path) -> None:
    outcome = read_rows(tmp_path, row(Start="Unknown", End="Unknown", ElapsedRaw="0",
                                      State="PENDING", AllocTRES="", AllocCPUS="0"))  # fmt: skip
    assert (outcome.only.start, outcome.only.end) == (0, 0)


@pytest.mark.parametrize("days", [32, 45, 400])
def test_a_run_of_many_days(days: int, tmp_path: Path) -> None:
    begin, seconds = int(PLAIN["Start"]), days * 86_400
    values = {"End": str(begin + seconds), "ElapsedRaw": str(seconds)}
    job = read_rows(tmp_path, row(**values)).only
    assert job.end - job.start == job.slurm_elapsed_s == seconds


@pytest.mark.parametrize(("text", "expected"), [
    ("cpu=2,gres/gpu:1g.10gb=1,gres/gpu=1",
     (("cpu", 2), ("gres/gpu", 1), ("gres/gpu:1g.10gb", 1))),
    ("cpu=2,gres/shard=4", (("cpu", 2), ("gres/shard", 4))),
    ("cpu=2,gres/gpu:a100=2,gres/gpu:v100=2,gres/gpu=4",
     (("cpu", 2), ("gres/gpu", 4), ("gres/gpu:a100", 2), ("gres/gpu:v100", 2))),
])  # fmt: skip
def test_parts_of_gpus_are_resources_of_their_own(
    text: str, expected: tuple[tuple[str, int], ...]
) -> None:
    held = parse_tres(text)
    assert held is not None
    assert held.tres == expected


@pytest.mark.parametrize(("text", "mib"), [
    ("250.5G", 256_512), ("2P", 2_147_483_648), ("0", 0), ("16?", None), ("4000Mc", 4_000),
    ("0n", 0),
])  # fmt: skip
def test_memory_as_the_field_has_seen_it(text: str, mib: int | None) -> None:
    """An unknown mark is refused; "c" and "n", once printed behind a request, name no size."""
    held = parse_tres(f"mem={text}")
    assert (dict(held.tres).get("mem") if held else None) == mib


def test_a_deleted_user_keeps_his_number(tmp_path: Path) -> None:
    job = read_rows(tmp_path, row(User="", AssocID="0")).only
    assert (job.user, job.uid, job.account) == ("", 12_001, "phys_theory")


def test_a_clock_set_back_asks_for_no_window_that_ends_before_it_begins(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    source = lab.source()
    position = ""
    for step in (0, 30, -100_000, 30, 200_000, -7):
        lab.now += step
        for block in source.read(position):
            position = block.position
    asked = [call.split() for call in lab.asked("ended")]
    windows = [(words[words.index("-S") + 1], words[words.index("-E") + 1]) for words in asked]
    assert len(windows) >= 5
    assert all(int(begin[3:]) <= int(end[3:]) for begin, end in windows)
