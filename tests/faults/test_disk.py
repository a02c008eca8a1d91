"""Faults 1 to 10: the agent's disk."""

import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from jobledger_agent.spooling.spool import peek
from jobledger_agent.spooling.spoolfile import SpoolError
from tests.faults.trouble import fill, small_disk
from tests.faults.truth import add_up, some_runs, write_runs
from tests.faults.world import CLUSTER, PATIENCE_S, World, said, until

KILLS = 75
DAMAGES = 6
FEW = 2_500
TORN_BYTES = 512


def spooled(path: Path) -> int:
    """Records that wait in a spool; 0 while there is none."""
    try:
        return peek(path)[0].records
    except SpoolError:
        return 0


def read_but_not_sent(world: World, dump: Path, spool: Path, records: int, *, killed: bool) -> None:
    """Leave a spool with all of a dump: in its log after a kill, else in the file itself."""
    agent = world.start_once(dump, spool=spool)
    until("everything is in the spool", lambda: spooled(spool) == records)
    if killed:
        world.kill_agent(agent)
    else:
        assert agent.stop() == 1


def parts_of(spool: Path) -> list[Path]:
    """The files of a spool that hold something."""
    files = [spool, spool.with_name(f"{spool.name}-wal")]
    return [file for file in files if file.exists() and file.stat().st_size]


def after_damage(world: World, damage: Callable[[Path, Random], None]) -> None:
    """Damage many spools, each between two runs of its agent; nothing may be missing."""
    expected = {}
    for number in range(DAMAGES):
        runs = some_runs(FEW, seed=number)
        cluster, spool = f"c{number}", world.folder / f"spool{number}.db"
        dump = write_runs(world.folder / f"{cluster}.txt", runs, cluster)
        read_but_not_sent(world, dump, spool, FEW, killed=number % 3 > 0)
        damage(world.dice.choice(parts_of(spool)), world.dice)
        expected[cluster] = (dump, spool, add_up(runs))
    world.start_collector()
    agents = [world.start_once(dump, spool=spool) for dump, spool, _ in expected.values()]
    for agent, (dump, spool, _) in zip(agents, expected.values(), strict=True):
        # Damage that shows only when a block is read ends an agent; systemd starts the next.
        if agent.process.wait(60):
            assert said(agent, "was damaged"), agent.output()
            world.delivers(dump, spool=spool)
    for cluster, (_, _, sums) in expected.items():
        world.assert_exact(sums, cluster=cluster)


def cut(file: Path, dice: Random) -> None:
    with file.open("r+b") as out:
        out.truncate(dice.randrange(file.stat().st_size))


def tear(file: Path, dice: Random) -> None:
    sectors = file.stat().st_size // TORN_BYTES
    with file.open("r+b") as out:
        for sector in dice.sample(range(sectors), min(sectors, 4)):
            out.seek(sector * TORN_BYTES)
            out.write(bytes(TORN_BYTES))


