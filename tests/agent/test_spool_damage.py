"""The spool's file cut at any byte, torn, flipped: an earlier state or set aside, never wrong.

``JOBLEDGER_EVERY_BYTE=1`` takes every byte where a plain run takes some.
"""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jobledger_agent.protocol.wire import Encoded
from jobledger_agent.spooling.spool import Sighting, Spool, SpoolDamaged, SpoolError

NOW = 1_790_000_000
EVERY_BYTE = bool(os.environ.get("JOBLEDGER_EVERY_BYTE"))
STEP = 1 if EVERY_BYTE else 5
FLIPS = 20_000 if EVERY_BYTE else 2_000
TEARS = 4_000 if EVERY_BYTE else 600
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it


class State(NamedTuple):
    """What a spool says of itself."""

    position: str
    waiting: tuple[tuple[int, bytes], ...]
    held: tuple[int, ...]
    seen: tuple[bool, ...]


class Recorded(NamedTuple):
    """Files as they were at one moment, and every state up to then."""

    file: bytes
    log: bytes
    states: frozenset[State]
    payloads: frozenset[tuple[int, bytes]]


SIGHTINGS = [Sighting("alpha", job_id, NOW, b"d" * 16) for job_id in range(1, 9)]


def state_of(spool: Spool) -> State:
    return State(
        spool.position("s"),
        tuple((block.records, block.payload) for block in spool.head(0, 100)),
        tuple(sorted(each.records for each in spool.held())),
        tuple(spool.unseen(SIGHTINGS)),
    )


def a_life(path: Path) -> Iterator[tuple[str, Spool]]:
    """Everything that a spool does, in small; yields after each transaction."""
    with sqlite3.connect(path) as plain:  # small pages: more of them in as many bytes
        plain.execute("PRAGMA page_size = 512")
        plain.execute("PRAGMA application_id = 1")
    plain.close()
    with sqlite3.connect(path) as plain:
        plain.execute("PRAGMA application_id = 0")
    plain.close()
    spool = Spool(path, now_s=lambda: NOW)
    yield "opened", spool
    for number in range(1, 9):
        blocks = [Encoded(bytes([64 + number]) * (90 * number), number, 0)]
        spool.append("s", blocks, f"p{number}" * 9, number, SIGHTINGS[number - 1 : number])
        yield "appended", spool
        if number == 4:
            spool.forget([2])
            yield "forgotten", spool
            spool.hold(3, "refused")
            yield "held", spool
        if number == 5:
            spool._file.writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()  # noqa: SLF001
            yield "written back", spool
    spool.release_held()
    yield "released", spool
    spool.close()
    yield "closed", spool


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="spool-cut-", dir=MEMORY if MEMORY.is_dir() else None))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def life(folder: Path) -> dict[str, Recorded]:
    """The files at each kind of moment (the last of it)."""
    path = folder / "life.db"
    states: set[State] = set()
    payloads: set[tuple[int, bytes]] = set()
    recorded: dict[str, Recorded] = {}
    log_path = Path(f"{path}-wal")
    for moment, spool in a_life(path):
        if moment != "closed":
            states.add(state_of(spool))
            payloads.update(state_of(spool).waiting)
        log = log_path.read_bytes() if log_path.exists() else b""
        recorded[moment] = Recorded(path.read_bytes(), log, frozenset(states), frozenset(payloads))
    return recorded


EMPTY = State("", (), (), (True,) * len(SIGHTINGS))


def is_harmless(state: State, told: State) -> bool:
    """Whether a state lost nothing of what was once told but memory of what was sent.

    A sighting that is not remembered, a block that is not held any more, are sent again;
    a position that is not found lets the source be read from where it begins without one.
    """
    blocks = len(told.waiting) + len(told.held)
    return (
        state.position in (told.position, "")
        and len(state.waiting) + len(state.held) == blocks
        and (state.waiting == told.waiting or state.held != told.held)
        and all(now or not then for now, then in zip(state.seen, told.seen, strict=True))
    )


