"""``jobledger-agent verify``: whether the collector has what Slurm says, day by day.

Nothing is sent and nothing changes; the agent may run meanwhile.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from jobledger_agent.delivery.verifier import NOT_TOLD, Comparison, Verifier
from jobledger_agent.operating.moments import day_name, days
from jobledger_agent.operating.past import Past, Wait, slices
from jobledger_agent.protocol.wire import Compared
from jobledger_agent.records.job import Reading, SlurmJob

CHECK_AT_ONCE: Final = 1_000
"""Records in one message."""
EXTRA_NAMED_MAX: Final = 20
"""Runs named in the text for people; --json names all that the collector did."""
_ROW: Final = "{:<12} {:<16} {:>10} {:>10} {:>8} {:>9} {:>7} {:>7}  {}"
_COLUMNS: Final = (
    "day", "cluster", "Slurm", "collector", "missing", "differing", "extra", "refused", "",
)  # fmt: skip


class Verified(NamedTuple):
    """One cluster and span (epoch s, both ends included), compared."""

    cluster: str
    begin: int
    end: int
    compared: Compared
    untold: int
    """Records of Slurm's that cannot be compared: unreadable, or too large to send."""

    @property
    def is_equal(self) -> bool:
        """Whether the collector has exactly what Slurm says, to the smallest unit."""
        found = self.compared
        wrong = (found.missing, found.differing, found.extra_runs, found.refused, self.untold)
        return not any(wrong) and found.told == found.stored


def verify(
    verifier: Verifier,
    pasts: Sequence[Past],
    span: tuple[int, int],
    wait: Wait,
    tell: Callable[[Verified], None],
) -> list[Verified]:
    """Compare each cluster and day of a span; ``tell`` hears of each. Raises AgentError."""
    results: list[Verified] = []
    for past in pasts:
        for begin, end in days(*span):
            with verifier.comparing(past.cluster, begin, end) as comparison:
                result = _day(comparison, past, (begin, end), wait)
            tell(result)
            results.append(result)
    return results


def sleep(seconds: float) -> bool:
    """Wait between attempts; a person stops it with an interrupt."""
    time.sleep(seconds)
    return False


def heading() -> str:
    """Return the first line of the table for people."""
    return _ROW.format(*_COLUMNS).rstrip()


def as_text(result: Verified) -> str:
    """Return a line of the table, and below it what is there too much."""
    found = result.compared
    line = _ROW.format(
        day_name(result.begin),
        result.cluster,
        f"{found.told.runs + result.untold:,}",
        f"{found.stored.runs:,}",
        f"{found.missing:,}",
        f"{found.differing:,}",
        f"{found.extra_runs:,}",
        f"{found.refused + result.untold:,}",
        "equal" if result.is_equal else "DIFFERS",
    )
    runs = [f"{job_id} (submitted {submit})" for job_id, submit in found.extra[:EXTRA_NAMED_MAX]]
    named = f"             stored, but not told by Slurm: jobs {', '.join(runs)}"
    return f"{line}\n{named}" if runs else line


def as_json(result: Verified) -> dict[str, object]:
    """Return a result for a script; sums in base units, times epoch seconds."""
    found = result.compared
    return {
        "cluster": result.cluster,
        "since": result.begin,
        "until": result.end + 1,
        "equal": result.is_equal,
        "told": found.told._asdict(),
        "stored": found.stored._asdict(),
        "missing": found.missing,
        "known": found.known,
        "differing": found.differing,
        "refused": found.refused,
        "untold": result.untold,
        "extra_runs": found.extra_runs,
        "extra": [{"job_id": job_id, "submit": submit} for job_id, submit in found.extra],
    }


def _day(comparison: Comparison, past: Past, span: tuple[int, int], wait: Wait) -> Verified:
    untold = 0
    for answer in slices(past, *span, wait):
        for readings in _batches(answer.readings):
            jobs = [reading for reading in readings if isinstance(reading, SlurmJob)]
            untold += len(readings) - len(jobs)
            untold += comparison.check(jobs).count(NOT_TOLD)
    return Verified(past.cluster, *span, comparison.finish(), untold)


def _batches(readings: Iterator[Reading]) -> Iterator[list[Reading]]:
    while batch := list(islice(readings, CHECK_AT_ONCE)):
        yield batch