def flip(file: Path, dice: Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(4):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    file.write_bytes(content)


def test_fault_01_kill_9_agent(world: World) -> None:
    """Killed anywhere: while it starts, reads, spools, sends, forgets."""
    runs = some_runs(30_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    world.start_collector()
    agent = world.start_once(dump)
    while world.kills < KILLS:
        time.sleep(world.dice.uniform(0.02, 0.22))
        world.kill_agent(agent)
        agent = world.start_once(dump)
    world.finishes(agent)
    assert world.kills >= KILLS
    world.assert_exact(add_up(runs))


def test_fault_02_spool_cut_at_any_byte(world: World) -> None:
    after_damage(world, cut)


def test_fault_03_torn_sectors(world: World) -> None:
    after_damage(world, tear)


def test_fault_04_bit_flip(world: World) -> None:
    after_damage(world, flip)


@pytest.mark.parametrize("which", ["1..4", "4..7", "5+"])
def test_fault_05_fsync_eio(world: World, which: str) -> None:
    """The disk refuses to sync, for a while or for good; no block counts as kept meanwhile."""
    runs = some_runs(FEW * 4)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    world.start_collector()
    inject = f"inject=fdatasync,fsync:error=EIO:when={which}"
    under = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", inject)
    agent = world.start_once(dump, under=under)
    until("it is told", lambda: said(agent, "I/O error") or not agent.is_running)
    assert said(agent, "I/O error"), agent.output()
    if which.endswith("+"):
        world.kill_agent(agent)  # a disk that never comes back is another machine's
    if agent.process.wait(PATIENCE_S):
        world.delivers(dump)
    world.assert_exact(add_up(runs))


def test_fault_06_disk_full(world: World) -> None:
    """Others fill the disk to its last byte while records wait: nothing can even be forgotten."""
    runs = some_runs(40_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    with small_disk(world.folder, 66) as disk:
        agent = world.start_once(dump, spool=disk / "spool.db")
        until("the agent leaves its reserve alone", lambda: said(agent, "are free on the disk"))
        ballast = fill(disk)
        world.start_collector()
        until("records arrive", lambda: world.count("job_runs"))
        time.sleep(1.0)
        assert agent.is_running
        ballast.unlink()
        world.finishes(agent)
        world.agents.remove(agent)
    world.assert_exact(add_up(runs))


def test_fault_06_disk_full_without_a_mount(world: World) -> None:
    """The same with a limit on the size of files, set while the agent writes."""
    runs = some_runs(20_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    agent = world.start_once(dump)
    until("it spools", lambda: spooled(world.spool) > 1_000)
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (1 << 17, -1))
    world.start_collector()
    until("it is told", lambda: said(agent, "cannot be written to now"))
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (-1, -1))
    world.finishes(agent)
    world.assert_exact(add_up(runs))


def test_fault_07_quota_reached(world: World) -> None:
    """The agent stops reading and says so, in its log and its metrics, and goes on by itself."""
    long_list = "n[" + ",".join(f"{n:05}" for n in range(1_500)) + "]"
    runs = [run._replace(node_list=f"{long_list}{run.job_id}") for run in some_runs(2_500)]
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    small = {"JOBLEDGER_AGENT_SPOOL_MAX_BYTES": str(16 << 20)}
    where = ("--metrics-listen", f"127.0.0.1:{world.metrics_port}")
    agent = world.start_agent("run", "--input", str(dump), *where, environment=small)
    until("it says so", lambda: said(agent, "spool.max_bytes"))
    assert world.metric("jobledger_agent_spool_full") == 1
    taken = sum(part.stat().st_size for part in parts_of(world.spool)[:1])
    assert taken <= (16 << 20) + (4 << 20)
    world.start_collector()
    until("all of it arrives", lambda: world.count("job_runs") == len(runs))
    until("it says that there is room", lambda: said(agent, "has room again"))
    until("nothing waits", lambda: world.metric("jobledger_agent_spool_records") == 0)
    assert world.metric("jobledger_agent_spool_full") == 0
    world.assert_exact(add_up(runs))


def test_fault_08_spool_deleted_while_running(world: World) -> None:
    runs = some_runs(40_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    agent = world.start_once(dump)
    until("it spools", lambda: spooled(world.spool) > 1_000)
    for part in parts_of(world.spool):
        part.unlink()
    world.start_collector()
    if agent.process.wait(PATIENCE_S):
        world.delivers(dump)
    assert said(agent, "was removed")
    world.assert_exact(add_up(runs))


def test_fault_09_snapshot_rollback(world: World) -> None:
    """The machine goes back to an hour ago: what was sent since is sent again, and known."""
    runs = some_runs(20_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    snapshot = world.folder / "snapshot"
    agent = world.start_once(dump)
    until("it spools", lambda: spooled(world.spool) > 1_000)
    agent.process.send_signal(signal.SIGSTOP)
    snapshot.mkdir()
    for part in parts_of(world.spool):
        shutil.copy(part, snapshot)
    agent.process.send_signal(signal.SIGCONT)
    world.start_collector()
    world.finishes(agent)
    for _ in range(2):
        for part in parts_of(world.spool):
            part.unlink()
        for part in snapshot.iterdir():
            shutil.copy(part, world.folder)
        world.delivers(dump)
        world.assert_exact(add_up(runs))


def test_fault_10_two_agents_on_one_spool(world: World) -> None:
    """The lock refuses the second, which harms nothing."""
    runs = some_runs(20_000)
    dump = write_runs(world.folder / "dump.txt", runs, CLUSTER)
    agent = world.start_once(dump)
    until("it spools", lambda: spooled(world.spool) > 1_000)
    second = world.start_once(dump, name="second")
    world.finishes(second, status=1)
    assert said(second, "is in use by another jobledger-agent", str(agent.process.pid))
    world.start_collector()
    world.finishes(agent)
    world.assert_exact(add_up(runs))
