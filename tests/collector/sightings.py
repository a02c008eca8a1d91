"""Sightings of runs for property tests: few values, so that they meet often."""

from typing import Any

from hypothesis import strategies as st

from jobledger_collector.core.record import JobRecord, Usage, content_digest, content_text
from jobledger_collector.core.revise import History, sighting
from jobledger_collector.core.usage import measure
from tests.factories import a_job, a_tres

TRES = [a_tres(text) for text in ("cpu=2,mem=100", "cpu=4,mem=100", "cpu=2,mem=300", "cpu=4")]


def seen(**over: Any) -> History:  # noqa: ANN401 - any field
    """History of a run that was seen once."""
    return once(a_job(**over))


def once(record: JobRecord) -> History:
    """History of this sighting alone."""
    return sighting(record, content_digest(content_text(record)))


def possible(record: JobRecord) -> bool:
    """Whether the record passes the border: others never become a sighting."""
    return isinstance(measure(record), Usage)


def sightings(job_ids: int = 1) -> st.SearchStrategy[JobRecord]:
    """Any sighting of one of a few runs: open, ended, moved, shrunk, renamed, revoked."""
    return st.builds(
        a_job,
        job_id=st.integers(1, job_ids),
        start=st.sampled_from([0, 100, 120, 300]),
        end=st.sampled_from([0, 0, 100, 200, 300, 400]),
        suspended_s=st.sampled_from([0, 0, 0, 10]),
        alloc_tres=st.sampled_from(TRES),
        state=st.sampled_from(["COMPLETED", "COMPLETED", "CANCELLED", "REVOKED"]),
        account=st.sampled_from(["physics", "physics", "chem"]),
        wckey=st.sampled_from(["", "mine"]),
        energy_j=st.sampled_from([-1, -1, 50, 70]),
        total_cpu_ms=st.sampled_from([-1, 9]),
        steps=st.integers(0, 1),
        observed=st.integers(400, 405) | st.just(900),
    ).filter(possible)
