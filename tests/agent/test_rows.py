"""Named columns of a block of rows -> SlurmJob; a row that cannot be read says why."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import pytest

from jobledger_agent.parsing.rows import NEEDED, Origin, RowReader, StepRow
from jobledger_agent.records.job import ARRAY_REMAINDER, UNKNOWN, SlurmJob
from tests.agent.dumps import COLUMNS, PLAIN, row

ORIGIN = Origin("", {}, ZoneInfo("UTC"), 1_795_300_000)

EXPECTED = SlurmJob(
    cluster="alpha", job_id=2, submit=1795199294, eligible=1795199294, start=1795199300,
    end=1795199306, suspended_s=0, slurm_elapsed_s=6, state="COMPLETED", cancelled_by_uid=UNKNOWN,
    exit_code=0, exit_signal=0,
    alloc_tres=(("billing", 2), ("cpu", 2), ("gres/gpu", 1), ("mem", 100), ("node", 1)),
    req_tres=(("billing", 2), ("cpu", 2), ("gres/gpu", 1), ("mem", 100), ("node", 1)),
    alloc_cpus=2, nodes=1, node_list="", user="alice", uid=12001, account="phys_theory",
    assoc_id=10, partition="cpu", qos="normal", wckey="*", reservation="", reservation_id=0,
    array_job_id=0, array_task=UNKNOWN, het_job_id=0, het_offset=UNKNOWN, restarts=UNKNOWN,
    sluid=7, timelimit_s=UNKNOWN, energy_j=UNKNOWN, total_cpu_ms=UNKNOWN, max_rss_bytes=UNKNOWN,
    steps=0, observed=1_795_300_000,
)  # fmt: skip


def one(columns: Sequence[str], values: Sequence[str], *, cross_check: bool = True) -> SlurmJob:
    """The job of one row that must be readable."""
    (job,) = RowReader(columns, ORIGIN).jobs([values], cross_check=cross_check)
    assert job is not None
    return job


def changed(**values: str) -> SlurmJob:
    """PLAIN with these values instead, read without cross-checks."""
    given = {**PLAIN, **values}
    return one(tuple(given), tuple(given.values()), cross_check=False)


def test_every_field_is_read() -> None:
    assert one(COLUMNS, row()) == EXPECTED


def test_columns_come_in_any_order_and_case() -> None:
    assert one([c.upper() for c in reversed(COLUMNS)], row()[::-1]) == EXPECTED


def test_columns_that_nobody_knows_are_left_out() -> None:
    assert one([*COLUMNS, "Shininess"], [*row(), "very"]) == EXPECTED


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"State": "CANCELLED by 12003"}, {"state": "CANCELLED", "cancelled_by_uid": 12003}),
        ({"ExitCode": "2:15"}, {"exit_code": 2, "exit_signal": 15}),
        ({"JobID": "37_10"}, {"array_job_id": 37, "array_task": 10}),
        ({"JobID": "2_[3-30%2]"}, {"array_job_id": 2, "array_task": ARRAY_REMAINDER}),
        ({"JobID": "1+1"}, {"het_job_id": 1, "het_offset": 1}),
        ({"DBIndex": "12760536031503386624"}, {"sluid": 12_760_536_031_503_386_624}),
        ({"Start": "Unknown", "AllocTRES": ""}, {"start": 0, "alloc_tres": (), "nodes": 0}),
        ({"End": "Unknown", "State": "RUNNING"}, {"end": 0, "state": "RUNNING"}),
        ({"Eligible": "Unknown"}, {"eligible": 0}),
        ({"Suspended": "00:01:00"}, {"suspended_s": 60}),
        ({"UID": "4294967294"}, {"uid": UNKNOWN}),  # NO_VAL
        ({"UID": ""}, {"uid": UNKNOWN}),
        ({"AssocID": ""}, {"assoc_id": 0}),
        ({"WCKey": "*proj-alice"}, {"wckey": "*proj-alice"}),
        ({"User": "b\udce9n"}, {"user": "b\ufffdn"}),
        ({"NodeList": "None assigned"}, {"node_list": ""}),
        ({"NodeList": "c[1-2,4]"}, {"node_list": "c[1-2,4]"}),
        ({"Restarts": "2"}, {"restarts": 2}),
        ({"TimelimitRaw": "30"}, {"timelimit_s": 1800}),
        ({"Timelimit": "1-00:00:00"}, {"timelimit_s": 86_400}),
        ({"ReservationId": "3", "Reservation": "maint"}, {"reservation_id": 3}),
        ({"ConsumedEnergyRaw": "5000"}, {"energy_j": 5000}),
        ({"ConsumedEnergyRaw": "43200000000"}, {"energy_j": 43_200_000_000}),  # 12 MWh
        ({"ConsumedEnergyRaw": "0"}, {"energy_j": UNKNOWN}),
        ({"ConsumedEnergyRaw": "18446744073709551614"}, {"energy_j": UNKNOWN}),
        ({"AllocTRES": "cpu=2,energy=77"}, {"energy_j": 77, "alloc_tres": (("cpu", 2),)}),
    ],
)
def test_values(values: dict[str, str], expected: dict[str, object]) -> None:
    got = changed(**values)._asdict()
    assert {name: got[name] for name in expected} == expected


def test_without_suspended_it_is_what_elapsed_leaves_out() -> None:
    columns = [name for name in COLUMNS if name != "Suspended"]
    values = {**PLAIN, "End": "1795199372", "ElapsedRaw": "12"}
    assert one(columns, [values[name] for name in columns]).suspended_s == 60


def test_without_a_cluster_it_is_the_one_that_was_said() -> None:
    columns = [name for name in COLUMNS if name != "Cluster"]
    values = [PLAIN[name] for name in columns]
    origin = ORIGIN._replace(default_cluster="alpha", rename={"alpha": "gamma"})
    (job,) = RowReader(columns, origin).jobs([values], cross_check=True)
    assert job is not None
    assert job.cluster == "gamma"
    assert RowReader(columns, ORIGIN).jobs([values], cross_check=True) == [None]
    fault = RowReader(columns, ORIGIN).fault(values, cross_check=True)
    assert fault == "no Cluster; take the dump with it, or name it in the settings"


@pytest.mark.parametrize("name", NEEDED)
def test_a_column_that_a_price_needs_is_missed(name: str) -> None:
    reader = RowReader([column for column in COLUMNS if column != name], ORIGIN)
    assert reader.missing == (name,)


BAD = [
    ("JobIDRaw", "0"), ("JobIDRaw", ""), ("JobIDRaw", "abc"), ("Submit", "Unknown"),
    ("Submit", "yesterday"), ("Start", "soon"), ("End", "-1"), ("State", "0:0"), ("State", ""),
    ("AllocTRES", "cpu"), ("AllocTRES", "cpu=2,mem=4x"), ("ReqTRES", "?"), ("ExitCode", "one"),
    ("Suspended", "1795199300"), ("UID", "alice"), ("JobID", "seven"), ("DBIndex", "x"),
    ("ElapsedRaw", "6.0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_that_cannot_be_read_costs_its_row_and_no_other(name: str, value: str) -> None:
    reader = RowReader(COLUMNS, ORIGIN)
    rows = [row(), row(**{name: value}), row(JobIDRaw="3", JobID="3")]
    first, second, third = reader.jobs(rows, cross_check=True)
    assert first == EXPECTED
    assert second is None
    assert third is not None
    assert third.job_id == 3
    assert reader.fault(rows[1], cross_check=True) == f"{name} is {value!r}"


@pytest.mark.parametrize(
    "values",
    [
        {"ElapsedRaw": "7"},
        {"Suspended": "00:00:01"},
        {"End": "1795199307"},
        {"Start": "1795199299"},
        {"AllocCPUS": "1"},
        {"AllocTRES": "cpu=64,node=1"},
    ],
)
def test_figures_that_contradict_each_other(values: dict[str, str]) -> None:
    reader = RowReader(COLUMNS, ORIGIN)
    given = row(**values)
    assert reader.jobs([given], cross_check=True) == [None]
    assert "contradict" in reader.fault(given, cross_check=True)
    assert reader.jobs([given], cross_check=False) != [None]


@pytest.mark.parametrize(
    "values",
    [
        {"Start": "1795199310"},  # End before Start: Slurm floors Elapsed at 0
        {"Start": "Unknown", "AllocTRES": "", "AllocCPUS": "1"},  # AllocCPUS of what was asked for
        {"End": "Unknown", "State": "RUNNING", "ElapsedRaw": "99"},
        {"ElapsedRaw": ""},
        {"AllocCPUS": ""},
    ],
)
def test_what_slurm_does_itself_is_no_contradiction(values: dict[str, str]) -> None:
    if "End" not in values and values.get("Start") == "1795199310":
        values = {**values, "ElapsedRaw": "0"}
    assert RowReader(COLUMNS, ORIGIN).jobs([row(**values)], cross_check=True) != [None]


def test_cpu_time_vouches_too() -> None:
    reader = RowReader([*COLUMNS, "CPUTimeRAW"], ORIGIN)
    said = reader.jobs([[*row(), "12"], [*row(), "13"]], cross_check=True)
    assert [job is None for job in said] == [False, True]


def test_steps() -> None:
    columns = [*COLUMNS, "TotalCPU", "MaxRSS"]
    reader = RowReader(columns, ORIGIN)
    given = [*row(JobIDRaw="2.batch", JobID="2.batch"), "00:01.250", "2400K"]
    bad = [*row(JobIDRaw="2.0", JobID="2.0"), "soon", "2400K"]
    assert reader.is_step(given)
    assert not reader.is_step([*row(), "", ""])
    expected = StepRow("alpha", 2, 7, 1250, 2_457_600, tuple(given))
    assert reader.steps([given, bad]) == [expected, None]
