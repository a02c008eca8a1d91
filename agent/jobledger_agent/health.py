"""What the agent knows of itself: written by its threads, read by metrics and progress."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from jobledger_agent.protocol.wire import Compared
from jobledger_agent.source import SourceFacts

EXTRA_SPANS_MAX: Final = 1_000
"""Spans of sweeps with runs that Slurm does not tell, remembered for each cluster."""


class Sweeps(NamedTuple):
    """What comparisons of one cluster with the collector found since the agent's start."""

    spans: int = 0
    missing: int = 0
    differing: int = 0
    extra: int = 0
    """Runs that the collector has and Slurm does not tell, in the spans as last compared."""


class HealthReport(NamedTuple):
    """The agent at one moment. Counts are since its start; times are epoch seconds."""

    read: int
    unreadable: int
    repeated: int
    verdicts: Mapping[str, int]
    connected: bool
    collector_version: str
    link_error: str
    spool_full: str
    source_errors: Mapping[str, int]
    complaints: Mapping[str, str]
    last_success: Mapping[str, int]
    cycle_ms: Mapping[str, int]
    facts: Mapping[str, Mapping[str, SourceFacts]]
    sweeps: Mapping[str, Sweeps]
    put_off: Mapping[str, str]
    clock_skew_ms: int | None

    @property
    def acknowledged(self) -> int:
        """Records that were given a verdict."""
        return sum(self.verdicts.values())

    @property
    def source_error(self) -> str:
        """Everything that is wrong with the sources or the spool, in one line."""
        wrong = [f"{source}: {complaint}" for source, complaint in self.complaints.items()]
        return "; ".join([*wrong, self.spool_full] if self.spool_full else wrong)


class Health:
    """The agent's state, safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read = self._unreadable = self._repeated = 0
        self._verdicts: Counter[str] = Counter()
        self._connected = False
        self._collector_version = self._link_error = self._spool_full = ""
        self._source_errors: Counter[str] = Counter()
        self._complaints: dict[str, str] = {}
        self._last_success: dict[str, int] = {}
        self._cycle_ms: dict[str, int] = {}
        self._facts: dict[str, Mapping[str, SourceFacts]] = {}
        self._sweeps: dict[str, Sweeps] = {}
        self._extra: dict[str, dict[tuple[int, int], int]] = {}
        self._put_off: dict[str, str] = {}
        self._clock_skew_ms: int | None = None

    def know(self, sources: Iterable[str]) -> None:
        """Name the sources, so that they are reported before anything happened to them."""
        with self._lock:
            for source in sources:
                self._source_errors[source] += 0
                self._last_success.setdefault(source, 0)

    def count_read(self, records: int, unreadable: int, repeated: int) -> None:
        """Records that a source gave: of them unreadable, and of them already sent before."""
        with self._lock:
            self._read += records
            self._unreadable += unreadable
            self._repeated += repeated

    def count_verdicts(self, verdicts: Mapping[str, int]) -> None:
        """Records that the collector named, by verdict."""
        with self._lock:
            self._verdicts.update(verdicts)

    def source_went_well(self, source: str, now_s: int, took_ms: int = 0) -> None:
        """A source was read to its end."""
        with self._lock:
            self._complaints.pop(source, None)
            self._last_success[source] = now_s
            self._cycle_ms[source] = took_ms

    def source_told(self, source: str, facts: Mapping[str, SourceFacts]) -> None:
        """What a source last learned of its clusters."""
        with self._lock:
            self._facts[source] = dict(facts)

    def sweep_put_off(self, source: str, why: str) -> bool:
        """A sweep could not be compared. Returns whether none was put off just before."""
        with self._lock:
            is_new = source not in self._put_off
            self._put_off[source] = why
            return is_new

    def compared(self, cluster: str, begin: int, end: int, found: Compared) -> None:
        """A span of a cluster (epoch s) was compared with the collector."""
        with self._lock:
            self._put_off.clear()
            spans = self._extra.setdefault(cluster, {})
            for known in [each for each in spans if each[0] < end and begin < each[1]]:
                del spans[known]
            if found.extra_runs and len(spans) < EXTRA_SPANS_MAX:
                spans[begin, end] = found.extra_runs
            before = self._sweeps.get(cluster, Sweeps())
            self._sweeps[cluster] = Sweeps(
                before.spans + 1,
                before.missing + found.missing,
                before.differing + found.differing,
                sum(spans.values()),
            )

    def source_complained(self, source: str, complaint: str) -> bool:
        """A source could not be read. Returns whether the complaint is a new one."""
        with self._lock:
            self._source_errors[source] += 1
            is_new = self._complaints.get(source) != complaint
            self._complaints[source] = complaint
            return is_new

    def spool_is_full(self, reason: str) -> bool:
        """The spool takes no more ("": it does again). Returns whether that is a change."""
        with self._lock:
            changed = bool(self._spool_full) != bool(reason)
            self._spool_full = reason
            return changed

    def link_is_up(self, collector_version: str, clock_skew_ms: int | None = None) -> None:
        """The collector said Welcome; how far its clock is behind ours, if it told."""
        with self._lock:
            self._clock_skew_ms = clock_skew_ms
            self._connected, self._link_error = True, ""
            self._collector_version = collector_version

    def link_is_down(self, reason: str) -> bool:
        """The stream is gone. Returns whether the reason is a new one."""
        with self._lock:
            is_new = self._link_error != reason
            self._connected, self._link_error = False, reason
            return is_new

    def report(self) -> HealthReport:
        """The state at this moment."""
        with self._lock:
            return HealthReport(
                read=self._read,
                unreadable=self._unreadable,
                repeated=self._repeated,
                verdicts=dict(self._verdicts),
                connected=self._connected,
                collector_version=self._collector_version,
                link_error=self._link_error,
                spool_full=self._spool_full,
                source_errors=dict(self._source_errors),
                complaints=dict(self._complaints),
                last_success=dict(self._last_success),
                cycle_ms=dict(self._cycle_ms),
                facts=dict(self._facts),
                sweeps=dict(self._sweeps),
                put_off=dict(self._put_off),
                clock_skew_ms=self._clock_skew_ms,
            )
