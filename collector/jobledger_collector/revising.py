"""Runs that may be known already: compared with what is stored, joined, written.

All sightings of one run in a batch are joined in turn, so that a batch may hold
a run twice; what a run comes to does not depend on the order.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from jobledger_collector import clock
from jobledger_collector.columns import record_json
from jobledger_collector.core.card import MeterName
from jobledger_collector.core.charge import Price
from jobledger_collector.core.record import (
    JobRecord,
    Quarantined,
    RunKey,
    Verdict,
    with_pricing_flags,
)
from jobledger_collector.core.revise import (
    MAX_VERSIONS,
    History,
    Settled,
    held_reason,
    join,
    settle,
    sighting,
)
from jobledger_collector.rating import (
    PriceIds,
    facts_without_energy,
    invoiced_items,
    price_facts,
    rate_billed,
    resettled_run,
    settled_run,
)
from jobledger_collector.store.books import BooksInForce
from jobledger_collector.store.bulk import Replaced, bulk_of
from jobledger_collector.store.charges import Owed, find_standing, replace_charges
from jobledger_collector.store.handles import Connection
from jobledger_collector.store.prices import by_id
from jobledger_collector.store.rows import RunRow, StandingCharge, StoredRun, row_json, stored_run

TOO_MANY_VERSIONS: Final = (
    f"Slurm has told more than {MAX_VERSIONS} different stories of this run's times or resources:"
    " no more are remembered until a person has looked at it."
)


class Clash(Exception):
    """Another transaction stored one of these runs meanwhile: try the batch again."""


@dataclass
class Outcome:
    """What became of records: verdicts in order, reasons by place, rows for quarantine."""

    verdicts: list[Verdict] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)

    def add(self, verdict: Verdict, reason: str = "") -> None:
        """Append a record's verdict, with the reason when it is quarantined."""
        if reason:
            self.reasons[len(self.verdicts)] = reason
        self.verdicts.append(verdict)

    def refuse(self, record: Quarantined) -> None:
        """Append a record that goes to the quarantine."""
        self.add(Verdict.QUARANTINED, record.reason)
        self.quarantined.append(record)

    def extend(self, other: "Outcome") -> None:
        """Append another outcome's records after these."""
        place = len(self.verdicts)
        self.verdicts += other.verdicts
        self.reasons |= {place + index: reason for index, reason in other.reasons.items()}
        self.quarantined += other.quarantined


class _Run(NamedTuple):
    """A run as a batch finds and changes it.

    ``stored`` is whether the database has it already, ``row`` is what it shall
    hold, and ``replaced`` are the rows that its revisions replaced. Its charges
    are looked at only when ``recharge``, all of them if ``moved``; else its
    energy alone changed.
    """

    stored: bool
    history: History
    row: RunRow
    replaced: tuple[Replaced, ...] = ()
    recharge: bool = False
    moved: bool = False


def revise_runs(
    conn: Connection, runs: Sequence[RunRow], books: BooksInForce, price_ids: PriceIds
) -> Outcome:
    """Store runs of which some may be known; raises Clash when another writer was faster."""
    if not runs:
        return Outcome()
    bulk = bulk_of(conn)
    arrived: dict[RunKey, set[tuple[str, int]]] = defaultdict(set)
    for run in runs:
        arrived[run.record.key].add((run.digest, run.record.observed))
    seen = bulk.find_seen(conn, arrived)
    unchanged = {key for key, mark in seen.items() if arrived[key] == {mark}}
    stored = bulk.find_runs(conn, seen.keys() - unchanged) if len(unchanged) < len(seen) else []
    current = {run.key: _as_found(run) for run in map(stored_run, stored)}
    outcome = Outcome()
    for run in runs:
        if run.record.key in unchanged:
            outcome.add(Verdict.KNOWN)
        else:
            _sight(current, run, books, outcome)
    _write(conn, _as_billed(conn, list(current.values()), books), price_ids)
    return outcome


def compare_runs(
    stored: Iterable[StoredRun], runs: Sequence[RunRow], books: BooksInForce
) -> list[Verdict]:
    """Return the verdicts that runs would get, given what is stored of them; nothing is written.

    By the same join as ``revise_runs``.
    """
    current = {run.key: _as_found(run) for run in stored}
    outcome = Outcome()
    for run in runs:
        _sight(current, run, books, outcome)
    return outcome.verdicts


