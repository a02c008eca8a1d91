"""What is known of each cluster, and which Ends the live source asks for next. Pure.

Slurm has no cursor of changes: a record may appear with an End in the past. So
a watermark follows the clock only while it is proved that nothing is on its way,
each question reaches back behind it, and after an outage all of it is read again,
more than once.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jobledger_agent.reading.canary import Canaries, Canary
from jobledger_agent.reading.sweep import Pace, Progress
from jobledger_agent.records.runs import NO_RUNS, Runs
from jobledger_agent.records.tree import TreeMark

SLACK_S = 60
"""How far the watermark stays behind the clock: slurmdbd may commit late."""
READ_AGAIN_AFTER_S = (600, 3600)
"""When the span of an outage is read again: what waited for slurmdbd arrives after it."""
AGAIN_MAX = 8
"""Spans that wait to be read again; more are merged into the earliest."""


class Again(NamedTuple):
    """At ``at`` everything that ended since ``begin`` is read once more (epoch seconds)."""

    at: int
    begin: int


class Known(NamedTuple):
    """What is known of one cluster; times are epoch seconds.

    All that ended before ``watermark`` has been read (0: nothing yet); ``open``
    are the runs last seen running or suspended, at ``open_at``. ``read_to`` is how
    far Ends were read while the watermark could not follow, ``read_at`` when a
    cycle last went wholly well.
    """

    watermark: int = 0
    open: Runs = NO_RUNS
    open_at: int = 0
    read_to: int = 0
    read_at: int = 0
    again: tuple[Again, ...] = ()
    pace: Pace = Pace()
    sweep: Progress = Progress()
    canaries: Canaries = ()
    """Finished runs that must be found again; last found at ``canary_ok_at``."""
    canary_ok_at: int = 0
    unproved_from: int = 0
    """First End that was ever asked for, until a first canary is known."""
    tree: TreeMark = TreeMark()


NOTHING_KNOWN = Known()


def read_position(position: str) -> dict[str, Known]:
    """What a stored position says, by cluster; nothing if it is not ours.

    A position of the first form, with the first three fields only, is read too.
    """
    try:
        stored = json.loads(position) if position else {}
        return {str(cluster): _known(state) for cluster, state in stored.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _known(state: Mapping[str, Any]) -> Known:
    watermark = int(state["watermark"])
    return Known(
        watermark=watermark,
        open=Runs.unpacked(state["open"]),
        open_at=int(state["open_at"]),
        read_to=int(state.get("read_to", 0)),
        read_at=int(state.get("read_at", watermark)),
        again=tuple(Again(int(at), int(begin)) for at, begin in state.get("again", ())),
        pace=Pace(*map(int, state.get("pace", ()))),
        sweep=Progress(*map(int, state.get("sweep", ()))),
        canaries=tuple(Canary(*map(int, canary)) for canary in state.get("canaries", ())),
        canary_ok_at=int(state.get("canary_ok_at", 0)),
        unproved_from=int(state.get("unproved_from", 0)),
        tree=_tree_mark(*state.get("tree", (0, 0, ""))),
    )


def _tree_mark(read_at: int, whole_at: int, told: str) -> TreeMark:
    return TreeMark(int(read_at), int(whole_at), str(told))


def write_position(known: Mapping[str, Known]) -> str:
    """The position that says this; the same bytes for the same knowledge."""
    plain = {
        cluster: {**state._asdict(), "open": state.open.packed()}
        for cluster, state in sorted(known.items())
    }
    return json.dumps(plain, separators=(",", ":"))


def is_after_outage(known: Known, now: int, overlap_s: int) -> bool:
    """Whether cycles failed, or none was made, for so long that the overlap alone is no proof."""
    return known.read_at > 0 and not 0 <= now - known.read_at <= overlap_s // 2


def first_end(
    known: Known, now: int, *, overlap_s: int, lookback_s: int, queue_is_empty: bool
) -> int:
    """From which End on to ask.

    While slurmctld's queue is not empty the watermark stands still; what was read
    behind it is not asked for again until the queue is empty. A watermark from the
    future of a clock that was wrong says nothing of what ended before it.
    """
    is_known = 0 < known.watermark <= now
    begin = known.watermark - overlap_s if is_known else now - lookback_s
    if not queue_is_empty:
        begin = max(begin, known.read_to - overlap_s)
    waiting = [again.begin for again in known.again if again.at <= now]
    return max(1, min(begin, now - min(overlap_s, lookback_s), *waiting))


def reached(known: Known, end: int, *, mark: int) -> Known:
    """What is known after one span of a backlog has been read, up to the End ``end``.

    ``mark``: up to where that is all that will ever appear; 0 where messages wait
    in slurmctld: what they say will appear with an End in the past.
    """
    return known._replace(watermark=max(known.watermark, mark), read_to=max(known.read_to, end))


def went_well(known: Known, now: int, *, overlap_s: int, mark: int) -> Known:
    """What is known after a cycle, begun at ``now`` with an empty queue, of valid answers only.

    The watermark moves to ``mark``, and comes back from the future of a clock that
    was wrong. An outage that is over is read again twice: slurmctld sends what it
    kept in order, but a controller that took over may not have been asked yet.
    """
    waiting = [again for again in known.again if again.at > now]
    if is_after_outage(known, now, overlap_s):
        begin = min(known.read_at, now) - overlap_s
        waiting += [Again(now + after_s, begin) for after_s in READ_AGAIN_AFTER_S]
    if len(waiting) > AGAIN_MAX:
        latest = max(again.at for again in waiting)
        waiting = [Again(latest, min(again.begin for again in waiting))]
    watermark = mark if known.watermark > now else max(known.watermark, mark)
    return known._replace(watermark=watermark, read_to=now, read_at=now, again=tuple(waiting))


def unproved(known: Known) -> Known:
    """What is known when the canaries are not found: nothing read since they last were counts."""
    if not known.canary_ok_at:
        return known
    since = known.canary_ok_at
    return known._replace(
        watermark=min(known.watermark, since - SLACK_S),
        read_to=min(known.read_to, since),
        read_at=min(known.read_at, since),
        sweep=known.sweep._replace(begun=min(known.sweep.begun, since), next=0, until=0),
    )


def with_canaries(known: Known, canaries: Canaries, first: int, now: int) -> Known:
    """What is known with these canaries, after a reading from the End ``first`` on.

    Until there is a first one no empty answer is proved; when it comes, all that
    was asked for before is read again.
    """
    if not canaries:
        return known._replace(unproved_from=known.unproved_from or first)
    again = known.again
    if known.unproved_from and not known.canaries:
        again = (*again, Again(now + 1, known.unproved_from))
    return known._replace(canaries=canaries, unproved_from=0, again=again)


def complete_through(known: Mapping[str, Known], clusters: Iterable[str]) -> int:
    """All that ended before this on every cluster has been read; 0 if unknown."""
    return min((known.get(name, NOTHING_KNOWN).watermark for name in clusters), default=0)


def in_batches(numbers: Iterable[int], size: int) -> list[list[int]]:
    """The numbers, each once and in order, at most ``size`` at a time."""
    ordered = sorted(set(numbers))
    return [ordered[at : at + size] for at in range(0, len(ordered), size)]
