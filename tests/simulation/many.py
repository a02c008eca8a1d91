"""Many worlds, one after the other, each on a disk in memory."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.simulation.judge import Violation
from tests.simulation.world import World

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it


class Result(NamedTuple):
    """What came of a world; ``violation`` "" if nothing that must hold was broken."""

    seed: int
    violation: str
    happened: Counter[str]
    trace: tuple[str, ...] = ()


def live(seed: int, *, trace: bool = False) -> Result:
    """Live through one world."""
    return next(live_all([seed], trace=trace))


def live_all(
    seeds: Iterable[int], *, trace: bool = False, bias: Mapping[str, int] | None = None
) -> Iterator[Result]:
    """Live through worlds, one for each seed; ``bias`` sets some of their chances."""
    folder = Path(
        tempfile.mkdtemp(prefix="jobledger-sim-", dir=MEMORY if MEMORY.is_dir() else None)
    )
    try:
        for seed in seeds:
            world = World(seed, folder, trace=trace, bias=bias)
            violation = ""
            try:
                world.run()
            except Violation as broken:
                violation = str(broken)
            yield Result(seed, violation, world.happened.seen, tuple(world.trace or ()))
    finally:
        shutil.rmtree(folder)