def _sight(current: dict[RunKey, _Run], run: RunRow, books: BooksInForce, outcome: Outcome) -> None:
    """Join one sighting to its run and say what it changed."""
    key = run.record.key
    known = current.get(key)
    if known is None:
        current[key] = _Run(stored=False, history=sighting(run.record, run.digest), row=run)
        outcome.add(Verdict.NEW)
        return
    seen_now = sighting(run.record, run.digest)
    joined = join(known.history, seen_now)
    if len(joined.versions) > MAX_VERSIONS:
        outcome.refuse(_quarantined(run.record, TOO_MANY_VERSIONS))
        return
    before, after = settle(known.history), settle(joined)
    if joined != known.history:
        current[key] = _rejoined(known, joined, before, after, books)
    held_before = {version.essence for version in before.held}
    here = {version.essence for version in seen_now.versions}
    outcome.quarantined += [
        _quarantined(version.record, held_reason(version, joined))
        for version in after.held
        if version.essence not in held_before | here
    ]
    held = [version for version in after.held if version.essence in here]
    if held:
        outcome.refuse(_quarantined(run.record, held_reason(held[0], joined)))
    else:
        outcome.add(Verdict.KNOWN if _told(before) == _told(after) else Verdict.REVISED)


def _told(settled: Settled) -> tuple[object, ...]:
    """Return what a revision is counted by: all that a run shows but when it was seen."""
    return (settled.record[:-1], settled.shown.record[:-1], settled.usage, settled.flags)


def _rejoined(
    known: _Run, joined: History, before: Settled, after: Settled, books: BooksInForce
) -> _Run:
    old = known.row
    changed = _told(before) != _told(after)
    recharge = price_facts(before) != price_facts(after)
    if recharge:
        row = settled_run(joined, after, old.revision + changed, books)
    else:
        row = resettled_run(old, joined, after, old.revision + changed)
    replaced = (*known.replaced, _replaced(old)) if changed else known.replaced
    moved = facts_without_energy(before) != facts_without_energy(after)
    return _Run(
        known.stored, joined, row, replaced, known.recharge or recharge, known.moved or moved
    )


def _replaced(row: RunRow) -> Replaced:
    return (*row.record.key, row.revision, row_json(row), clock.now_s())


def _as_billed(conn: Connection, runs: Sequence[_Run], books: BooksInForce) -> list[_Run]:
    """Return the runs, with those on an invoice whose energy alone changed charged as billed.

    Energy comes late: that the books changed since the invoice is no reason to
    take back what it rightly says of cores and memory.
    """
    late = [run for run in runs if run.stored and run.recharge and not run.moved]
    keys = [run.row.record.key for run in late]
    standing = {
        key: charges
        for key, charges in (find_standing(conn, keys) if keys else {}).items()
        if invoiced_items(charges)
    }
    prices = by_id(conn, {old.row.price_id for charges in standing.values() for old in charges})
    return [
        run._replace(row=_billed_row(run, standing[key], books, prices)) if key in standing else run
        for run, key in ((run, run.row.record.key) for run in runs)
    ]


def _billed_row(
    run: _Run, standing: Sequence[StandingCharge], books: BooksInForce, prices: Mapping[int, Price]
) -> RunRow:
    row = run.row
    keep = invoiced_items(standing) - {str(MeterName.ENERGY)}
    account, period, pricing = rate_billed(row, standing, keep, books, prices)
    flags = with_pricing_flags(filter(None, row.flags.split(",")), pricing.flags)
    return row._replace(
        flags=",".join(flags), billing_account=account, period=period, charges=pricing.charges
    )


def _write(conn: Connection, runs: Sequence[_Run], price_ids: PriceIds) -> None:
    """Write what changed; the rows of runs as they were found are left alone."""
    bulk = bulk_of(conn)
    price_ids.learn(conn, [run.row for run in runs])
    new = [run.row for run in runs if not run.stored]
    if new and not bulk.insert_new(conn, new, price_ids):
        raise Clash
    changed = [run.row for run in runs if run.stored and run.row.content]
    if changed:
        bulk.upsert_runs(conn, changed)
        owed = [_owed(run.row) for run in runs if run.stored and run.recharge]
        replace_charges(conn, owed, price_ids)
    replaced = [row for run in runs for row in run.replaced]
    if replaced:
        bulk.insert_revisions(conn, replaced)


def _as_found(stored: StoredRun) -> _Run:
    """Return a run as it is stored; without ``content`` its row is not to be written."""
    row = RunRow(
        stored.record, "", stored.digest, stored.revision, stored.usage, stored.carried,
        ",".join(stored.flags), stored.billing_account, stored.period, (),
    )  # fmt: skip
    return _Run(stored=True, history=stored.history(), row=row)


def _owed(row: RunRow) -> Owed:
    return Owed(row.record.key, row.revision, row.billing_account, row.period, row.charges)


def _quarantined(record: JobRecord, reason: str) -> Quarantined:
    raw = record_json(record)
    return Quarantined(record.cluster, "collector", reason, raw, len(raw))
