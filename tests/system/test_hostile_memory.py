"""Dumps made to fill memory: large broken records, large good ones, resources without end."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from jobledger_collector.store.engine import open_engine
from jobledger_collector.store.schema import job_runs, quarantine
from tests.agent.dumps import COLUMNS, dump, row
from tests.ports import free_port
from tests.system.memory import LIBRARIES_VARY_BYTES, PROMISED_BYTES, wait_and_watch
from tests.system.programs import start_agent_once, start_collector

PEAK_BYTES_MAX = PROMISED_BYTES + LIBRARIES_VARY_BYTES
LARGE = 60_000
NODES = (*COLUMNS, "NodeList")


def broken(count: int) -> Iterator[Sequence[str]]:
    """Records of 60 KB whose end is no time."""
    for n in range(1, count + 1):
        yield [*row(JobIDRaw=str(n), JobID=str(n), End="x" * LARGE), ""]


def far_flung(count: int) -> Iterator[Sequence[str]]:
    """Good records with 60 KB of nodes each."""
    for n in range(1, count + 1):
        yield [*row(JobIDRaw=str(n), JobID=str(n)), f"n{n}-" + "x" * LARGE]


def resourceful(count: int) -> Iterator[Sequence[str]]:
    """Good records with 30 resources each that no other one has."""
    for n in range(1, count + 1):
        tres = ",".join(f"gres/g{n}x{i}=1" for i in range(30))
        held = f"cpu=2,{tres},mem=100M,node=1"
        yield [*row(JobIDRaw=str(n), JobID=str(n), AllocTRES=held), "c1"]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("rows", "stored", "kept"),
    [(broken(700), 0, 700), (far_flung(700), 700, 0), (resourceful(8_000), 8_000, 0)],
    ids=["broken", "far-flung", "resourceful"],
)
def test_no_record_is_too_large_for_the_agent(
    tmp_path: Path, rows: Iterator[Sequence[str]], stored: int, kept: int
) -> None:
    path = dump(tmp_path / "dump.txt", rows, columns=NODES)
    url = f"sqlite:///{tmp_path}/jobledger.db"
    port = free_port()
    with start_collector(url, port, tmp_path / "collector.log"):
        agent = start_agent_once(port, tmp_path / "spool.db", str(path), log=tmp_path / "agent.log")
        with agent:
            status, peak_bytes = wait_and_watch(agent, 100)
    assert status == 0, agent.output()[-3000:]
    engine = open_engine(url)
    with engine.connect() as connection:
        for table, expected in ((job_runs, stored), (quarantine, kept)):
            count = select(func.count()).select_from(table)
            assert connection.execute(count).scalar_one() == expected
    engine.dispose()
    assert 16 << 20 < peak_bytes <= PEAK_BYTES_MAX
