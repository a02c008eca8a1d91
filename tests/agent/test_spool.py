"""What is stored stays until it is named; what is named is gone; the file defends itself."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobledger_agent.protocol.wire import Encoded
from jobledger_agent.spooling import spool as spool_module
from jobledger_agent.spooling.spool import (
    Sighting,
    Spool,
    SpoolDamaged,
    SpoolError,
    SpoolFull,
    peek,
)
from jobledger_agent.spooling.spoolfile import SLACK_BYTES

NOW = 1_790_000_000
SOURCE = "sacct:alpha"


def block(payload: bytes = b"x" * 100, records: int = 3) -> Encoded:
    return Encoded(payload, records, 0)


def seen(job_id: int, content: str = "a") -> Sighting:
    return Sighting("alpha", job_id, NOW, content.encode())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    spool = Spool(path, now_s=lambda: NOW)
    yield spool
    spool.close()


def test_a_block_waits_under_its_id_until_it_is_forgotten(spool: Spool) -> None:
    spool.append(SOURCE, [block(b"one"), block(b"two")], "p1", NOW)
    first, second = spool.head(0, 10)
    assert (first.payload, second.payload) == (b"one", b"two")
    assert spool.head(first.block_id, 10) == [second]
    assert spool.head(0, 1) == [first]
    spool.forget([first.block_id])
    assert spool.head(0, 10) == [second]


def test_an_id_is_never_used_twice(spool: Spool) -> None:
    spool.append(SOURCE, [block()], "p1", 0)
    (first,) = spool.head(0, 10)
    spool.forget([first.block_id])
    spool.append(SOURCE, [block()], "p2", 0)
    assert spool.head(first.block_id, 10)[0].block_id > first.block_id


def test_the_position_is_the_sources_own(spool: Spool) -> None:
    assert spool.position(SOURCE) == ""
    spool.append(SOURCE, [block()], "here", 0)
    spool.append("file:other", [], "there", 0)
    assert (spool.position(SOURCE), spool.position("file:other")) == ("here", "there")


def test_what_is_stored_ahead_leaves_the_position_where_it_was(spool: Spool) -> None:
    spool.append(SOURCE, [block()], "p1", 100)
    spool.append_ahead(SOURCE, [block(b"ahead")])
    assert spool.position(SOURCE) == "p1"
    assert spool.head(1, 9)[0].payload == b"ahead"
    spool.append(SOURCE, [block()], "p2", 200)
    assert spool.position(SOURCE) == "p2"
    assert spool.marks()[0].acknowledged_through == 0


def test_stats_add_up(spool: Spool) -> None:
    assert spool.stats() == (0, 0, 0, 0, 0)
    spool.append(SOURCE, [block(b"abc", 3), block(b"defg", 4)], "p", 0)
    assert spool.stats() == (7, 7, NOW, 0, 0)


def test_acknowledged_through_lags_behind_what_waits(spool: Spool) -> None:
    spool.append(SOURCE, [block()], "p1", 100)
    spool.append(SOURCE, [block()], "p2", 200)
    first, second = spool.head(0, 10)

    def acknowledged() -> tuple[int, int]:
        (mark,) = spool.marks()
        return mark.complete_through, mark.acknowledged_through

    assert acknowledged() == (200, 0)
    spool.forget([second.block_id])
    assert acknowledged() == (200, 0)
    spool.forget([first.block_id])
    assert acknowledged() == (200, 200)
    spool.append(SOURCE, [], "p3", 300)
    assert acknowledged() == (300, 300)


def test_a_sighting_is_news_once_a_content(spool: Spool) -> None:
    sightings = [seen(1), seen(2), seen(3, "b")]
    assert spool.unseen(sightings) == [True, True, True]
    spool.append(SOURCE, [block()], "p", 0, sightings[:2])
    assert spool.unseen([seen(1), seen(2, "changed"), seen(3)]) == [False, True, True]


def test_old_sightings_are_forgotten(path: Path) -> None:
    now = [NOW]
    spool = Spool(path, now_s=lambda: now[0])
    spool.append(SOURCE, [], "p", 0, [seen(1)])
    now[0] += spool_module.RECENT_SECONDS_MAX + 1
    spool.append(SOURCE, [], "p", 0, [seen(2)])
    spool.prune_recent()
    assert spool.unseen([seen(1), seen(2)]) == [True, False]
    spool.close()


def test_sightings_never_outgrow_their_share(path: Path) -> None:
    clock = iter(range(NOW, NOW + 10_000_000))
    spool = Spool(path, 1 << 20, now_s=lambda: next(clock))
    share = (1 << 20) // 4 // spool_module.RECENT_RECORD_BYTES
    for start in range(0, share * 2, 100):
        spool.append(SOURCE, [], "p", 0, [seen(start + each) for each in range(100)])
        kept = spool.unseen([seen(job) for job in range(start + 100)]).count(False)
        assert kept <= share
    assert spool.unseen([seen(share * 2 - 1)]) == [False]
    spool.close()


def test_a_full_spool_takes_nothing_and_loses_nothing(path: Path) -> None:
    spool = Spool(path, 1 << 20)
    fits = ((1 << 20) - (1 << 18)) // 50_000
    for number in range(fits):
        spool.append(SOURCE, [block(b"x" * 50_000)], str(number), 0)
    with pytest.raises(SpoolFull, match=r"spool\.max_bytes"):
        spool.append(SOURCE, [block(b"x" * 50_000)], "too many", 0)
    assert len(spool.head(0, 1000)) == fits
    assert spool.position(SOURCE) == str(fits - 1)
    spool.forget([waiting.block_id for waiting in spool.head(0, 1)])
    spool.append(SOURCE, [block(b"x" * 50_000)], "again", 0)
    assert spool.position(SOURCE) == "again"
    spool.close()


def test_the_file_never_grows_past_its_quota(path: Path) -> None:
    quota = 2 << 20
    spool = Spool(path, quota)
    for round_ in range(200):
        try:
            spool.append(SOURCE, [block(b"x" * 90_000)], str(round_), 0, [seen(round_)])
        except SpoolFull:
            spool.forget([waiting.block_id for waiting in spool.head(0, 3)])
    spool.close()
    assert path.stat().st_size <= quota + SLACK_BYTES


def files_bytes(path: Path) -> int:
    """Everything that a spool takes on its disk now."""
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))


def test_file_and_log_stay_below_the_bound_while_someone_else_reads(path: Path) -> None:
    quota = 16 << 20
    spool = Spool(path, quota)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM blocks").fetchone()  # holds the log where it is
    largest = refused = 0
    for number in range(120):
        if number == 60:
            reader.close()
        try:
            spool.append(SOURCE, [block(b"x" * 190_000)], str(number), 0, [seen(number)])
        except SpoolFull as full:
            refused += "keeps on reading" in str(full)
            if number > 60:
                spool.forget([waiting.block_id for waiting in spool.head(0, 3)])
        largest = max(largest, files_bytes(path))
    assert refused > 5
    spool.close()
    assert quota // 2 < largest <= quota + SLACK_BYTES


def test_what_changes_nothing_writes_nothing(spool: Spool, path: Path) -> None:
    spool.append(SOURCE, [block()], "p", 5)
    before = Path(f"{path}-wal").read_bytes()
    spool.append(SOURCE, [], "p", 5)
    assert Path(f"{path}-wal").read_bytes() == before


# ----------------------------------------------------------------------- held blocks


def test_a_held_block_is_offered_no_more_until_it_is_released(spool: Spool) -> None:
    spool.append(SOURCE, [block(b"one", 1), block(b"two", 2), block(b"three", 3)], "p", 7)
    first, second, third = spool.head(0, 9)
    spool.hold(second.block_id, "columns of unequal length")
    assert spool.head(0, 9) == [first, third]
    assert spool.stats() == (4, 11, NOW, 3 - 1, 1)
    (held,) = spool.held()
    assert held[1:] == (SOURCE, 2, NOW, "columns of unequal length")
    spool.forget([first.block_id, third.block_id])
    assert spool.marks()[0].acknowledged_through == 0  # what is held is not acknowledged
    assert spool.stats() == (0, 3, 0, 2, 1)
    assert spool.release_held() == 2
    (again,) = spool.head(third.block_id, 9)  # follows what a stream has sent so far
    assert (again.payload, again.records) == (b"two", 2)
    assert (spool.held(), spool.release_held()) == ([], 0)
    spool.forget([again.block_id])
    assert spool.marks()[0].acknowledged_through == 7


def test_what_is_held_outlives_the_agent(path: Path) -> None:
    first = Spool(path)
    first.append(SOURCE, [block(b"one")], "p", 0)
    first.hold(1, "refused")
    first.close()
    second = Spool(path)
    assert (second.head(0, 9), second.stats().held_blocks) == ([], 1)
    second.close()


# ------------------------------------------------------------- damage while it is open


def flip(path: Path, query: str) -> None:
    """Change a spool that is open, behind its back."""
    with sqlite3.connect(path) as other:
        other.execute(query)
    other.close()


PAYLOAD = "UPDATE blocks SET payload = x'00' WHERE id = 2"
RECORDS = "UPDATE blocks SET records = 99 WHERE id = 2"
GONE = "DELETE FROM blocks WHERE id = 2"


@pytest.mark.parametrize("damage", [PAYLOAD, RECORDS, GONE])
def test_damage_is_found_when_a_block_is_read_and_the_rest_is_carried_over(
    spool: Spool, path: Path, damage: str
) -> None:
    spool.append(SOURCE, [block(b"one"), block(b"two"), block(b"three")], "p", 0, [seen(1)])
    flip(path, damage)
    with pytest.raises(SpoolDamaged, match="set aside as"):
        spool.head(0, 9)
    assert [waiting.payload for waiting in spool.head(0, 9)] == [b"one", b"three"]
    assert [waiting.block_id for waiting in spool.head(0, 9)] == [1, 3]  # acks still fit
    assert spool.unseen([seen(1)]) == [True]
    spool.forget([1, 2, 3])
    assert spool.stats().records == 0


def test_a_reading_that_began_before_the_damage_is_refused(spool: Spool, path: Path) -> None:
    spool.position(SOURCE)
    spool.append(SOURCE, [block(b"one"), block(b"two")], "p1", 0)
    flip(path, PAYLOAD)
    with pytest.raises(SpoolDamaged):
        spool.head(0, 9)
    for _ in range(2):
        with pytest.raises(SpoolDamaged, match="read again from its position"):
            spool.append(SOURCE, [block(b"three")], "p2", 0)
        with pytest.raises(SpoolDamaged, match="read again from its position"):
            spool.append_ahead(SOURCE, [block(b"three")])
    assert spool.position(SOURCE) == ""
    spool.append(SOURCE, [block(b"two"), block(b"three")], "p2", 0)
    assert [waiting.payload for waiting in spool.head(0, 9)] == [b"one", b"two", b"three"]
    assert [waiting.block_id for waiting in spool.head(0, 9)] == [1, 3, 4]  # 2 is not used again


def test_a_position_that_is_not_what_was_stored_is_damage(spool: Spool, path: Path) -> None:
    spool.append(SOURCE, [block(b"one")], "p1", 0)
    flip(path, "UPDATE positions SET position = 'p9'")
    with pytest.raises(SpoolDamaged, match="a position is not what was stored"):
        spool.position(SOURCE)
    assert spool.position(SOURCE) == ""
    assert [waiting.payload for waiting in spool.head(0, 9)] == [b"one"]


def test_a_block_that_is_not_there_any_more_is_damage(spool: Spool, path: Path) -> None:
    spool.append(SOURCE, [block(b"one"), block(b"two")], "p", 0)
    flip(path, "DELETE FROM blocks WHERE id = 1; ")
    with pytest.raises(SpoolDamaged, match="not there any more"):
        spool.forget([1])


def test_only_the_last_damaged_files_are_kept(path: Path) -> None:
    for moment in range(5):
        spool = Spool(path, now_s=lambda moment=moment: NOW + moment)  # type: ignore[misc]
        spool.append(SOURCE, [block(b"one")], "p", 0)
        flip(path, "UPDATE blocks SET payload = x'00'")
        with pytest.raises(SpoolDamaged):
            spool.head(0, 9)
        spool.close()
    kept = sorted(each.name for each in path.parent.glob("*.damaged-*") if "-wal" not in each.name)
    assert [name for name in kept if name[-1].isdigit()] == [
        f"spool.db.damaged-{NOW + 3}", f"spool.db.damaged-{NOW + 4}"
    ]  # fmt: skip


def test_the_disk_reserve_is_left_free(path: Path) -> None:
    spool = Spool(path, disk_reserve_bytes=1 << 60)
    with pytest.raises(SpoolFull, match="free on the disk"):
        spool.append(SOURCE, [block()], "p", 0)
    assert spool.position(SOURCE) == ""
    spool.close()


def test_two_agents_on_one_spool_are_refused(spool: Spool, path: Path) -> None:
    spool.append(SOURCE, [block()], "p", 0)
    with pytest.raises(
        SpoolError, match=f"in use by another jobledger-agent .process {os.getpid()}"
    ):
        Spool(path)


def test_a_closed_spool_is_found_as_it_was(path: Path) -> None:
    first = Spool(path)
    first.append(SOURCE, [block(b"kept")], "p", 5, [seen(1)])
    first.close()
    second = Spool(path)
    assert [waiting.payload for waiting in second.head(0, 9)] == [b"kept"]
    assert (second.position(SOURCE), second.unseen([seen(1)])) == ("p", [False])
    assert second.notice == ""
    second.close()


def test_a_removed_file_is_begun_anew_and_its_sources_are_read_again(
    spool: Spool, path: Path
) -> None:
    spool.append(SOURCE, [block()], "p1", 0)
    path.unlink()
    with pytest.raises(SpoolDamaged, match=r"removed while in use.*begun anew"):
        spool.append(SOURCE, [block()], "p2", 0)
    assert spool.position(SOURCE) == ""
    spool.append(SOURCE, [block()], "p1", 0)
    assert (spool.stats().records, spool.position(SOURCE)) == (3, "p1")
    assert path.exists()


def test_a_file_that_another_one_replaced_stops_the_agent(spool: Spool, path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.write_bytes(b"another")
    with pytest.raises(SpoolError, match="replaced while in use"):
        spool.append(SOURCE, [block()], "p", 0)
    assert path.read_bytes() == b"another"


def garbage_inside(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[4096 + 20 : len(raw)] = os.urandom(len(raw) - 4096 - 20)
    path.write_bytes(raw)


def garbage_at_the_start(path: Path) -> None:
    path.write_bytes(os.urandom(100) + path.read_bytes()[100:])


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [garbage_inside, garbage_at_the_start, cut_in_half])
def test_a_damaged_spool_is_set_aside(path: Path, damage: Callable[[Path], None]) -> None:
    spool = Spool(path)
    for number in range(20):
        spool.append(SOURCE, [block(os.urandom(5000))], str(number), 0)
    spool.close()
    damage(path)
    again = Spool(path, now_s=lambda: NOW)
    aside = path.with_name(f"spool.db.damaged-{NOW}")
    assert aside.exists()
    assert str(aside) in again.notice
    assert (again.position(SOURCE), again.head(0, 9)) == ("", [])
    again.append(SOURCE, [block()], "p", 0)
    again.close()


def a_text(path: Path) -> None:
    path.write_text("root:x:0:0:root:/root:/bin/bash\n")


def a_database(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()


@pytest.mark.parametrize("make", [a_text, a_database])
def test_another_programs_file_is_not_touched(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    before = path.read_bytes()
    with pytest.raises(SpoolError, match=r"give spool\.path a file of its own"):
        Spool(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_newer_format_is_refused(path: Path) -> None:
    Spool(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(SpoolError, match="has format 99"):
        Spool(path)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="create its directory"):
        Spool(tmp_path / "nowhere" / "spool.db")


def test_others_cannot_read_it(spool: Spool, path: Path) -> None:
    spool.append(SOURCE, [block()], "p", 0)
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def test_it_can_be_looked_at_from_outside(spool: Spool, path: Path) -> None:
    spool.append(SOURCE, [block(b"abc", 3)], "p", 7)
    stats, (mark,) = peek(path)
    assert (stats.records, stats.payload_bytes) == (3, 3)
    assert (mark.source, mark.complete_through, mark.acknowledged_through) == (SOURCE, 7, 0)


def test_looking_at_a_spool_that_rests_or_is_none(path: Path) -> None:
    with pytest.raises(SpoolError, match="there is no spool"):
        peek(path)
    Spool(path).close()
    assert peek(path)[0].records == 0
    a_text(path.with_name("other"))
    with pytest.raises(SpoolError, match=r"not a spool|cannot read"):
        peek(path.with_name("other"))


WRITER = """
import sys
from pathlib import Path
from jobledger_agent.spooling.spool import Sighting, Spool
from jobledger_agent.protocol.wire import Encoded
spool = Spool(Path(sys.argv[1]))
number = int(spool.position("s") or 0)
while True:
    number += 1
    sightings = [Sighting("alpha", number, 1, b"d")]
    spool.append("s", [Encoded(b"%d" % number, 1, 0)], str(number), number, sightings)
    print(number, flush=True)
    if number % 3 == 0:
        spool.forget([spool.head(0, 1)[0].block_id])
