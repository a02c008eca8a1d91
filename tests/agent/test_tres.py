"""TRES strings and JSON lists: the same figures in base units, or none at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.parsing.tres import MAX_TRES, NOTHING, Held, parse_tres, tres_of_json
from jobledger_agent.records.job import UNKNOWN, Tres

NO_VAL64 = "18446744073709551614"


def amounts(text: str) -> dict[str, int]:
    """The TRES of a string that must be one."""
    held = parse_tres(text)
    assert held is not None, text
    return dict(held.tres)


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("mem=4608M", 4608),
        ("mem=4.50G", 4608),
        ("mem=4608", 4608),
        ("mem=4718592K", 4608),
        ("mem=2T", 2_097_152),
        ("mem=1P", 1_073_741_824),
        ("mem=0", 0),
        ("mem=100M", 100),
        ("mem=0.25G", 256),
        ("mem=4.69G", 4803),  # --units=G has lost the rest: nearest MiB
        ("mem=9007199254740993M", 9_007_199_254_740_993),  # beyond what a float holds
    ],
)
def test_memory_is_the_same_mib_in_every_unit(text: str, mib: int) -> None:
    assert amounts(text) == {"mem": mib}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("billing=2,cpu=2,mem=4000M,node=1",
         (("billing", 2), ("cpu", 2), ("mem", 4000), ("node", 1))),
        ("node=1,cpu=2", (("cpu", 2), ("node", 1))),
        ("gres/gpu:a100=3,gres/gpu:h100=1,gres/gpu=4",
         (("gres/gpu", 4), ("gres/gpu:a100", 3), ("gres/gpu:h100", 1))),
        ("gres/craynetwork=0", (("gres/craynetwork", 0),)),
        ("license/matlab=2", (("license/matlab", 2),)),
        ("bb/datawarp=1T", (("bb/datawarp", 1_048_576),)),
        ("fs/disk=6977,vmem=2920K", (("fs/disk", 6977), ("vmem", 2_990_080))),
    ],
)  # fmt: skip
def test_names_are_sorted_and_counts_are_in_base_units(text: str, expected: Tres) -> None:
    held = parse_tres(text)
    assert held is not None
    assert held.tres == expected


@pytest.mark.parametrize(
    ("text", "energy_j"),
    [
        ("cpu=1", UNKNOWN),
        ("cpu=1,energy=", UNKNOWN),
        ("cpu=1,energy=0", UNKNOWN),
        ("cpu=1,energy=-2", UNKNOWN),
        (f"cpu=1,energy={NO_VAL64}", UNKNOWN),
        ("cpu=1,energy=18446744073709551615", UNKNOWN),
        ("cpu=1,energy=5000", 5000),
        ("cpu=1,energy=5K", 5120),
    ],
)
def test_energy_is_a_measurement_and_unknown_is_not_zero(text: str, energy_j: int) -> None:
    """Conformance case 33."""
    held = parse_tres(text)
    assert held == Held((("cpu", 1),), energy_j, 1, 0)


@pytest.mark.parametrize(
    "text",
    [
        "cpu",
        "cpu=",
        "=2",
        "cpu=two",
        "cpu=2,",
        "cpu=2,,mem=1M",
        "cpu=-1",
        "cpu=1e3",
        "cpu=2 ",
        "mem=4608Q",
        "mem=1.M",
        "1=2,2=4000",
        "cpu=2,cpu=2",
        "cpu=99999999999999999999",
        "cpu=٣",
        "mem=NONE",
        "cpu=2\n",
        ",".join(f"gres/x{i}=1" for i in range(MAX_TRES + 1)),
    ],
)
def test_what_is_not_tres_is_not_read(text: str) -> None:
    assert parse_tres(text) is None


@given(
    st.dictionaries(
        st.from_regex(r"[a-df-z][a-z_/:0-9]{0,20}", fullmatch=True),
        st.integers(0, 2**62),
        max_size=12,
    )
)
def test_every_combination_comes_back(counts: dict[str, int]) -> None:
    text = ",".join(f"{name}={count}" for name, count in counts.items())
    assert amounts(text) == counts


@given(st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    held = parse_tres(text)
    assert held is None or all(count >= 0 for _, count in held.tres)


@pytest.mark.parametrize(
    "count",
    [None, -2, 0, int(NO_VAL64), 2**64 - 1, {"set": False, "infinite": False, "number": 0}],
)
def test_json_energy_of_every_shape_is_unknown(count: object) -> None:
    entries = [
        {"type": "cpu", "name": None, "id": 1, "count": 2},
        {"type": "energy", "name": "", "id": 3, "count": count},
    ]
    assert tres_of_json(entries) == Held((("cpu", 2),), UNKNOWN, 2, 0)


def test_json_names_and_mib() -> None:
    entries = [
        {"type": "mem", "name": "", "id": 2, "count": 4000},
        {"type": "gres", "name": "gpu:a100", "id": 1002, "count": 1},
        {"type": "cpu", "count": {"set": True, "infinite": False, "number": 4}},
    ]
    held = tres_of_json(entries)
    assert held is not None
    assert held.tres == (("cpu", 4), ("gres/gpu:a100", 1), ("mem", 4000))


@pytest.mark.parametrize(
    "entries",
    [
        "cpu=2",
        [1],
        [{"count": 1}],
        [{"type": "cpu", "count": "2"}],
        [{"type": "cpu", "count": True}],
        [{"type": "CPU x", "count": 1}],
    ],
)
def test_json_of_another_shape_is_not_read(entries: object) -> None:
    assert tres_of_json(entries) is None
    assert tres_of_json(None) == NOTHING
