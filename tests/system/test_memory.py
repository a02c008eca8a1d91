"""The agent's memory does not grow with its input: 64 MiB are enough for any dump."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from jobledger_collector.store.engine import open_engine
from jobledger_collector.store.schema import job_runs
from tests.agent.dumps import DATA
from tests.ports import free_port
from tests.system.bulk import write_dump
from tests.system.memory import PROMISED_BYTES, wait_and_watch
from tests.system.programs import start_agent_once, start_collector

RUNS = 300_000
JSON_BYTES = 60 << 20
DELIVERED_WITHIN_S = 240.0


def runs_in(url: str) -> int:
    engine = open_engine(url)
    with engine.connect() as connection:
        found = connection.execute(select(func.count()).select_from(job_runs)).scalar_one()
    engine.dispose()
    return found


def a_table(path: Path) -> int:
    """300,000 runs as sacct prints them; returns how many."""
    return write_dump(path, RUNS).runs


def a_json_document(path: Path) -> int:
    """Jobs captured from slurmdbd, steps and all, again and again under new ids."""
    with gzip.open(DATA / "slurm-25.11" / "json-D.json.gz") as captured:
        document = json.load(captured)
    jobs = document.pop("jobs")
    highest = max(job["job_id"] for job in jobs)
    shift = written = 0
    with path.open("w", encoding="utf-8") as out:
        out.write(json.dumps(document)[:-1] + ', "jobs": [\n')
        while out.tell() < JSON_BYTES:
            for job in jobs:
                moved = job | {"job_id": job["job_id"] + shift}
                out.write((",\n" if written else "") + json.dumps(moved))
                written += 1
            shift += highest
        out.write("]}\n")
    return written


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("write", [a_table, a_json_document])
def test_the_agents_memory_does_not_grow_with_its_input(
    tmp_path: Path, write: Callable[[Path], int]
) -> None:
    dump = tmp_path / "dump"
    written = write(dump)
    url = f"sqlite:///{tmp_path}/jobledger.db"
    port = free_port()
    with start_collector(url, port, tmp_path / "collector.log"):
        agent = start_agent_once(port, tmp_path / "spool.db", str(dump), log=tmp_path / "agent.log")
        with agent:
            status, peak_bytes = wait_and_watch(agent, DELIVERED_WITHIN_S)
    assert status == 0, agent.output()[-3000:]
    assert runs_in(url) == written
    assert 16 << 20 < peak_bytes <= PROMISED_BYTES
