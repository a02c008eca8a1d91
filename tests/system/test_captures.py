"""Every captured file through the real programs: the store says what slurmdbd says.

Each file goes in under a cluster name of its own, through agent, gRPC and
collector, into one database. The truth is an independent sum over slurmdbd's own
job table; the jobs that ended between file and table are those that the reading
tests name, and no others.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Table, func, select

from jobledger_collector.store.engine import open_engine
from jobledger_collector.store.schema import charges, job_runs, quarantine
from tests.agent.dumps import DATA, Sums, Truth, sums, truth
from tests.agent.test_captures import ALL, LACKING, Capture
from tests.ports import free_port
from tests.system.programs import start_agent_once, start_collector

Keys = Mapping[tuple[int, int], Truth]


def cluster_of(number: int) -> str:
    return f"file{number:02}"


@contextmanager
def delivered(url: str, folder: Path, inputs: list[str]) -> Iterator[None]:
    """Run a collector and an agent over the inputs; both have ended inside the block."""
    port = free_port()
    with start_collector(url, port, folder / "collector.log") as collector:
        agent = start_agent_once(port, folder / "spool.db", *inputs, log=folder / "agent.log")
        with agent:
            assert agent.process.wait(timeout=120) == 0, agent.output()[-3000:]
        assert collector.stop() == 0, collector.output()[-3000:]
    yield


def stored(url: str, cluster: str) -> dict[tuple[int, int], Sums]:
    """What the store says that each run of a cluster used."""
    engine = open_engine(url)
    run = job_runs.c
    with engine.connect() as conn:
        rows = conn.execute(
            select(
                run.job_id, run.submit, run.elapsed_s, run.cpu_s, run.gpu_s, run.mem_mib_s,
                run.node_s,
            ).where(run.cluster == cluster)
        ).all()  # fmt: skip
    engine.dispose()
    return {(row[0], row[1]): Sums(*row[2:]) for row in rows}


def total(runs: Mapping[tuple[int, int], Sums]) -> Sums:
    columns = zip(*runs.values(), strict=True) if runs else ((0,),) * 5
    return Sums(*(sum(column) for column in columns))


def check(url: str, cluster: str, table: Keys, capture: Capture) -> None:
    """Compare a file's runs in the store with slurmdbd's table."""
    found = stored(url, cluster)
    known = {
        key: run for key, run in found.items() if key in table and key[0] not in capture.differs
    }
    assert {job_id for job_id, _ in found.keys() - table.keys()} == set(capture.besides)
    assert {job_id for job_id, _ in table.keys() - found.keys()} == set(capture.lacks)
    assert total(known) == sums({key: table[key] for key in known}), capture.file


@pytest.mark.timeout(240)
def test_the_store_adds_up_to_slurmdbds_own_table(database_url: str, tmp_path: Path) -> None:
    inputs = [
        f"{DATA}/slurm-{version}/{capture.file},rename=alpha:{cluster_of(number)}"
        f",rename=beta:{cluster_of(number)}-beta,timezone={capture.zone}"
        for number, (version, capture) in enumerate(ALL)
    ]
    with delivered(database_url, tmp_path, inputs):
        for number, (version, capture) in enumerate(ALL):
            check(database_url, cluster_of(number), truth(version), capture)
            assert len(stored(database_url, f"{cluster_of(number)}-beta")) == capture.beta
    assert rows(database_url, quarantine) == 0


@pytest.mark.timeout(120)
def test_what_cannot_be_priced_is_kept_with_its_reason(sqlite_url: str, tmp_path: Path) -> None:
    files = [(version, file) for version, wanted in LACKING.items() for file in wanted]
    lines = sum(LACKING[version][file] for version, file in files)
    inputs = [
        f"{DATA}/slurm-{version}/{file},cluster=c{n}" for n, (version, file) in enumerate(files)
    ]
    with delivered(sqlite_url, tmp_path, inputs):
        assert rows(sqlite_url, job_runs) == 0
        assert rows(sqlite_url, charges) == 0
    engine = open_engine(sqlite_url)
    with engine.connect() as conn:
        kept = int(conn.execute(select(func.sum(quarantine.c.times))).scalar_one())
        silent = conn.execute(
            select(func.count()).select_from(quarantine).where(quarantine.c.reason == "")
        ).scalar_one()
    engine.dispose()
    assert kept == lines > 0
    assert silent == 0


def rows(url: str, table: Table) -> int:
    engine = open_engine(url)
    with engine.connect() as conn:
        found = conn.execute(select(func.count()).select_from(table)).scalar_one()
    engine.dispose()
    return int(found)
