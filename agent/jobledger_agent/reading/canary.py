"""Finished runs that must be found again: proof that an answer without rows is a true one. Pure.

sacct answers with nothing and success for a cluster whose tables it cannot read,
and for a user who may not see others' jobs. So the agent asks for runs by id that
it has seen, of as many users as possible: one who sees only his own jobs, or
those of his accounts, does not find the others'.
"""

from collections.abc import Iterable
from typing import NamedTuple

from jobledger_agent.reading.sweep import DAY_S, PURGE_MARGIN_S
from jobledger_agent.records.job import SlurmJob
from jobledger_agent.records.runs import Run, Runs, run_of

MAX_CANARIES = 8
"""Runs that are asked for together, each another user's."""
EVERY_S = 300
"""How often they are asked for: less than each window reaches back, so that no answer between
two of them is lost if one of it was empty by mistake."""
MAX_AGE_S = 28 * DAY_S
"""An older one is not asked for: Slurm may have been told to purge it."""


class Canary(NamedTuple):
    """A run that ended at ``end`` (epoch s), as ``runs.run_of`` packs it, and whose it was."""

    end: int
    run: Run
    uid: int


Canaries = tuple[Canary, ...]


def chosen(known: Canaries, seen: Iterable[Canary]) -> Canaries:
    """The newest finished run of each of the users who ran last, newest first."""
    newest: dict[int, Canary] = {}
    for canary in (*known, *seen):
        if canary.end >= newest.get(canary.uid, canary).end:
            newest[canary.uid] = canary
    return tuple(sorted(newest.values(), reverse=True)[:MAX_CANARIES])


def canary_of(job: SlurmJob) -> Canary | None:
    """A run as a canary; None for one that never held resources."""
    if not job.start or job.end <= job.start or not job.alloc_tres:
        return None
    return Canary(job.end, run_of(job.job_id, job.submit), job.uid)


def usable(canaries: Canaries, now: int, purge_after_s: int) -> Canaries:
    """Those that slurmdbd cannot have purged yet (``purge_after_s`` at most 0: it does not)."""
    age_s = min(MAX_AGE_S, purge_after_s - PURGE_MARGIN_S) if purge_after_s > 0 else MAX_AGE_S
    return tuple(canary for canary in canaries if canary.end > now - age_s)


def lost(asked: Canaries, found: Runs) -> Canaries:
    """Those that were asked for and not found."""
    return tuple(canary for canary in asked if canary.run not in found)


def is_alarming(asked: Canaries, missing: Canaries) -> bool:
    """Whether so many are missing that the answer cannot be believed.

    One of several may have been deleted by hand; it is then no canary any longer.
    """
    return bool(asked) and 2 * len(missing) >= len(asked)
