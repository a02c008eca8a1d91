"""The tests' own starter of programs: each thread is given the program that it ordered."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.nursery import shared
from tests.faults.world import AGENT


def test_threads_are_given_their_own_programs(tmp_path: Path) -> None:
    """A program taken for another's once made a partition look like a loss."""

    def status_of(number: int) -> int:
        argument = "--nonsense" if number % 2 else "--version"
        return shared().start(AGENT, [argument], tmp_path / f"{number}.log", {}).wait(60)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(status_of, range(64)))
    assert found == [0, 2] * 32
