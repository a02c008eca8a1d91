"""One printed value -> one typed value, exactly, or None."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.parsing import fields
from jobledger_agent.parsing.fields import PLAIN, ExitCode, JobIds, State
from jobledger_agent.records.job import ARRAY_REMAINDER, UNKNOWN

UTC_TIME = fields.time_reader(ZoneInfo("UTC"))
BANGKOK = fields.time_reader(ZoneInfo("Asia/Bangkok"))
NEW_YORK = fields.time_reader(ZoneInfo("America/New_York"))
KOLKATA = fields.time_reader(ZoneInfo("Asia/Kolkata"))


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1795199294", 1_795_199_294),
        ("0", 0),
        ("", 0),
        ("Unknown", 0),
        ("None", 0),
        ("4294967294", 0),  # NO_VAL
        ("4294967295", 0),  # INFINITE
        ("2026-11-20T18:28:14", 1_795_199_294),
        ("2026-11-20T18:28:14+0000", 1_795_199_294),
        ("2026-11-20T18:28:14Z", 1_795_199_294),
        ("2026-11-20T13:28:14-05:00", 1_795_199_294),
    ],
)
def test_times_are_epochs_or_local(text: str, epoch: int) -> None:
    assert UTC_TIME(text) == epoch


def test_a_local_time_needs_its_zone() -> None:
    """Conformance case 42: daylight saving time, and zones of half an hour."""
    assert BANGKOK("2026-11-21T01:28:14") == 1_795_199_294
    assert NEW_YORK("2026-11-20T13:28:14") == 1_795_199_294
    assert KOLKATA("2026-11-20T23:58:14") == 1_795_199_294
    summer, winter = NEW_YORK("2026-10-31T12:00:00"), NEW_YORK("2026-11-01T12:00:00")
    assert summer is not None
    assert winter == summer + 25 * 3600


@pytest.mark.parametrize(
    "text",
    ["18:28", "2026-11-20", "2026-13-20T18:28:14", "2026-11-20 18:28:14", "-5", "1.5", "12e3", "x",
     "123456789012", "\uff11\uff17", "1795199294\n", "1969-12-31T23:59:59"],
)  # fmt: skip
def test_what_is_no_time_is_not_read(text: str) -> None:
    assert UTC_TIME(text) is None


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("00:00:00", 0),
        ("00:00.025", 25),
        ("59:59.999", 3_599_999),
        ("01:02:03", 3_723_000),
        ("1-00:00:01", 86_401_000),
        ("365-23:59:59", 31_622_399_000),
        ("00:00.0259", 25),
        ("100:00:00", 360_000_000),
    ],
)
def test_durations(text: str, ms: int) -> None:
    assert fields.duration_ms(text) == ms
    assert fields.duration_s(text) == ms // 1000


@pytest.mark.parametrize("text", ["5", "1-5", "1:2:3", "a:00", "00:00:0", "-00:00:01", "1-10:00"])
def test_what_is_no_duration_is_not_read(text: str) -> None:
    assert fields.duration_ms(text) is None


@given(st.integers(0, 10**9))
def test_a_duration_comes_back(seconds: int) -> None:
    days, rest = divmod(seconds, 86_400)
    text = f"{days}-" * bool(days) + f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    assert fields.duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("", UNKNOWN), ("0", 0), ("3227648", 3_227_648), ("162888K", 166_797_312),
     ("1.50M", 1_572_864), ("2G", 2_147_483_648), ("4000Mc", 4_194_304_000), ("abc", None),
     ("1KB", None), ("-5K", None)],
)  # fmt: skip
def test_sizes_in_bytes(text: str, size: int | None) -> None:
    assert fields.size_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COMPLETED", State("COMPLETED", UNKNOWN)),
        ("CANCELLED by 12001", State("CANCELLED", 12001)),
        ("CANCELLED by 0", State("CANCELLED", 0)),
        ("OUT_OF_MEMORY", State("OUT_OF_MEMORY", UNKNOWN)),
        ("BOOT_FAIL", State("BOOT_FAIL", UNKNOWN)),
        ("DEADLINE", State("DEADLINE", UNKNOWN)),
        ("EVAPORATED", State("EVAPORATED", UNKNOWN)),  # of some Slurm to come
        ("CANCELLED+", None),
        ("completed", None),
        ("", None),
        ("COMPLETED\n", None),
        ("0:0", None),
    ],
)
def test_states(text: str, expected: State | None) -> None:
    """Conformance case 30."""
    assert fields.state(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0:0", ExitCode(0, 0)), ("1:15", ExitCode(1, 15)), ("0:125", ExitCode(0, 125)),
     ("", ExitCode(0, 0)), ("0", None), ("a:b", None), ("99999999999:0", None)],
)  # fmt: skip
def test_exit_codes(text: str, expected: ExitCode | None) -> None:
    assert fields.exit_code(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("37", PLAIN),
        ("37_10", JobIds(37, 10, 0, UNKNOWN)),
        ("37_0", JobIds(37, 0, 0, UNKNOWN)),
        ("54_[3-30%2]", JobIds(54, ARRAY_REMAINDER, 0, UNKNOWN)),
        ("22_[2-4,7]", JobIds(22, ARRAY_REMAINDER, 0, UNKNOWN)),
        ("22_[1,3,5,...]", JobIds(22, ARRAY_REMAINDER, 0, UNKNOWN)),
        ("426+1", JobIds(0, UNKNOWN, 426, 1)),
        ("1.batch", None),
        ("426+0.1", None),
        ("x", None),
        ("", None),
    ],
)
def test_displayed_job_ids(text: str, expected: JobIds | None) -> None:
    assert fields.job_ids(text) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12760536031503386624", 12_760_536_031_503_386_624),  # no signed 64-bit number
        ("sB25M7X6ANVM00", 12_760_536_031_503_962_112),  # the two columns of one captured row
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", None),
        ("", 0),
        ("-1", None),
        ("sB25M7X6ANVM0", None),
        ("zB25M7X6ANVM00", None),
    ],
)
def test_row_indexes_use_all_64_bits(text: str, number: int | None) -> None:
    assert fields.identifier(text) == number


@pytest.mark.parametrize(
    ("raw", "text", "seconds"),
    [("30", "00:30:00", 1800), ("UNLIMITED", "UNLIMITED", UNKNOWN), ("", "", UNKNOWN),
     ("Partition_Limit", "Partition_Limit", UNKNOWN), ("1440", "1-00:00:00", 86_400)],
)  # fmt: skip
def test_time_limits(raw: str, text: str, seconds: int) -> None:
    assert fields.limit_minutes_s(raw) == fields.limit_s(text) == seconds


@given(st.lists(st.one_of(st.integers(0, 10**19).map(str), st.text(max_size=5)), min_size=1))
def test_a_column_of_counts_is_its_counts(values: list[str]) -> None:
    """The way through C and the careful way say the same."""
    assert fields.counts(values) == [fields.count(value) for value in values]


@given(st.lists(st.one_of(st.integers(0, 10**10).map(str), st.sampled_from(["", "Unknown", "x"])),
                min_size=1))  # fmt: skip
def test_a_column_of_times_is_its_times(values: list[str]) -> None:
    assert fields.times(values, UTC_TIME) == [UTC_TIME(value) for value in values]


@given(st.text(max_size=40))
def test_no_text_raises(text: str) -> None:
    readers = (
        UTC_TIME, fields.count, fields.optional_count, fields.identifier, fields.duration_ms,
        fields.duration_s, fields.limit_s, fields.limit_minutes_s, fields.size_bytes, fields.state,
        fields.exit_code, fields.job_ids,
    )  # fmt: skip
    for reader in readers:
        assert reader(text) is None or text.isprintable()


def test_text_is_made_fit_for_any_store() -> None:
    """Conformance case 29."""
    assert fields.clean("caf\udce9-\udcff\x00") == "caf\ufffd-\ufffd\ufffd"
    assert fields.clean("Zoë 日本 🚀") == "Zoë 日本 🚀"
