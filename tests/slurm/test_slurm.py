"""Jobs on a real Slurm become priced runs: soon, once, and to the last second.

One Slurm, two rivers: an agent and a collector on SQLite, another pair on
PostgreSQL, both watching the same jobs.
"""

import time
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal

import pytest

from tests.ports import free_ports
from tests.postgres import PostgresServer
from tests.slurm import truth
from tests.slurm.lab import Lab, a_lab
from tests.slurm.river import River, Run
from tests.slurm.truth import Row
from tests.slurm.workload import HOSTILE_NAME, submit, submit_everything

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

LATENCY_MAX_S = 60
"""From a job's end to its price in the books."""
QUEUE_TIMEOUT_S = 90
OUTAGE_JOBS = 3
MICRO = Decimal("0.000001")
# The rate card's lowest tier, which accounts without a document are in.
THB_PER_CORE_HOUR, THB_PER_A100_HOUR, THB_PER_GIB_HOUR = Decimal(1), Decimal(12), Decimal("0.5")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with a_lab() as slurm:
        yield slurm


@pytest.fixture(scope="module")
def rivers(
    lab: Lab, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[River, ...]]:
    folders = [tmp_path_factory.mktemp(name) for name in ("sqlite", "postgres")]
    urls = (f"sqlite:///{folders[0]}/books.db", postgres_server.create())
    opened = tuple(map(River, urls, free_ports(len(urls)), (lab, lab), folders))
    try:
        for river in opened:
            river.open()
        yield opened
    finally:
        for river in opened:
            river.close()


def wait_until_seen(lab: Lab, rivers: tuple[River, ...]) -> list[Row]:
    """Wait until Slurm is idle and every ended run is in every river's books."""
    deadline = time.monotonic() + QUEUE_TIMEOUT_S + LATENCY_MAX_S
    while True:
        for river in rivers:
            river.must_run()
        busy = bool(lab.must("squeue", "-h").strip())
        ended = [row for row in truth.rows(lab) if row.end]
        keys = {row.key for row in ended}
        missing = {river.name: keys - {run.key for run in ended_runs(river)} for river in rivers}
        if not busy and not any(missing.values()):
            return ended
        logs = "\n".join(river.log() for river in rivers if missing[river.name])
        assert time.monotonic() < deadline, f"busy {busy}, missing {missing}\n{logs}"
        time.sleep(1)


def ended_runs(river: River) -> list[Run]:
    return [run for run in river.runs() if run.end]


@pytest.fixture(scope="module")
def ended(lab: Lab, rivers: tuple[River, ...]) -> list[Row]:
    """Rows of slurmdbd after the whole workload has ended and has been seen."""
    submit_everything(lab)
    return wait_until_seen(lab, rivers)


def test_the_workload_holds_every_kind(lab: Lab, ended: list[Row]) -> None:
    states = {row[0] for row in lab.query("select distinct state from slurm_acct_db.lab_job_table")}
    # Completed, cancelled, failed and requeued, as slurmdbd numbers them.
    assert {"3", "4", "5"} <= states
    assert len({row.job_id for row in ended}) < len(ended), "no job was requeued"
    assert any(row.gpu_s for row in ended)
    assert any(row.elapsed_s == 0 for row in ended)
    assert len(ended) >= 21
    names = lab.must("sacct", "-X", "-n", "-P", "-o", "JobName")
    assert HOSTILE_NAME.split("\r")[0] in names


def test_each_run_was_priced_within_a_minute(rivers: tuple[River, ...], ended: list[Row]) -> None:
    for river in rivers:
        waited = {row.key: river.first_seen[row.key] - row.end for row in ended}
        assert max(waited.values()) <= LATENCY_MAX_S, f"{river.name}: {waited}"


def test_each_run_is_there_once(rivers: tuple[River, ...], ended: list[Row]) -> None:
    for river in rivers:
        assert sorted(run.key for run in ended_runs(river)) == sorted(row.key for row in ended)
        assert river.quarantined() == []


def test_usage_is_what_slurmdbd_says(rivers: tuple[River, ...], ended: list[Row]) -> None:
    expected = {row.key: usage_of(row) for row in ended}
    for river in rivers:
        assert {run.key: usage_of(run) for run in ended_runs(river)} == expected
    assert sum(row.cpu_s for row in ended) > 0


def usage_of(run: Run | Row) -> tuple[str, int, int, int, int, int]:
    return run.account, run.elapsed_s, run.cpu_s, run.gpu_s, run.mem_mib_s, run.node_s


def test_each_run_costs_what_the_rate_card_says(
    rivers: tuple[River, ...], ended: list[Row]
) -> None:
    expected = {row.key: cost_of(row) for row in ended}
    for river in rivers:
        assert {run.key: run.cost for run in ended_runs(river)} == expected
    assert sum(expected.values()) > 0


def cost_of(row: Row) -> Decimal:
    """The card's arithmetic, written once more: quantities to a millionth, exact costs."""
    return (
        hours(row.cpu_s, 1) * THB_PER_CORE_HOUR
        + hours(row.gpu_s, 1) * THB_PER_A100_HOUR
        + hours(row.mem_mib_s, 1024) * THB_PER_GIB_HOUR
    )


def hours(seconds: int, per_unit: int) -> Decimal:
    return (Decimal(seconds) / (3600 * per_unit)).quantize(MICRO, rounding=ROUND_HALF_EVEN)


def test_an_outage_loses_nothing(lab: Lab, rivers: tuple[River, ...], ended: list[Row]) -> None:
    """Both programs are killed, jobs run and end meanwhile, and nothing is missed or doubled."""
    for river in rivers:
        river.kill_collector()
        river.kill_agent()
    for _ in range(OUTAGE_JOBS):
        submit(lab, lab.job_users[0], "--job-name=unseen")
    deadline = time.monotonic() + QUEUE_TIMEOUT_S
    while lab.must("squeue", "-h").strip():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    for river in rivers:
        river.start_agent()  # first the agent: it must wait for a collector that is away
    time.sleep(3)
    for river in rivers:
        river.start_collector()
    began = time.time()
    after = wait_until_seen(lab, rivers)
    assert len(after) == len(ended) + OUTAGE_JOBS
    test_each_run_is_there_once(rivers, after)
    test_usage_is_what_slurmdbd_says(rivers, after)
    for river in rivers:
        new = [river.first_seen[row.key] - began for row in after if row not in ended]
        assert max(new) <= LATENCY_MAX_S
