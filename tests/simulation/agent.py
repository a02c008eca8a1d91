"""One agent of a world: production Spool, Link, Sender, feed and Cycle, on a simulated clock."""

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from jobledger_agent.daemon import feed
from jobledger_agent.daemon.kick import Look
from jobledger_agent.delivery.link import Identity, Link
from jobledger_agent.health import Health
from jobledger_agent.protocol import wire
from jobledger_agent.protocol.stream import Event
from jobledger_agent.protocol.wire import Compared, Encoded
from jobledger_agent.reading.cycle import Cycle, CycleSettings
from jobledger_agent.records.job import SlurmJob
from jobledger_agent.settings.sections import CollectorSection
from jobledger_agent.source import SourceError
from jobledger_agent.sources.feeds import Feed
from jobledger_agent.spooling.spool import Sighting, Spool, SpoolFull
from jobledger_proto.v1 import usage_pb2 as pb
from tests.simulation.truth import CLUSTER, Slurm

SETTINGS = CycleSettings(lookback_s=2 * 86_400, sweep_days=3)
SPOOL_BYTES = 1 << 20


class Crash(BaseException):
    """The agent is killed here."""


class Host(Protocol):
    """What an agent needs of its world."""

    def agent_may_crash(self, where: str) -> None:
        """Raise Crash, or not."""

    def meanwhile(self, agent: "Agent") -> None:
        """Let the agent's link act, perhaps, while its reader reads."""

    def before_forget(self, agent: "Agent", block_ids: Sequence[int]) -> None:
        """Blocks are about to be deleted: each of their records must be durable elsewhere."""

    def verify(self, jobs: pb.JobColumns) -> list[int]:
        """What the collector says of these. Raises VerifyError."""

    def open_call(self, agent: "Agent", hear: Callable[[Any, Event], None]) -> Any:  # noqa: ANN401
        """Open a stream: something like ``call.Call``."""


class SimSpool(Spool):
    """The production spool on a machine that may die before and after each transaction."""

    host: Host
    agent: "Agent"
    disk_is_full = False

    def append(
        self,
        source: str,
        blocks: Sequence[Encoded],
        position: str,
        complete_through: int,
        sightings: Sequence[Sighting] = (),
    ) -> None:
        self.host.meanwhile(self.agent)
        self.host.agent_may_crash("before append")
        self._refuse_if_disk_full()
        super().append(source, blocks, position, complete_through, sightings)
        self.host.agent_may_crash("after append")

    def append_ahead(self, source: str, blocks: Sequence[Encoded]) -> None:
        self._refuse_if_disk_full()
        super().append_ahead(source, blocks)
        self.host.agent_may_crash("after append ahead")

    def forget(self, block_ids: Sequence[int]) -> None:
        self.host.agent_may_crash("before forget")
        self._refuse_if_disk_full()
        self.host.before_forget(self.agent, block_ids)
        super().forget(block_ids)
        self.host.agent_may_crash("after forget")

    def hold(self, block_id: int, reason: str) -> None:
        self.host.agent_may_crash("before hold")
        self._refuse_if_disk_full()
        super().hold(block_id, reason)
        self.host.agent_may_crash("after hold")

    def _refuse_if_disk_full(self) -> None:
        if self.disk_is_full:
            raise SpoolFull("the disk is full")


class Stopper:
    """The service's stop: who waits on it is told to stop, for nothing here waits in real time."""

    def is_set(self) -> bool:
        """Nobody stops the agent."""
        return False

    def wait(self, _: float = 0) -> bool:
        """Return at once."""
        return True


class SimComparison:
    """A comparison with the collector as it is now, over the production encoding."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def check(self, jobs: Sequence[SlurmJob]) -> list[int]:
        """Verdicts of these records."""
        if not jobs:
            return []
        return self._host.verify(pb.VerifyRequest.FromString(wire.verify_jobs(jobs)).jobs)

    def finish(self) -> Compared:
        """Nobody asks for the sums here."""
        none = wire.UsageSum(0, 0, 0, 0, 0, 0)
        return Compared(none, none, 0, 0, 0, 0, (), 0)


class SimVerifier:
    """Begins comparisons."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @contextmanager
    def comparing(self, cluster: str, begin: int, end: int) -> Iterator[SimComparison]:
        """Compare one span."""
        assert (cluster, begin <= end) == (CLUSTER, True)
        yield SimComparison(self._host)


