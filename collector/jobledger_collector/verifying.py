"""Comparing what Slurm says now with what is stored; nothing of the ledger is written.

Each record gets the verdict that it would get if it were reported. One whose
content is stored as it is needs no more than a look at its digest, which is
nearly all of them.
"""

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from jobledger_collector import clock
from jobledger_collector.columns import Row
from jobledger_collector.core.errors import BatchInvalid
from jobledger_collector.core.record import Quarantined, Usage, Verdict, content_digest
from jobledger_collector.core.usage import measure
from jobledger_collector.core.verification import (
    NOTHING,
    Compared,
    ToldSpan,
    UsageSum,
    not_told,
    plus,
)
from jobledger_collector.ingest import Gate
from jobledger_collector.rating import Rating, new_run
from jobledger_collector.revising import compare_runs
from jobledger_collector.store import verifications
from jobledger_collector.store.bulk import bulk_of
from jobledger_collector.store.engine import reading, transaction
from jobledger_collector.store.handles import Connection, Engine
from jobledger_collector.store.rows import RunRow, stored_run

MAX_RECORDS: Final = 10_000
"""Records in one message."""
MAX_SPAN_RUNS: Final = 1_000_000
"""Records of one span; a longer one is compared in parts."""
MAX_EXTRA: Final = 1_000
"""Runs named of those that are stored and were not told."""

_Keys = tuple["array[int]", "array[int]"]


@dataclass
class Comparison:
    """One span, as its runs are told message by message."""

    engine: Engine
    rating: Rating
    gate: Gate
    span: ToldSpan
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    told: UsageSum = NOTHING
    keys: list[_Keys] = field(default_factory=list)

    def check(self, entries: Sequence[Row | Quarantined]) -> list[Verdict]:
        """Return what would become of records.

        Raises BatchInvalid for too many, NotAdmitted, DatabaseFailed.
        """
        if self.verdicts.total() + len(entries) > MAX_SPAN_RUNS:
            raise BatchInvalid(
                f"More than {MAX_SPAN_RUNS} runs ended in this span: compare shorter ones."
            )
        rows = [self._measured(entry) for entry in entries]
        told = [row for row, _ in filter(None, rows)]
        ended = [pair for pair in filter(None, rows) if self._is_in_span(pair[0])]
        self.told = plus(self.told, [usage for _, usage in ended])
        keys = sorted(row.record[1:3] for row, _ in ended)
        if keys:
            jobs, submits = zip(*keys, strict=True)
            self.keys.append((array("q", jobs), array("q", submits)))
        with reading(self.engine) as conn:
            self.gate.confirm(conn)
            found = iter(self._compared(conn, told))
        verdicts = [next(found) if row else Verdict.QUARANTINED for row in rows]
        self.verdicts.update(verdicts)
        return verdicts

    def finish(self) -> Compared:
        """Return what was found for the whole span, and keep that.

        Raises NotAdmitted, DatabaseFailed.
        """
        with reading(self.engine) as conn:
            self.gate.confirm(conn)
            stored, extra, extra_runs = self._stored(conn)
        found = Compared(
            self.told,
            stored,
            self.verdicts[Verdict.NEW],
            self.verdicts[Verdict.KNOWN],
            self.verdicts[Verdict.REVISED],
            self.verdicts[Verdict.QUARANTINED],
            extra,
            extra_runs,
        )
        with transaction(self.engine) as conn:
            verifications.note(conn, self.span, found, clock.now_s())
        return found

    def _measured(self, entry: Row | Quarantined) -> tuple[Row, Usage] | None:
        """Return a record and what it used, None when it could not be stored."""
        if isinstance(entry, Quarantined) or entry.record.cluster != self.span.cluster:
            return None
        usage = measure(entry.record)
        return (entry, usage) if isinstance(usage, Usage) else None

    def _is_in_span(self, row: Row) -> bool:
        return self.span.begin <= row.record.end <= self.span.end

    def _compared(self, conn: Connection, rows: Sequence[Row]) -> Iterator[Verdict]:
        """Yield the verdicts of rows, in order."""
        bulk = bulk_of(conn)
        keys = [row.record.key for row in rows]
        marks = bulk.find_marks(conn, keys)
        whole = [
            marks.get(key) == (content_digest(row.content), True)
            for key, row in zip(keys, rows, strict=True)
        ]
        others = [row for row, same in zip(rows, whole, strict=True) if not same]
        books = self.rating.books
        runs = [run for run in (new_run(row, books) for row in others) if isinstance(run, RunRow)]
        known = {run.record.key for run in runs} & marks.keys()
        stored = map(stored_run, bulk.look_at_runs(conn, known)) if known else ()
        verdicts = iter(compare_runs(stored, runs, books))
        return iter([Verdict.KNOWN if same else next(verdicts) for same in whole])

    def _stored(self, conn: Connection) -> tuple[UsageSum, tuple[tuple[int, int], ...], int]:
        """Return the sum of what is stored, and the runs of it that were not told."""
        stored = _Summed(
            verifications.runs_ended_in(conn, self.span.cluster, self.span.begin, self.span.end)
        )
        told = heapq.merge(*(zip(jobs, submits, strict=True) for jobs, submits in self.keys))
        extra: list[tuple[int, int]] = []
        number = 0
        for key in not_told(stored, told):
            number += 1
            if number <= MAX_EXTRA:
                extra.append(key)
        return stored.sum, tuple(extra), number


class _Summed:
    """Keys of runs as they pass by, and the sum of what those used."""

    def __init__(self, runs: Iterable[tuple[int, int, UsageSum]]) -> None:
        self.sum = NOTHING
        self._runs = runs

    def __iter__(self) -> Iterator[tuple[int, int]]:
        total = [0] * len(NOTHING)
        for job_id, submit, used in self._runs:
            for place, value in enumerate(used):
                total[place] += value
            yield job_id, submit
        self.sum = UsageSum(*total)
