"""What the live source shows again is sent again only where it says something new."""

from pathlib import Path

import pytest

from jobledger_agent.daemon.feed import sighting_of
from jobledger_agent.records.job import UNKNOWN, SlurmJob
from jobledger_agent.spooling.spool import Sighting, Spool
from tests.agent.dumps import read_rows, row

USED = {"total_cpu_ms": 900, "max_rss_bytes": 4096, "steps": 2}
UNASKED = {"total_cpu_ms": UNKNOWN, "max_rss_bytes": UNKNOWN, "steps": 0}
OTHER = {**USED, "steps": 3}


def is_news(spool: Spool, sighting: Sighting) -> bool:
    """Whether it is sent; then it is remembered."""
    news = spool.unseen([sighting])[0]
    if news:
        spool.append("s", (), "", 0, [sighting])
    return news


@pytest.mark.parametrize(
    ("sightings", "sent"),
    [
        ([USED, USED], [True, False]),
        ([UNASKED, USED, USED], [True, True, False]),
        # A restarted agent has forgotten the steps; the run's row says nothing new.
        ([USED, UNASKED, USED], [True, False, False]),
        ([USED, OTHER, UNASKED, USED], [True, True, False, True]),
        ([USED, {**UNASKED, "energy_j": 7}], [True, True]),
        ([{**USED, "observed": 5}, {**USED, "observed": 6}], [True, False]),
    ],
)
def test_an_ended_run(tmp_path: Path, sightings: list[dict[str, int]], sent: list[bool]) -> None:
    job = read_rows(tmp_path, row()).only
    spool = Spool(tmp_path / "spool.db", disk_reserve_bytes=0)
    assert [is_news(spool, sighting_of(job._replace(**what))) for what in sightings] == sent  # type: ignore[arg-type]
    spool.close()


def test_a_run_that_is_open_only_grows(tmp_path: Path) -> None:
    job: SlurmJob = read_rows(tmp_path, row(End="Unknown", State="RUNNING")).only
    spool = Spool(tmp_path / "spool.db", disk_reserve_bytes=0)
    assert is_news(spool, sighting_of(job))
    assert not is_news(spool, sighting_of(job._replace(slurm_elapsed_s=99, energy_j=5, steps=1)))
    assert is_news(spool, sighting_of(job._replace(end=job.start + 99)))
    spool.close()


def test_a_position_that_did_not_move_is_not_written_again(tmp_path: Path) -> None:
    """A hundred thousand open runs make a position of a megabyte, in each of many blocks."""
    spool = Spool(tmp_path / "spool.db", disk_reserve_bytes=0)
    long = "x" * 1_000_000
    spool.append("s", (), long, 5)
    log = Path(f"{spool.path}-wal")
    before = log.stat().st_size
    for _ in range(20):
        spool.append("s", (), long, 5)
    assert log.stat().st_size - before < len(long)
    spool.append("s", (), long, 6)
    assert spool.position("s") == long
    assert [mark.complete_through for mark in spool.marks()] == [6]
    spool.close()
