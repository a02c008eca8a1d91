"""When a source is read next: soon after a kick, never too often, later after failures."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.daemon.kick import (
    BACK_OFF_MS_MAX,
    KICK_LOOKS_MAX,
    KICK_SETTLE_MS,
    KICK_SPACING_MS,
    REST_PART,
    RETRY_MS_MIN,
    Kicks,
    Look,
    Pace,
)

POLL_S = 30
EPILOG = Path(__file__).parents[2] / "packaging" / "epilog" / "jobledger-kick"


def never(_: int) -> int:
    return 0


def always(most: int) -> int:
    return most


def a_rested_pace(now_ms: int = 0) -> Pace:
    """A source that was just read for the first time."""
    pace = Pace(POLL_S, never)
    pace.went_well(Look.FULL, now_ms, saw_an_end=False)
    return pace


def test_the_first_reading_is_due_at_once_and_whole() -> None:
    assert Pace(POLL_S, never).due(0) is Look.FULL


def test_polls_follow_each_other_and_come_a_tenth_early_at_most() -> None:
    pace = Pace(POLL_S, always)
    assert pace.due(500) is Look.FULL
    pace.went_well(Look.FULL, 1_000, saw_an_end=True)
    assert pace.wait_ms(500) == 27_000
    assert pace.due(27_499) is None
    assert pace.due(27_500) is Look.FULL


def test_a_kick_is_looked_after_once_the_record_can_be_there() -> None:
    pace = a_rested_pace()
    pace.kicked(10_000)
    assert pace.due(10_000 + KICK_SETTLE_MS - 1) is None
    assert pace.due(10_000 + KICK_SETTLE_MS) is Look.GLANCE


def test_what_was_seen_ends_the_looking() -> None:
    pace = a_rested_pace()
    pace.kicked(10_000)
    pace.went_well(Look.GLANCE, 11_200, saw_an_end=True)
    assert pace.wait_ms(11_200) == 30_000 - 11_200  # the poll that was due anyway


def test_a_record_that_is_late_is_looked_for_three_times() -> None:
    pace = a_rested_pace()
    pace.kicked(10_000)
    now_ms, looks = 10_000, 0
    while pace.due(now_ms) is not Look.FULL:
        now_ms += pace.wait_ms(now_ms)
        if pace.due(now_ms) is Look.GLANCE:
            looks += 1
            pace.went_well(Look.GLANCE, now_ms, saw_an_end=False)
    assert (looks, now_ms) == (KICK_LOOKS_MAX, 30_000)


def test_after_a_burst_there_is_one_more_look() -> None:
    pace = a_rested_pace()
    for when in (10_000, 10_300, 10_900):
        pace.kicked(when)
    pace.went_well(Look.GLANCE, 11_200, saw_an_end=True)
    assert pace.due(11_200 + KICK_SPACING_MS) is Look.GLANCE
    pace.went_well(Look.GLANCE, 13_300, saw_an_end=True)
    assert pace.due(29_999) is None


def test_a_full_reading_answers_a_kick_too() -> None:
    pace = a_rested_pace()
    pace.kicked(29_500)
    assert pace.due(30_000) is Look.FULL
    pace.went_well(Look.FULL, 30_100, saw_an_end=True)
    assert pace.due(59_999) is None


@given(kicks=st.lists(st.integers(0, 60_000), max_size=200), took_ms=st.integers(0, 5_000),
       sees=st.booleans())  # fmt: skip
def test_a_storm_of_kicks_never_asks_more_often_than_every_two_seconds(
    kicks: list[int], took_ms: int, sees: bool
) -> None:
    pace = a_rested_pace()
    ended_ms, now_ms = 0, 0
    for now_ms in range(0, 90_000, 250):
        for _ in [kick for kick in kicks if now_ms - 250 < kick <= now_ms]:
            pace.kicked(now_ms)
        if now_ms < ended_ms:
            continue
        look = pace.due(now_ms)
        if look is Look.GLANCE:
            assert now_ms - ended_ms >= KICK_SPACING_MS
        if look is not None:
            ended_ms = now_ms + took_ms
            pace.went_well(look, ended_ms, saw_an_end=sees)


@given(after_ms=st.integers(0, 20_000))
def test_no_kick_waits_longer_than_the_spacing(after_ms: int) -> None:
    pace = a_rested_pace()
    pace.kicked(1_000)
    pace.went_well(Look.GLANCE, 3_000, saw_an_end=True)
    pace.kicked(3_000 + after_ms)
    assert pace.wait_ms(3_000 + after_ms) <= max(KICK_SETTLE_MS, KICK_SPACING_MS)


@pytest.mark.parametrize(
    ("poll_s", "waits_ms"),
    [
        (30, [30_000, 60_000, 120_000, 120_000]),
        (5, [5_000, 10_000, 20_000, 20_000]),
        (120, [120_000, 240_000, BACK_OFF_MS_MAX, BACK_OFF_MS_MAX]),
        (86_400, [BACK_OFF_MS_MAX, BACK_OFF_MS_MAX]),
    ],
)
def test_failures_back_off_to_four_polls_or_five_minutes(poll_s: int, waits_ms: list[int]) -> None:
    slowest, quickest = Pace(poll_s, always), Pace(poll_s, never)
    for number, wait_ms in enumerate(waits_ms):
        now_ms = number * 1_000_000
        slowest.failed(now_ms)
        quickest.failed(now_ms)
        assert slowest.wait_ms(now_ms) == wait_ms
        assert quickest.wait_ms(now_ms) == RETRY_MS_MIN
        assert slowest.due(now_ms + wait_ms) is Look.FULL


def test_a_sick_source_is_not_kicked_and_a_well_one_forgets_its_failures() -> None:
    pace = a_rested_pace()
    pace.failed(1_000)
    pace.failed(2_000)
    pace.kicked(2_000)
    assert pace.due(2_000 + RETRY_MS_MIN) is Look.FULL
    pace.went_well(Look.FULL, 9_000, saw_an_end=False)
    assert pace.failures == 0
    assert pace.wait_ms(2_000 + RETRY_MS_MIN) == POLL_S * 1_000


def test_slurm_rests_after_a_reading_that_took_as_long_as_the_interval() -> None:
    pace = Pace(POLL_S, never)
    assert pace.due(0) is Look.FULL
    pace.went_well(Look.FULL, POLL_S * 1_000, saw_an_end=False)
    assert pace.wait_ms(POLL_S * 1_000) == POLL_S * 1_000 // REST_PART


def touch(file: Path, at_ns: int) -> None:
    os.utime(file, ns=(at_ns, at_ns))


def test_touches_of_the_file_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "kick"
    kicks = Kicks(str(file))
    assert kicks.look() == 0
    file.touch()
    assert kicks.look() == 1
    assert kicks.look() == 1
    for number in (2, 3):
        touch(file, number)
        assert kicks.look() == number
    file.unlink()
    assert kicks.look() == 3
    file.touch()
    assert kicks.look() == 4


def test_without_a_file_there_are_no_kicks(tmp_path: Path) -> None:
    assert not Kicks("").are_wanted
    assert Kicks("").look() == 0
    there = tmp_path / "old"
    there.touch()
    assert Kicks(str(there)).look() == 0  # touched before the agent started


@pytest.fixture
def epilog(tmp_path: Path) -> Path:
    """The script that is shipped, with a file of ours."""
    script = tmp_path / "epilog"
    installed = EPILOG.read_text()
    assert "/run/jobledger-agent/kick" in installed
    script.write_text(installed.replace("/run/jobledger-agent/kick", str(tmp_path / "kick")))
    script.chmod(0o755)
    return script


def test_the_epilog_kicks(epilog: Path) -> None:
    file = epilog.with_name("kick")
    file.write_text("not ours to change")
    touch(file, 1)
    kicks = Kicks(str(file))
    assert subprocess.run([epilog], check=False, timeout=5).returncode == 0
    assert kicks.look() == 1
    assert file.read_text() == "not ours to change"


@pytest.mark.parametrize("there", ["missing", "directory", "fifo", "forbidden", "dangling"])
def test_the_epilog_never_waits_never_fails_and_creates_nothing(epilog: Path, there: str) -> None:
    file = epilog.with_name("kick")
    if there == "directory":
        file.mkdir()
    elif there == "fifo":
        os.mkfifo(file)
    elif there == "forbidden":
        file.touch(0o000)
    elif there == "dangling":
        file.symlink_to(epilog.with_name("elsewhere"))
    began = time.monotonic()
    done = subprocess.run([epilog], check=False, timeout=5, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert time.monotonic() - began < 2
    assert not epilog.with_name("elsewhere").exists()
    assert file.exists() == (there not in {"missing", "dangling"})


def test_the_epilog_is_three_commands_at_most() -> None:
    lines = EPILOG.read_text().splitlines()
    assert len([line for line in lines if not line.startswith("# ")]) == 3
    assert os.access(EPILOG, os.X_OK)