class Lab:
    """Opens what was made of a spool, again and again in one place."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "copy.db"

    def outcome(self, file: bytes, log: bytes, recorded: Recorded) -> str:
        """What becomes of these bytes; AssertionError if that must not be."""
        for old in self.path.parent.glob("copy.db*"):
            old.unlink()
        self.path.write_bytes(file)
        if log:
            Path(f"{self.path}-wal").write_bytes(log)
        Path(f"{self.path}.lock").touch()  # it was a spool before
        try:
            spool = Spool(self.path, now_s=lambda: NOW)
        except SpoolError as error:
            assert "format" in str(error), error  # noqa: PT017 - it looks like a newer one
            return "refused"
        try:
            return self.judged(spool, recorded)
        finally:
            spool.close()

    def judged(self, spool: Spool, recorded: Recorded) -> str:
        outcome = "set aside" if spool.notice else "sound"
        try:
            state = state_of(spool)
        except SpoolDamaged:
            outcome, state = "found later", state_of(spool)
        assert set(state.waiting) <= recorded.payloads
        if outcome == "sound":
            assert any(is_harmless(state, told) for told in (*recorded.states, EMPTY)), state
        else:
            assert state.position == ""
            assert all(state.seen)
        try:
            spool.append("s", [Encoded(b"new", 1, 0)], "on", 0)  # it works
        except SpoolDamaged:
            outcome = "found later"
            assert spool.position("s") == ""
            spool.append("s", [Encoded(b"new", 1, 0)], "on", 0)
        assert spool.head(0, 100)[-1].payload == b"new"
        return outcome


@pytest.fixture
def lab(folder: Path) -> Lab:
    return Lab(folder)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("moment", ["released", "written back", "held"])
def test_a_log_cut_at_any_byte(lab: Lab, life: dict[str, Recorded], moment: str) -> None:
    recorded = life[moment]
    outcomes = {
        lab.outcome(recorded.file, recorded.log[:length], recorded)
        for length in range(0, len(recorded.log) + 1, STEP)
    }
    assert "sound" in outcomes
    assert outcomes <= {"sound", "set aside"}


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("moment", ["closed", "written back"])
def test_a_file_cut_at_any_byte(lab: Lab, life: dict[str, Recorded], moment: str) -> None:
    recorded = life[moment]
    for length in range(1, len(recorded.file), STEP):
        outcome = lab.outcome(recorded.file[:length], b"", recorded)
        assert outcome in ("set aside", "found later"), length
    assert lab.outcome(recorded.file, recorded.log, recorded) == "sound"


@pytest.mark.slow
def test_a_bit_that_flips_anywhere_is_found_or_harmless(
    lab: Lab, life: dict[str, Recorded]
) -> None:
    dice = random.Random(7)
    outcomes: dict[str, int] = {}
    for _ in range(FLIPS):
        recorded = life[dice.choice(("closed", "released", "written back"))]
        whole = bytearray(recorded.file + recorded.log)
        whole[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        file, log = whole[: len(recorded.file)], whole[len(recorded.file) :]
        outcome = lab.outcome(bytes(file), bytes(log), recorded)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert outcomes["set aside"] > FLIPS // 20
    assert outcomes["found later"] > FLIPS // 200


@pytest.mark.slow
def test_sectors_that_never_reached_the_disk(lab: Lab, life: dict[str, Recorded]) -> None:
    dice = random.Random(11)
    for _ in range(TEARS):
        recorded = life[dice.choice(("closed", "released", "written back"))]
        whole = bytearray(recorded.file + recorded.log)
        for _ in range(dice.randint(1, 4)):
            start = dice.randrange(len(whole) // 512) * 512
            whole[start : start + 512] = bytes(len(whole[start : start + 512]))
        file, log = whole[: len(recorded.file)], whole[len(recorded.file) :]
        lab.outcome(bytes(file), bytes(log), recorded)


def test_pages_of_different_times_are_found(lab: Lab, life: dict[str, Recorded]) -> None:
    """Lost writes: each page alone as it was when the log was last written back."""
    old, new = life["written back"], life["closed"]
    outcomes = set()
    for start in range(512, len(old.file), 512):
        mixed = bytearray(new.file)
        mixed[start : start + 512] = old.file[start : start + 512]
        outcomes.add(lab.outcome(bytes(mixed), b"", new))
    assert "set aside" in outcomes


WRITER = """
import sys
from pathlib import Path
from jobledger_agent.spooling.spool import Spool, SpoolFull
from jobledger_agent.protocol.wire import Encoded
spool = Spool(Path(sys.argv[1]))
print("open", flush=True)
for number in range(1, 41):
    while True:
        try:
            spool.append("s", [Encoded(b"%d" % number, 1, 0)], str(number), number)
        except SpoolFull as full:
            print("refused", full, flush=True)
        else:
            break
    print(number, flush=True)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("when", ["12+9", "15+4", "20..23"])
def test_a_disk_that_fails_to_sync_is_refused_kept_and_resumed(tmp_path: Path, when: str) -> None:
    path = tmp_path / "spool.db"
    Spool(path).close()
    inject = f"inject=fdatasync,fsync:error=EIO:when={when}"
    command = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", inject]
    done = subprocess.run(
        [*command, sys.executable, "-c", WRITER, str(path)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("refused") and "cannot be written to" in line for line in said)
    assert [line for line in said if line.isdigit()] == [str(number) for number in range(1, 41)]
    spool = Spool(path)
    assert spool.notice == ""
    assert [int(block.payload) for block in spool.head(0, 100)] == list(range(1, 41))
    assert spool.position("s") == "40"
    spool.close()
