"""One cycle of questions to a live Slurm: each cluster's, one after the other.

It works on any ``accounting.Accounting``. A question that fails moves nothing:
the next cycle asks for the same again, from before it began to fail.
"""

from collections.abc import Callable, Generator, Iterator, Mapping

from jobledger_agent import clock
from jobledger_agent.reading import window
from jobledger_agent.reading.accounting import Accounting
from jobledger_agent.reading.cyclesettings import Clocks, CycleSettings
from jobledger_agent.reading.onecluster import OneCluster
from jobledger_agent.reading.stepmemory import StepMemory
from jobledger_agent.reading.window import NOTHING_KNOWN, Known
from jobledger_agent.source import Block, SourceError, SourceFacts

__all__ = ["Cycle", "CycleSettings"]

Ask = Callable[[OneCluster, Known, Callable[[Known], Block]], Iterator[Block]]
"""A part of a cycle, of one cluster in this state; the last makes a state a block's position."""


class Cycle:
    """Job records from a running Slurm; a ``source.Source`` (see ``read``)."""

    def __init__(
        self,
        accounting: Accounting,
        settings: CycleSettings | None = None,
        *,
        now: Callable[[], int] = clock.now_s,
        monotonic_ms: Callable[[], int] = clock.monotonic_ms,
    ) -> None:
        """``now`` gives epoch seconds, ``monotonic_ms`` measures how long an answer takes."""
        settings = settings or CycleSettings()
        self._accounting = accounting
        steps = StepMemory(settings.settle_s)
        clocks = Clocks(now, monotonic_ms)
        self._clusters = tuple(
            OneCluster(name, accounting, settings, steps, clocks) for name in accounting.clusters
        )

    @property
    def name(self) -> str:
        """Unique among the agent's sources."""
        return self._accounting.name

    @property
    def accounting(self) -> Accounting:
        """Who is asked."""
        return self._accounting

    def facts(self) -> Mapping[str, SourceFacts]:
        """What was last learned about each cluster."""
        return {cluster.name: cluster.facts for cluster in self._clusters}

    def read(self, position: str) -> Iterator[Block]:
        """Do one cycle of questions for each cluster.

        A cluster that cannot be read does not stop the others; its complaint is
        raised after their blocks. Steps come last: nothing waits for them.
        """
        complaint = yield from self._each(position, OneCluster.read)
        for cluster in self._clusters:
            yield from cluster.ask_steps()
        self._raise(complaint)

    def glance(self, position: str) -> Iterator[Block]:
        """Ask only for what ended (see ``source.Glancing``); nothing moves the watermark."""
        self._raise((yield from self._each(position, OneCluster.glance)))

    def _each(self, position: str, ask: Ask) -> Generator[Block, None, SourceError | None]:
        """Ask every cluster; the first complaint."""
        known = window.read_position(position)
        complaint: SourceError | None = None

        def block_of(name: str) -> Callable[[Known], Block]:
            def block(state: Known) -> Block:
                known[name] = state
                through = window.complete_through(known, self._accounting.clusters)
                return Block((), window.write_position(known), through)

            return block

        self._accounting.negotiate()
        for cluster in self._clusters:
            state = known.get(cluster.name, NOTHING_KNOWN)
            try:
                yield from ask(cluster, state, block_of(cluster.name))
            except SourceError as error:
                complaint = complaint or error
        return complaint

    def _raise(self, complaint: SourceError | None) -> None:
        if complaint is not None:
            self._accounting.forget()
            raise complaint
