"""Faults 13, 14, 16 and 24: begun with the first test of this folder, waited for here."""

import pytest

from tests.faults.scenarios import Waiting

kinds = pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)


@kinds
def test_fault_13_half_open(waiting: Waiting, kind: str) -> None:
    assert waiting[13, kind].result() == 8_000


@kinds
def test_fault_14_latency_of_2_s(waiting: Waiting, kind: str) -> None:
    assert waiting[14, kind].result() == 3_000


@kinds
def test_fault_16_partition(waiting: Waiting, kind: str) -> None:
    assert waiting[16, kind].result() == 8_000


@kinds
def test_fault_24_slow_database(waiting: Waiting, kind: str) -> None:
    assert waiting[24, kind].result() == 3_000
