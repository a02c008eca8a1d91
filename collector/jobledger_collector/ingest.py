"""One batch, one transaction: what is new is stored, what is known is compared.

A batch is expected to be all new as long as the last one was, and is then
loaded straight into the tables. Otherwise, or when a key is known after all,
each record is compared with what is stored, and only differences are written.
"""

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, cast

from jobledger_collector import clock
from jobledger_collector.columns import Row, record_json
from jobledger_collector.core.enrolment import Scope, anywhere, foreign
from jobledger_collector.core.errors import CollectorError, DatabaseUnavailable, NotAdmitted
from jobledger_collector.core.record import Quarantined, Verdict
from jobledger_collector.rating import PriceIds, Rating, new_run
from jobledger_collector.revising import Clash, Outcome, revise_runs
from jobledger_collector.store import agents, quarantine, tree
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


log = logging.getLogger(__name__)


class Gate(Protocol):
    """What says for which clusters a stream's agent may speak (``admission.Pass``)."""

    scope: Scope

    def confirm(self, conn: Connection) -> Scope:
        """Return the scope as of this transaction; raises NotAdmitted."""


class Insider:
    """The gate of who works on the database itself, as the demo does: all is permitted."""

    def __init__(self, agent: str) -> None:
        """Speak for every cluster."""
        self.scope = anywhere(agent)

    def confirm(self, _conn: Connection) -> Scope:
        """Return the scope, which nothing changes."""
        return self.scope


class Prepared(NamedTuple):
    """A decoded batch, used and priced as if all of it were new."""

    decoded: Decoded
    entries: Sequence[RunRow | Quarantined]
    books: BooksInForce
    scope: Scope


class Applied(NamedTuple):
    """What became of a batch: durable, a verdict a record, reasons for some.

    ``tree_dropped`` are entries of account trees that were not the agent's to tell.
    """

    number: int
    verdicts: Sequence[Verdict]
    refusals: Sequence[Refusal]
    tree_dropped: int = 0


