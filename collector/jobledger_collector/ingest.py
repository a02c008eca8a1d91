"""One batch, one transaction: what is new is stored, what is known is compared.

A batch is expected to be all new as long as the last one was, and is then
loaded straight into the tables. Otherwise, or when a key is known after all,
each record is compared with what is stored, and only differences are written.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from jobledger_collector import clock
from jobledger_collector.columns import Row, record_json
from jobledger_collector.core.errors import CollectorError, DatabaseUnavailable
from jobledger_collector.core.record import Quarantined, Verdict
from jobledger_collector.rating import PriceIds, Rating, new_run
from jobledger_collector.revising import Clash, Outcome, revise_runs
from jobledger_collector.store import agents, quarantine
from jobledger_collector.store.books import BooksInForce, hold_generation
from jobledger_collector.store.bulk import bulk_of
from jobledger_collector.store.engine import Writer, is_clash, is_passing
from jobledger_collector.store.handles import Connection, Engine
from jobledger_collector.store.rows import RunRow
from jobledger_collector.wire import Decoded, Refusal

MAX_TRIES: Final = 8
"""Times that a batch is tried when other writers are in the way."""
RETRY_WAIT_S: Final = 0.05
"""Longest wait before the second try; it doubles with each."""


class Prepared(NamedTuple):
    """A decoded batch, used and priced as if all of it were new."""

    decoded: Decoded
    entries: Sequence[RunRow | Quarantined]
    books: BooksInForce


class Applied(NamedTuple):
    """What became of a batch: durable, a verdict a record, reasons for some."""

    number: int
    verdicts: Sequence[Verdict]
    refusals: Sequence[Refusal]


@dataclass
class Ingest:
    """Applies the batches of one agent's stream, in their order.

    ``prepare`` touches no database and may run ahead of ``apply`` in another
    thread; ``apply`` may not run twice at the same time.
    """

    engine: Engine
    rating: Rating
    agent: str
    price_ids: PriceIds = field(default_factory=PriceIds)
    expect_new: bool = True
    writer: Writer = field(init=False)

    def __post_init__(self) -> None:
        """Connect to nothing yet."""
        self.writer = Writer(self.engine)

    def close(self) -> None:
        """Give the database connection back; a later batch would take another."""
        self.writer.close()

    def prepare(self, decoded: Decoded) -> Prepared:
        """Return the batch as rows, priced by the books as last read."""
        books = self.rating.books
        return Prepared(decoded, [self._entry(entry, books) for entry in decoded.entries], books)

    def apply(self, prepared: Prepared) -> Applied:
        """Store a batch and return its verdicts once it is durable.

        Raises DatabaseUnavailable (the batch may be sent again) or
        DatabaseFailed; nothing is stored then.
        """
        for attempt in range(MAX_TRIES):
            if attempt:
                self._wait(attempt)
            try:
                return self._in_one_transaction(prepared)
            except CollectorError as error:
                if not _may_pass_at_once(error):
                    if isinstance(error, DatabaseUnavailable) or not _is_poison(error):
                        raise
                    return self._one_by_one(prepared)
            except Clash:
                continue
            except Exception:  # noqa: BLE001 - a fault of one record: found and quarantined
                return self._one_by_one(prepared)
        return self._one_by_one(prepared)

    @staticmethod
    def _wait(attempt: int) -> None:
        """Let the others pass; not before the second try, which only takes the longer way."""
        if attempt > 1:
            time.sleep(random.uniform(0, RETRY_WAIT_S * 2**attempt))  # noqa: S311 - no secret

    def _in_one_transaction(self, prepared: Prepared) -> Applied:
        try:
            with self.writer.transaction() as conn:
                prepared = self._current(conn, prepared)
                outcome = self._store(conn, prepared.entries, prepared.books)
                self._close(conn, outcome)
        except BaseException:
            self.price_ids.forget()
            raise
        self.price_ids.keep()
        return _applied(prepared.decoded.number, outcome)

    def _one_by_one(self, prepared: Prepared) -> Applied:
        """Apply record by record and quarantine the one that cannot be applied."""
        try:
            with self.writer.transaction() as conn:
                prepared = self._current(conn, prepared)
                outcome = Outcome()
                for entry in prepared.entries:
                    outcome.extend(self._alone(conn, entry, prepared.books))
                self._close(conn, outcome)
        except BaseException:
            self.price_ids.forget()
            raise
        self.price_ids.keep()
        return _applied(prepared.decoded.number, outcome)

    def _alone(self, conn: Connection, entry: RunRow | Quarantined, books: BooksInForce) -> Outcome:
        savepoint = conn.begin_nested()
        try:
            outcome = self._store(conn, [entry], books)
        except Exception as error:
            savepoint.rollback()
            if isinstance(entry, Quarantined) or is_passing(error):
                raise
            raw = record_json(entry.record)
            reason = f"The collector could not store it ({_sentence(error)})."
            entry = Quarantined(entry.record.cluster, "collector", reason, raw, len(raw))
            return self._store(conn, [entry], books)
        savepoint.commit()
        return outcome

    def _current(self, conn: Connection, prepared: Prepared) -> Prepared:
        """Return the batch priced by the books of now, which stay so until the end."""
        if hold_generation(conn) == prepared.books.generation:
            return prepared
        self.rating.refresh(conn)
        return self.prepare(prepared.decoded)

    def _store(
        self, conn: Connection, entries: Sequence[RunRow | Quarantined], books: BooksInForce
    ) -> Outcome:
        runs = [entry for entry in entries if isinstance(entry, RunRow)]
        self.price_ids.learn(conn, runs)
        if self.expect_new and len({run.record[:3] for run in runs}) == len(runs):
            self._store_new(conn, runs)
            outcome = Outcome([Verdict.NEW] * len(runs))
        else:
            outcome = revise_runs(conn, runs, books, self.price_ids)
            self.expect_new = all(verdict is Verdict.NEW for verdict in outcome.verdicts)
        return outcome if len(runs) == len(entries) else _with_refused(entries, outcome)

    def _store_new(self, conn: Connection, runs: Sequence[RunRow]) -> None:
        """Load runs that are expected to be new; raises Clash if one is not."""
        if runs and not bulk_of(conn).insert_new(conn, runs, self.price_ids):
            self.expect_new = False
            raise Clash

    def _close(self, conn: Connection, outcome: Outcome) -> None:
        now_s = clock.now_s()
        if outcome.quarantined:
            quarantine.keep(conn, self.agent, outcome.quarantined, now_s)
        counts = [outcome.verdicts.count(verdict) for verdict in Verdict]
        agents.count_records(conn, self.agent, counts, now_s)

    @staticmethod
    def _entry(entry: Row | Quarantined, books: BooksInForce) -> RunRow | Quarantined:
        if isinstance(entry, Quarantined):
            return entry
        try:
            return new_run(entry, books)
        except Exception as error:  # noqa: BLE001 - quarantined: one record must not stop a batch
            raw = record_json(entry.record)
            reason = f"The collector could not price it ({_sentence(error)})."
            return Quarantined(entry.record.cluster, "collector", reason, raw, len(raw))


def _with_refused(entries: Sequence[RunRow | Quarantined], outcome: Outcome) -> Outcome:
    """Return the outcome with the entries that were refused before, in their places."""
    merged = Outcome(quarantined=list(outcome.quarantined))
    stored = iter(outcome.verdicts)
    reasons = iter([outcome.reasons[index] for index in sorted(outcome.reasons)])
    for entry in entries:
        if isinstance(entry, Quarantined):
            merged.refuse(entry)
        else:
            verdict = next(stored)
            merged.add(verdict, next(reasons) if verdict is Verdict.QUARANTINED else "")
    return merged


def _applied(number: int, outcome: Outcome) -> Applied:
    refusals = [Refusal(index, reason) for index, reason in sorted(outcome.reasons.items())]
    return Applied(number, outcome.verdicts, refusals)


def _may_pass_at_once(error: CollectorError) -> bool:
    cause = error.__cause__
    origin = getattr(cause, "orig", None) or cause
    return origin is not None and is_clash(origin)


def _is_poison(error: CollectorError) -> bool:
    """Whether the database refused the data, rather than the tables or the user."""
    cause = error.__cause__
    origin = getattr(cause, "orig", None) or cause
    names = {kind.__name__ for kind in type(origin).__mro__}
    return bool(names & {"DataError", "IntegrityError"})


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