"""


def test_kill_9_at_any_moment_loses_no_confirmed_block(path: Path) -> None:
    confirmed = 0
    for round_ in range(12):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout
            writer.stdout.readline()
            time.sleep(0.01 + 0.013 * round_)
            writer.send_signal(signal.SIGKILL)
            confirmed = max([confirmed, *map(int, writer.stdout.read().split())])
        spool = Spool(path)
        position = int(spool.position("s"))
        blocks = [int(waiting.payload) for waiting in spool.head(0, 100_000)]
        assert spool.notice == ""
        assert position >= confirmed
        assert blocks == list(range(blocks[0], position + 1))  # position and blocks are one
        assert not any(spool.unseen([Sighting("alpha", position, 1, b"d")]))
        spool.close()
    assert confirmed > 12


def test_a_log_cut_at_any_byte_is_a_whole_number_of_transactions(path: Path) -> None:
    spool = Spool(path)
    for number in range(1, 13):
        spool.append("s", [block(b"%d" % number, 1)], str(number), number, [seen(number)])
    whole, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    spool.close()
    positions = []
    for cut in [*range(0, len(log), 4099 // 3), len(log)]:
        copy = path.with_name("copy.db")
        for file in path.parent.glob("copy.db*"):
            file.unlink()
        copy.write_bytes(whole)
        Path(f"{copy}-wal").write_bytes(log[:cut])
        reopened = Spool(copy)
        position = int(reopened.position("s") or 0)
        assert [int(each.payload) for each in reopened.head(0, 99)] == [*range(1, position + 1)]
        assert reopened.unseen([seen(position + 1)]) == [True]
        assert position == 0 or reopened.unseen([seen(position)]) == [False]
        positions.append(position)
        reopened.close()
    assert positions == sorted(positions)
    assert set(positions) == set(range(13))


class SpoolMachine(RuleBasedStateMachine):
    """Any order of everything that a spool does, against plain lists."""

    @initialize()
    def start(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="spool-machine-"), "spool.db")
        self.spool = Spool(self.path)
        self.waiting: list[bytes] = []
        self.held: list[bytes] = []
        self.position = ""
        self.snapshot: tuple[bytes, bytes, list[bytes], list[bytes], str] | None = None

    @rule(payloads=st.lists(st.binary(max_size=9000), max_size=3), position=st.text(max_size=9))
    def append(self, payloads: list[bytes], position: str) -> None:
        self.spool.append("s", [Encoded(each, 1, 0) for each in payloads], position, 0)
        self.waiting += payloads
        self.position = position

    @precondition(lambda self: bool(self.waiting))
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.waiting) - 1))
        self.spool.forget([self.spool.head(0, 1000)[index].block_id])
        del self.waiting[index]

    @precondition(lambda self: bool(self.waiting))
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.waiting) - 1))
        self.spool.hold(self.spool.head(0, 1000)[index].block_id, "refused")
        self.held.append(self.waiting.pop(index))

    @rule()
    def release(self) -> None:
        assert self.spool.release_held() == len(self.held)
        released = [each.payload for each in self.spool.head(0, 1000)][len(self.waiting) :]
        assert sorted(released) == sorted(self.held)
        self.waiting += released
        self.held = []

    @rule()
    def take_snapshot(self) -> None:
        log = Path(f"{self.path}-wal")
        self.snapshot = (
            self.path.read_bytes(), log.read_bytes() if log.exists() else b"",
            list(self.waiting), list(self.held), self.position,
        )  # fmt: skip

    @precondition(lambda self: self.snapshot is not None)
    @rule()
    def roll_back(self) -> None:
        assert self.snapshot
        self.spool.close()
        for file in self.path.parent.iterdir():
            file.unlink()
        file_bytes, log_bytes, self.waiting, self.held, self.position = self.snapshot
        self.waiting, self.held = list(self.waiting), list(self.held)
        self.path.write_bytes(file_bytes)
        if log_bytes:
            Path(f"{self.path}-wal").write_bytes(log_bytes)
        self.spool = Spool(self.path)

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = Spool(self.path)

    @invariant()
    def agrees(self) -> None:
        assert [each.payload for each in self.spool.head(0, 1000)] == self.waiting
        stats = self.spool.stats()
        assert stats.payload_bytes == sum(map(len, [*self.waiting, *self.held]))
        assert (stats.held_blocks, self.spool.notice) == (len(self.held), "")
        assert self.spool.position("s") == self.position

    def teardown(self) -> None:
        self.spool.close()
        for file in self.path.parent.iterdir():
            file.unlink()
        self.path.parent.rmdir()


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