class Agent:
    """Survives its own crashes: what it is made of is built again from what is on its disk."""

    def __init__(
        self, name: str, folder: Path, host: Host, slurm: Slurm, dice: random.Random
    ) -> None:
        self.name = name
        self.path = folder / f"{name}.db"
        self._host = host
        self._slurm = slurm
        self._dice = dice
        self.snapshot: tuple[bytes, bytes] | None = None
        self.payload_bytes_max = SPOOL_BYTES
        self.is_running = False
        self.start()

    def start(self) -> None:
        """Start from what is on the disk."""
        now_s = lambda: self._slurm.now  # noqa: E731
        self.spool = SimSpool(self.path, SPOOL_BYTES, now_s, disk_reserve_bytes=0)
        self.spool.host, self.spool.agent = self._host, self
        self.spool._payload_bytes_max = self.payload_bytes_max  # noqa: SLF001
        self.health = Health()
        self.link = Link(
            CollectorSection(), Identity(self.name, "sim", (CLUSTER,)), self.spool, self.health,
            self._complete_through, jitter_ms=lambda most: self._dice.randint(0, most),
            open_call=lambda _, hear: self._host.open_call(self, hear),
        )  # fmt: skip
        cycle = Cycle(self._slurm, SETTINGS, now=now_s, monotonic_ms=lambda: self._slurm.now * 1000)
        self.feed = Feed(cycle.name, cycle, 30, is_live=True)
        self.is_running = True

    def kill(self) -> None:
        """Kill -9: nothing but the file is left."""
        self.spool.close()
        self.is_running = False

    def _complete_through(self) -> int:
        return min((mark.acknowledged_through for mark in self.spool.marks()), default=0)

    def cycle(self, look: Look = Look.FULL) -> str:
        """Read the source once; returns what it complains of, "" for nothing."""
        intake = feed.Intake(
            self.spool, self.health, SimVerifier(self._host),  # type: ignore[arg-type]
            self.link.wake, Stopper(),  # type: ignore[arg-type]
        )  # fmt: skip
        try:
            feed.read_through(self.feed, intake, look)
        except SourceError as error:
            return str(error)
        return self.health.report().spool_full

    def take_snapshot(self) -> None:
        """Copy the disk, as a hypervisor does."""
        log = Path(f"{self.path}-wal")
        self.snapshot = (self.path.read_bytes(), log.read_bytes() if log.exists() else b"")

    def roll_back(self) -> None:
        """Go back to the last snapshot."""
        assert self.snapshot
        self.kill()
        self.wipe()
        self.path.write_bytes(self.snapshot[0])
        if self.snapshot[1]:
            Path(f"{self.path}-wal").write_bytes(self.snapshot[1])
        self.start()

    def damage(self) -> int:
        """Change one bit of what waits; returns the block's id, 0 if none waits."""
        with sqlite3.connect(self.path) as other:
            ids = [row[0] for row in other.execute("SELECT id FROM blocks")]
            if not ids:
                return 0
            chosen = self._dice.choice(ids)
            (payload,) = other.execute(
                "SELECT payload FROM blocks WHERE id = ?", (chosen,)
            ).fetchone()
            changed = bytearray(payload)
            changed[self._dice.randrange(len(changed))] ^= 1 << self._dice.randrange(8)
            other.execute("UPDATE blocks SET payload = ? WHERE id = ?", (bytes(changed), chosen))
        other.close()
        return int(chosen)

    def wipe(self) -> None:
        """Remove the disk's content."""
        for file in self.path.parent.glob(f"{self.path.name}*"):
            if file.is_file():
                file.unlink()
