"""What is known of one run after any number of sightings, in any order.

``join`` is commutative, associative and idempotent, so that the same sightings
leave the same run whatever order, repetition or batches they arrived in;
``settle`` reads off the result. Nothing else decides what a run is.

The rules, and the Slurm behaviour behind each (conformance cases in brackets):

- An ended sighting outranks every open one: an ended run is not reopened.
- Ended sightings that agree on start, end, suspension and allocation are one
  *version*; its newest sighting speaks for it (state, ids: 18), but what was
  measured is never forgotten because a later sighting does not know it: energy
  is the newest that is known (33), of what its steps used the most stands.
- Versions whose times overlap tell of one run: the newest version stands
  (35, 36). One that holds less CPU, memory or GRES than an earlier version of
  that run is held for a person instead (38).
- Versions whose times are disjoint are different runs that Slurm merged into
  one row: all stand, and what they used is added (19).
- User, account and wckey are those of the earliest ended sighting (37, 39).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from jobledger_collector.core.record import UNKNOWN, Flag, JobRecord, Usage
from jobledger_collector.core.usage import REVOKED, add, measure, usage_flags

MAX_VERSIONS: Final = 32
"""Versions of one run that are remembered; more than a few is not accounting."""
SKEW_S: Final = 300
"""Clocks of agent and controller may differ so much before "open" is called odd."""


class Version(NamedTuple):
    """An ended run as the newest of its sightings tells it, with all that was measured.

    ``digest`` is of its newest sighting as Slurm gave it; ``first_observed`` is
    when any sighting with the same times and allocation was first seen,
    ``energy_observed`` when its energy was last known (epoch seconds, 0 never).
    """

    record: JobRecord
    digest: str
    first_observed: int
    energy_observed: int

    @property
    def essence(self) -> tuple[object, ...]:
        """What tells versions apart: only what usage is computed from."""
        record = self.record
        return (
            record.start,
            record.end,
            record.suspended_s,
            record.alloc_tres,
            record.state == REVOKED,
        )

    @property
    def rank(self) -> tuple[int, int, JobRecord]:
        """Greater is newer; a total order but for what was measured, which is joined."""
        bare = self.record._replace(
            energy_j=UNKNOWN, total_cpu_ms=UNKNOWN, max_rss_bytes=UNKNOWN, steps=0
        )
        return (self.record.observed, self.record.end, bare)

    @property
    def seniority(self) -> tuple[int, int, str]:
        """Smaller was known earlier: what a later version may not shrink."""
        return (self.first_observed, self.record.end, repr(self.essence))

    @property
    def interval(self) -> tuple[int, int] | None:
        """The time that it ran for, None when it never did; may be empty."""
        record = self.record
        if not record.start or record.state == REVOKED:
            return None
        begin = max(record.start, record.submit)
        return (begin, max(begin, record.end))


class Attribution(NamedTuple):
    """Whose run it was, by the earliest ended sighting; order is seniority."""

    observed: int
    end: int
    digest: str
    user: str
    uid: int
    account: str
    assoc_id: int
    wckey: str


class History(NamedTuple):
    """All that is remembered of a run. Build it with ``sighting`` and ``join``.

    ``versions`` are the ended ones, by essence; ``open_run`` is the newest open
    sighting and is only kept while there is none ended; ``last_open`` is when
    it was last seen open (epoch seconds, 0 never).
    """

    versions: tuple[Version, ...]
    origin: Attribution | None
    open_run: Version | None
    last_open: int


class Settled(NamedTuple):
    """What a history comes to: the run to show, what it used, what is held back.

    ``record`` carries the frozen attribution; ``shown`` has what was measured by
    the versions that it replaced, too. ``digest`` is of ``shown``'s newest
    sighting as Slurm gave it.
    """

    record: JobRecord
    shown: Version
    usage: Usage
    flags: tuple[Flag, ...]
    held: tuple[Version, ...]

    @property
    def digest(self) -> str:
        """Digest of the newest sighting of what is shown."""
        return self.shown.digest


def sighting(record: JobRecord, digest: str) -> History:
    """Return the history of a run that was seen once."""
    version = Version(
        record, digest, record.observed, record.observed if record.energy_j > 0 else 0
    )
    if not record.end:
        return History((), None, version, record.observed)
    return History((version,), _attribution(version), None, 0)


def join(one: History, other: History) -> History:
    """Return what both histories together know."""
    versions = {version.essence: version for version in one.versions}
    for version in other.versions:
        known = versions.get(version.essence)
        versions[version.essence] = _same_version(known, version) if known else version
    origins = [history.origin for history in (one, other) if history.origin]
    opens = [history.open_run for history in (one, other) if history.open_run]
    return History(
        tuple(sorted(versions.values(), key=lambda version: version.seniority)),
        min(origins, default=None),
        None if versions else max(opens, key=lambda version: (version.rank, version.digest)),
        max(one.last_open, other.last_open),
    )


def settle(history: History) -> Settled:
    """Read the run off its history; the same history always gives the same run."""
    if history.open_run:
        shown = history.open_run
        return Settled(shown.record, shown, measured(shown), (), ())
    if len(history.versions) == 1:
        standing, held = list(history.versions), list[Version]()
    else:
        standing, held = _standing(history.versions)
    shown = max(standing, key=lambda version: version.rank)
    usages = [measured(version) for version in standing if version.interval]
    used = [usage for usage in usages if usage.elapsed_s] or usages[:1]
    usage = add(used) if used else measured(shown)
    record = _attributed(shown.record, history.origin)
    flags = set(usage_flags(shown.record, measured(shown)))
    if len(used) > 1 or (usage.elapsed_s and not measured(shown).elapsed_s):
        flags.add(Flag.MERGED_RUN)
    if held:
        flags.add(Flag.HELD_CHANGE)
    if record != shown.record:
        flags.add(Flag.ATTRIBUTION_KEPT)
    if history.last_open > shown.record.end + SKEW_S:
        flags.add(Flag.OPEN_AFTER_END)
    return Settled(record, shown, usage, tuple(sorted(flags)), tuple(held))


def measured(version: Version) -> Usage:
    """Return what a version used; it was found possible before it was remembered."""
    usage = measure(version.record)
    if not isinstance(usage, Usage):
        message = f"a version that cannot be measured was remembered: {usage.reason}"
        raise TypeError(message)
    return usage


def shrinks(later: Version, earlier: Version) -> str:
    """Return which of CPU, memory and GRES ``later`` holds less of, "" for none."""
    less = _counted(earlier)
    more = _counted(later)
    return ", ".join(name for name, count in sorted(less.items()) if more.get(name, 0) < count)


def held_reason(held: Version, history: History) -> str:
    """Say in one sentence why a version does not stand."""
    for earlier in history.versions:
        names = shrinks(held, earlier) if earlier.seniority < held.seniority else ""
        if names:
            return (
                f"A later record of this ended run holds less {names} than the one seen first:"
                " the first stands until a person has looked at who changed it in Slurm."
            )
    return "A later record of this ended run holds less than the one seen first."


def _counted(version: Version) -> Mapping[str, int]:
    return {
        name: count
        for name, count in version.record.alloc_tres
        if name in {"cpu", "mem"} or name.startswith("gres/")
    }


def _same_version(one: Version, other: Version) -> Version:
    newest = max(one, other, key=lambda version: (version.rank, version.digest))
    first_observed = min(one.first_observed, other.first_observed)
    return _informed(newest, (one, other))._replace(first_observed=first_observed)


def _informed(version: Version, known: Sequence[Version]) -> Version:
    """Return a version with what is known of its measures from all of these.

    A sighting whose steps were not read, or whose energy had not come yet, says
    "unknown"; that must not take back what was charged.
    """
    energy = max(known, key=lambda one: (one.energy_observed, one.record.energy_j))
    record = version.record._replace(
        energy_j=energy.record.energy_j,
        total_cpu_ms=max(one.record.total_cpu_ms for one in known),
        max_rss_bytes=max(one.record.max_rss_bytes for one in known),
        steps=max(one.record.steps for one in known),
    )
    return version._replace(record=record, energy_observed=energy.energy_observed)


def _attribution(version: Version) -> Attribution:
    record = version.record
    return Attribution(
        record.observed,
        record.end,
        version.digest,
        record.user,
        record.uid,
        record.account,
        record.assoc_id,
        record.wckey,
    )


def _attributed(record: JobRecord, origin: Attribution | None) -> JobRecord:
    if origin is None or origin[3:] == (
        record.user,
        record.uid,
        record.account,
        record.assoc_id,
        record.wckey,
    ):
        return record
    return record._replace(
        user=origin.user,
        uid=origin.uid,
        account=origin.account,
        assoc_id=origin.assoc_id,
        wckey=origin.wckey,
    )


def _standing(versions: Iterable[Version]) -> tuple[list[Version], list[Version]]:
    """Return the version that stands for each run, in time order, and those held."""
    standing: list[Version] = []
    held: list[Version] = []
    for run in _runs(versions):
        kept: list[Version] = []
        for place, version in enumerate(run):
            shrunk = any(shrinks(version, earlier) for earlier in run[:place])
            (held if shrunk and version.interval else kept).append(version)
        standing.append(_informed(max(kept, key=lambda version: version.rank), kept))
    return standing, held


def _runs(versions: Iterable[Version]) -> list[list[Version]]:
    """Group versions into runs: overlapping times are one run, in order of seniority.

    Those that never started are one more group, which used nothing.
    """
    timed = [(version.interval, version) for version in versions]
    groups: list[list[Version]] = []
    until = 0
    for interval, version in sorted(
        ((interval, version) for interval, version in timed if interval),
        key=lambda pair: (pair[0], pair[1].seniority),
    ):
        begin, end = interval
        if groups and begin < max(until, _start(groups[-1]) + 1):
            groups[-1].append(version)
            until = max(until, end)
        else:
            groups.append([version])
            until = end
    never = [version for interval, version in timed if not interval]
    ordered = [sorted(group, key=lambda version: version.seniority) for group in groups]
    return [*ordered, never] if never else ordered


def _start(group: list[Version]) -> int:
    interval = group[0].interval
    return interval[0] if interval else 0
