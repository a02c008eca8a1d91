"""What the agent knows of itself: written by its threads, read by metrics and progress."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple


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

    def source_went_well(self, source: str, now_s: int) -> None:
        """A source was read to its end."""
        with self._lock:
            self._complaints.pop(source, None)
            self._last_success[source] = now_s

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

    def link_is_up(self, collector_version: str) -> None:
        """The collector said Welcome."""
        with self._lock:
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
            )
