"""Steps are folded into their jobs and change nothing else about them."""

import pytest

from jobledger_agent.parsing.fold import HELD_JOBS, Fold
from jobledger_agent.parsing.rows import StepRow
from jobledger_agent.records.job import UNKNOWN, Reading, SlurmJob, Unreadable
from tests.agent.test_rows import EXPECTED

Item = SlurmJob | StepRow | Unreadable


def job(job_id: int, submit: int = 100, row_index: int = 0) -> SlurmJob:
    """A job's row."""
    return EXPECTED._replace(job_id=job_id, submit=submit, sluid=row_index)


def step(job_id: int, row_index: int = 0, cpu: int = 10, rss: int = 5) -> StepRow:
    """A step's row."""
    return StepRow("alpha", job_id, row_index, cpu, rss, (f"{job_id}.0", "a\udce9"))


def fold(*items: Item, at_a_time: int = 100) -> list[Reading]:
    """All that comes out of these rows, however many are fed at a time."""
    folding = Fold("dump.txt")
    fed = [
        reading
        for at in range(0, len(items), at_a_time)
        for reading in folding.feed(items[at : at + at_a_time])
    ]
    return [*fed, *folding.finish()]


@pytest.mark.parametrize("at_a_time", [1, 2, 100])
def test_cpu_time_adds_up_and_the_largest_memory_stays(at_a_time: int) -> None:
    """Conformance case 2: what the job held, and for how long, comes from its own row."""
    rows = (job(1), step(1, cpu=10, rss=7), step(1, cpu=5, rss=9), job(2), step(2, UNKNOWN))
    first, second = fold(*rows, at_a_time=at_a_time)
    assert first == job(1)._replace(total_cpu_ms=15, max_rss_bytes=9, steps=2)
    assert second == job(2)._replace(total_cpu_ms=10, max_rss_bytes=5, steps=1)


def test_what_steps_do_not_say_stays_unknown() -> None:
    (only,) = fold(job(1), step(1, cpu=UNKNOWN, rss=UNKNOWN))
    assert only == job(1)._replace(steps=1)
    (only,) = fold(job(1), step(1, cpu=UNKNOWN), step(1, cpu=3))
    assert only == job(1)._replace(steps=2, total_cpu_ms=3, max_rss_bytes=5)


def test_a_requeued_job_has_several_rows_with_one_id() -> None:
    """Steps find theirs by the row's index, else by what they follow."""
    rows = (job(6, 100, 11), job(6, 200, 12), step(6, 11), step(6, 12), step(6, 12))
    first, second = fold(*rows)
    assert (first, second) == (
        job(6, 100, 11)._replace(steps=1, total_cpu_ms=10, max_rss_bytes=5),
        job(6, 200, 12)._replace(steps=2, total_cpu_ms=20, max_rss_bytes=5),
    )
    first, second = fold(job(6, 100), step(6), job(6, 200), step(6), step(6))
    assert isinstance(first, SlurmJob)
    assert isinstance(second, SlurmJob)
    assert (first.steps, second.steps) == (1, 2)


def test_a_step_without_its_job_is_set_aside_as_it_came() -> None:
    orphan, known = fold(step(9), job(1))
    assert known == job(1)
    assert isinstance(orphan, Unreadable)
    assert orphan.raw == b"9.0|a\xe9"
    assert "without its job's row" in orphan.reason


def test_one_row_that_comes_twice_is_one_run() -> None:
    """Conformance case 21: slurmdbd's join with reservations repeats a row."""
    again = job(1)._replace(reservation="maint", reservation_id=3)
    assert fold(job(1), again, again) == [job(1)]
    assert fold(job(1), again, at_a_time=1) == [job(1)]
    (only,) = fold(job(1), step(1), again)
    assert isinstance(only, SlurmJob)
    assert only.steps == 1


def test_two_sightings_of_one_run_are_both_kept() -> None:
    """Conformance case 19: Slurm has merged two runs into one row; nothing is lost here."""
    later = job(1)._replace(start=300, end=400)
    assert fold(job(1), later) == [job(1), later]


def test_many_jobs_stay_in_order_and_few_are_held() -> None:
    folding = Fold("dump.txt")
    jobs = [job(n) for n in range(1, 5 * HELD_JOBS)]
    released = folding.feed(jobs[: 4 * HELD_JOBS])
    assert len(released) == 3 * HELD_JOBS
    last = folding.feed([step(jobs[4 * HELD_JOBS - 1].job_id), *jobs[4 * HELD_JOBS :]])
    everything = [*released, *last, *folding.finish()]
    assert [r.job_id for r in everything if isinstance(r, SlurmJob)] == [j.job_id for j in jobs]
    assert sum(r.steps for r in everything if isinstance(r, SlurmJob)) == 1