@dataclass
class Ingest:
    """Applies the batches of one agent's stream, in their order.

    ``prepare`` touches no database and may run ahead of ``apply`` in another
    thread; ``apply`` may not run twice at the same time.
    """

    engine: Engine
    rating: Rating
    agent: str
    gate: Gate | None = None
    price_ids: PriceIds = field(default_factory=PriceIds)
    expect_new: bool = True
    writer: Writer = field(init=False)
    door: Gate = field(init=False)

    def __post_init__(self) -> None:
        """Connect to nothing yet; without a gate every cluster is permitted."""
        self.writer = Writer(self.engine)
        self.door = self.gate or Insider(self.agent)

    def close(self) -> None:
        """Give the database connection back; a later batch would take another."""
        self.writer.close()

    def prepare(self, decoded: Decoded) -> Prepared:
        """Return the batch as rows, priced by the books as last read."""
        books, scope = self.rating.books, self.door.scope
        entries = decoded.entries
        if not all(map(scope.permits, _clusters(decoded))):
            entries = [_permitted(entry, scope) for entry in entries]
        return Prepared(decoded, [self._entry(entry, books) for entry in entries], books, scope)

    def apply(self, prepared: Prepared) -> Applied:
        """Store a batch and return its verdicts once it is durable.

        Raises NotAdmitted, DatabaseUnavailable (the batch may be sent again) or
        DatabaseFailed; nothing is stored then.
        """
        for attempt in range(MAX_TRIES):
            if attempt:
                self._wait(attempt)
            try:
                return self._in_one_transaction(prepared)
            except NotAdmitted:
                raise
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
                dropped = self._keep_tree(conn, prepared)
                self._close(conn, outcome)
        except BaseException:
            self.price_ids.forget()
            raise
        self.price_ids.keep()
        return _applied(prepared.decoded.number, outcome, dropped)

    def _one_by_one(self, prepared: Prepared) -> Applied:
        """Apply record by record and quarantine the one that cannot be applied."""
        try:
            with self.writer.transaction() as conn:
                prepared = self._current(conn, prepared)
                outcome = Outcome()
                for entry in prepared.entries:
                    outcome.extend(self._alone(conn, entry, prepared.books))
                dropped = self._keep_tree_alone(conn, prepared)
                self._close(conn, outcome)
        except BaseException:
            self.price_ids.forget()
            raise
        self.price_ids.keep()
        return _applied(prepared.decoded.number, outcome, dropped)

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

    def _keep_tree(self, conn: Connection, prepared: Prepared) -> int:
        """Store what a batch says of account trees; returns how much was not the agent's to say."""
        told = prepared.decoded.tree
        if not told:
            return 0
        own = [entry for entry in told if prepared.scope.permits(entry.cluster)]
        tree.keep(conn, own)
        return len(told) - len(own)

    def _keep_tree_alone(self, conn: Connection, prepared: Prepared) -> int:
        """Store it, or pass it over: jobs must not wait for what is told again each day."""
        savepoint = conn.begin_nested()
        try:
            dropped = self._keep_tree(conn, prepared)
        except Exception as error:
            savepoint.rollback()
            if is_passing(error):
                raise
            log.warning("account tree of agent %s not kept: %s", self.agent, _sentence(error))
            return len(prepared.decoded.tree)
        savepoint.commit()
        return dropped

    def _current(self, conn: Connection, prepared: Prepared) -> Prepared:
        """Return the batch as the agent may tell it, priced by the books of now.

        Both stay so until the end. Raises NotAdmitted.
        """
        scope = self.door.confirm(conn)
        if hold_generation(conn) != prepared.books.generation:
            self.rating.refresh(conn)
        elif scope == prepared.scope:
            return prepared
        return self.prepare(prepared.decoded)

    def _store(
        self, conn: Connection, entries: Sequence[RunRow | Quarantined], books: BooksInForce
    ) -> Outcome:
        runs = [entry for entry in entries if isinstance(entry, RunRow)]
        self.price_ids.learn(conn, runs)
        if not runs:
            outcome = Outcome()
        elif self.expect_new and len({run.record[:3] for run in runs}) == len(runs):
            self._store_new(conn, runs)
            outcome = Outcome([Verdict.NEW] * len(runs))
        else:
            outcome = revise_runs(conn, runs, books, self.price_ids)
            self.expect_new = all(verdict is Verdict.NEW for verdict in outcome.verdicts)
        return outcome if len(runs) == len(entries) else _with_refused(entries, outcome)

    def _store_new(self, conn: Connection, runs: Sequence[RunRow]) -> None:
        """Load runs that are expected to be new; raises Clash if one is not."""
        if not bulk_of(conn).insert_new(conn, runs, self.price_ids):
            self.expect_new = False
            raise Clash

    def _close(self, conn: Connection, outcome: Outcome) -> None:
        now_s = clock.now_s()
        if outcome.quarantined:
            # A batch that is broken as a whole is one and the same record many times.
            apart = {id(record): record for record in outcome.quarantined}
            quarantine.keep(conn, self.agent, apart.values(), now_s)
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


def _clusters(decoded: Decoded) -> set[str]:
    """Return the clusters that a batch speaks for; nearly every batch is clean."""
    if decoded.clean:
        return {row[0][0] for row in cast("Sequence[Row]", decoded.entries)}
    return {_cluster(entry) for entry in decoded.entries}


def _cluster(entry: Row | Quarantined) -> str:
    return entry.cluster if isinstance(entry, Quarantined) else entry.record.cluster


def _permitted(entry: Row | Quarantined, scope: Scope) -> Row | Quarantined:
    """Return an entry, quarantined when its cluster is not the agent's to speak for."""
    cluster = _cluster(entry)
    if scope.permits(cluster) or not cluster:
        return entry
    reason = foreign(scope.agent, cluster)
    if isinstance(entry, Quarantined):
        return entry._replace(reason=f"{reason} {entry.reason}")
    raw = record_json(entry.record)
    return Quarantined(cluster, "collector", reason, raw, len(raw))


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


def _applied(number: int, outcome: Outcome, tree_dropped: int) -> Applied:
    refusals = [Refusal(index, reason) for index, reason in sorted(outcome.reasons.items())]
    return Applied(number, outcome.verdicts, refusals, tree_dropped)


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
