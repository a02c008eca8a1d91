"""What a run used: Slurm's rules as a table, one line a case."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_collector.core.record import NO_USAGE, UNKNOWN, Flag, Rejected, Span, Usage
from jobledger_collector.core.usage import (
    MAX_BASE_UNITS,
    MAX_EPOCH_S,
    MAX_MIB_S,
    add,
    held_by,
    measure,
    usage_flags,
)
from tests.factories import HELD, a_job, a_tres

# (what it is, changes to a six-second run from 100, elapsed s, cpu s, gpu s, MiB s, node s)
USED = [
    ("a plain run", {}, 6, 12, 6, 600, 6),
    ("running: nothing until the end is known", {"end": 0}, 0, 0, 0, 0, 0),
    ("never started", {"start": 0}, 0, 0, 0, 0, 0),
    ("never started, with the TRES of its first run", {"start": 0, "tres": "cpu=1"}, 0, 0, 0, 0, 0),
    ("start equals end, nothing allocated", {"end": 100, "tres": ""}, 0, 0, 0, 0, 0),
    ("start before submit: a resized run", {"start": 90, "tres": "cpu=1"}, 6, 6, 0, 0, 0),
    ("suspended for a while", {"end": 172, "suspended_s": 60}, 12, 24, 12, 1200, 12),
    ("suspended for longer than it lasted", {"suspended_s": 7}, 0, 0, 0, 0, 0),
    ("revoked: another cluster of the federation ran it", {"state": "REVOKED"}, 0, 0, 0, 0, 0),
    ("a state of tomorrow", {"state": "EXPLODED"}, 6, 12, 6, 600, 6),
    ("no memory named", {"tres": "cpu=2"}, 6, 12, 0, 0, 0),
]


@pytest.mark.parametrize(("what", "over", "elapsed", "cpu", "gpu", "mem", "node"), USED)
def test_usage_follows_slurms_rules(
    what: str, over: dict[str, Any], elapsed: int, cpu: int, gpu: int, mem: int, node: int
) -> None:
    used = measure(a_job(**over))
    assert isinstance(used, Usage), what
    assert used[1:6] == (elapsed, cpu, gpu, mem, node), what


GPUS = [
    ("gres/gpu=4,gres/gpu:a100=3,gres/gpu:h100=1", 4),
    ("gres/gpu=4,gres/gpu:a100=3", 4),
    ("gres/gpu=2", 2),
    ("gres/gpu:a100=3,gres/gpu:h100=1", 4),
    ("gres/gpu=0", 0),
    ("gres/gpumem=40000,gres/gpuutil=50", 0),
    ("gres/gpu=1,gres/gpu:a100=3", 3),
    ("", 0),
]


@pytest.mark.parametrize(("tres", "gpus"), GPUS)
def test_gpus_are_counted_once_however_they_are_listed(tres: str, gpus: int) -> None:
    assert held_by(a_tres(tres)).gpu == gpus


REFUSED = [
    ("ended before it started", {"start": 200, "end": 150, "submit": 100}, "end", "started at 200"),
    ("ended before it was submitted", {"submit": 200}, "end", "submitted at 200"),
    ("ran, but nobody knows on what", {"tres": ""}, "alloc_tres", "AllocTRES is empty"),
    ("absurd", {"tres": "cpu=1000000000000000"}, "alloc_tres", ""),
    ("absurdly long", {"end": MAX_EPOCH_S, "tres": "mem=99999999"}, "alloc_tres", "no cluster can"),
]


@pytest.mark.parametrize(("what", "over", "field", "says"), REFUSED)
def test_the_impossible_is_refused_with_a_reason(
    what: str, over: dict[str, Any], field: str, says: str
) -> None:
    refused = measure(a_job(**over))
    if what == "absurd":  # 10^15 cores for six seconds still fit; a year of them do not
        refused = measure(a_job(**{**over, "end": 31_536_100}))
    assert isinstance(refused, Rejected), what
    assert refused.field == field
    assert says in refused.reason


@pytest.mark.parametrize(
    ("energy_j", "used"), [(-1, UNKNOWN), (0, UNKNOWN), (1, 1), (5_000, 5_000)]
)
def test_unknown_energy_is_unknown(energy_j: int, used: int) -> None:
    usage = measure(a_job(energy_j=energy_j))
    assert isinstance(usage, Usage)
    assert usage.energy_j == used


FLAGS = [
    ({}, ()),
    ({"end": 0, "state": "RUNNING"}, ()),
    ({"state": "EXPLODED"}, (Flag.UNKNOWN_STATE,)),
    ({"tres": "cpu=2"}, (Flag.NO_MEMORY,)),
    ({"suspended_s": 7}, (Flag.SUSPENDED_TOO_LONG,)),
]


@pytest.mark.parametrize(("over", "flags"), FLAGS)
def test_what_is_odd_is_flagged(over: dict[str, Any], flags: tuple[Flag, ...]) -> None:
    record = a_job(**over)
    usage = measure(record)
    assert isinstance(usage, Usage)
    assert usage_flags(record, usage) == flags


times = st.integers(0, 2_000)


@given(submit=times, start=times, end=times, suspended=times, cpus=st.integers(1, 10**6))
def test_usage_is_never_negative_nor_beyond_the_time_on_the_clock(
    submit: int, start: int, end: int, suspended: int, cpus: int
) -> None:
    used = measure(
        a_job(
            submit=submit, start=start, end=end, suspended_s=suspended,
            alloc_tres=(("cpu", cpus), ("mem", 1)),
        )
    )  # fmt: skip
    if isinstance(used, Usage):
        wall = max(0, end - max(start, submit)) if start and end else 0
        assert used.elapsed_s == max(0, wall - suspended)
        assert used.cpu_s == used.elapsed_s * cpus
        assert used.mem_mib_s == used.elapsed_s
    else:
        assert end < max(start, submit)


@given(st.integers(1, 10**15), st.integers(1, MAX_EPOCH_S))
def test_what_is_accepted_fits_the_store(count: int, seconds: int) -> None:
    used = measure(a_job(submit=1, start=1, end=seconds, alloc_tres=(("billing", count),)))
    if isinstance(used, Usage):
        assert count * (seconds - 1) <= MAX_BASE_UNITS
        assert MAX_BASE_UNITS * 1_000_000 // 3_600 < 2**63


def test_the_largest_machine_for_a_year_is_not_absurd() -> None:
    tres = "cpu=1000000,gres/gpu=1000000,mem=4096000000,node=100000"
    used = measure(a_job(submit=1, start=1, end=1 + 365 * 86_400, tres=tres))
    assert isinstance(used, Usage)
    assert used.mem_mib_s == 4_096_000_000 * 365 * 86_400
    assert MAX_MIB_S * 1_000_000 // (3_600 * 1_024) < 2**63


def test_disjoint_runs_add_up_and_unknown_energy_adds_nothing() -> None:
    one = measure(a_job(energy_j=40))
    other = measure(a_job(start=300, end=310, suspended_s=2))
    assert isinstance(one, Usage)
    assert isinstance(other, Usage)
    assert add([one, other]) == Usage(
        (Span(100, 106, 0, HELD), Span(300, 310, 2, HELD)), 14, 28, 14, 1400, 14, 40
    )
    assert add([other]).energy_j == UNKNOWN
    assert NO_USAGE.spans == ()
