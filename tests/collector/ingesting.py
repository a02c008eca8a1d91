"""A collector without its network: batches go in, rows and sums come out."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import select, update

from jobledger_collector.core.charge import Price
from jobledger_collector.core.record import JobRecord, Quarantined, RunKey, Verdict
from jobledger_collector.ingest import Applied, Ingest
from jobledger_collector.rating import Rating
from jobledger_collector.store.cards import load_card
from jobledger_collector.store.engine import open_engine, reading, transaction
from jobledger_collector.store.prices import by_id
from jobledger_collector.store.rows import CHARGE_COLUMNS, ChargeRow, StoredRun
from jobledger_collector.store.runs import find_runs, iter_runs
from jobledger_collector.store.schema import charges, job_runs, quarantine, run_revisions
from jobledger_collector.wire import Decoded
from tests.factories import a_row, decoded

CARD: Final = """\
schema: jobledger.ratecard/1
card: test
version: 1
effective_from: 1970-01-01T00:00:01+00:00
currency: THB
timezone: Asia/Bangkok
tiers: [mu]
default_tier: mu
tax: {label: {en: VAT, th: ภาษี}, rate: {mu: "0"}}
meters: {cpu: {unit: Core-Hours}, gpu: {unit: GPU-Hours}, energy: {unit: kWh}}
skus:
  - {id: cpu, meter: cpu, list: "7.2", price: {mu: "3.6"}, name: {en: CPU, th: ซีพียู}}
  - {id: gpu, meter: gpu, list: "72", price: {mu: "36"}, name: {en: GPU, th: จีพียู}}
  - id: gpu-a100
    meter: gpu
    match: {gpu_type: [a100]}
    list: "144"
    price: {mu: "72"}
    name: {en: A100, th: A100}
  - {id: energy, meter: energy, list: "36", price: {mu: "36"}, name: {en: Energy, th: ไฟฟ้า}}
overrides: []
"""
"""3.60 THB a core-hour: a core-second is exactly 0.001 THB."""


class Standing(NamedTuple):
    """A charge as the property tests compare it: without numbers that order decides."""

    key: RunKey
    item: str
    segment: int
    base_units: int
    quantity_micro: int
    price: Price | None
    billing_account: str
    period: int


class Collector:
    """The collector's ingest over a database, as one agent's stream uses it."""

    def __init__(self, url: str, card: str = CARD) -> None:
        self.engine = open_engine(url)
        if card:
            with transaction(self.engine) as conn:
                load_card(conn, card, "card.yaml", 1, "test")
        self.ingest = Ingest(self.engine, Rating(self.engine), "agent-1")
        self._number = 0

    def second(self) -> "Collector":
        """Return another agent's stream into the same database."""
        other = Collector.__new__(Collector)
        other.engine = self.engine
        other.ingest = Ingest(self.engine, Rating(self.engine), "agent-2")
        other._number = 0  # noqa: SLF001 - its own
        return other

    def take(self, *records: JobRecord) -> list[Verdict]:
        """Apply one batch and return its verdicts."""
        return list(self.apply(decoded(*records)).verdicts)

    def apply(self, batch: Decoded) -> Applied:
        """Apply one batch."""
        return self.ingest.apply(self.ingest.prepare(batch))

    def take_mixed(self, *entries: JobRecord | Quarantined) -> Applied:
        """Apply a batch of readable and unreadable records."""
        rows = [entry if isinstance(entry, Quarantined) else a_row(entry) for entry in entries]
        return self.apply(Decoded(1, rows, clean=False))

    def run(self, job_id: int = 1, cluster: str = "alpha") -> StoredRun:
        """Return the one run of a job."""
        (run,) = self.runs(job_id, cluster)
        return run

    def runs(self, job_id: int, cluster: str = "alpha") -> list[StoredRun]:
        """Return all runs of a job, oldest first."""
        with reading(self.engine) as conn:
            return find_runs(conn, cluster, job_id)

    def all_runs(self) -> list[StoredRun]:
        """Return every ended run."""
        with reading(self.engine) as conn:
            return list(iter_runs(conn))

    def states(self) -> dict[RunKey, StoredRun]:
        """Return every run, open or ended, without the number of its revision."""
        with reading(self.engine) as conn:
            keys = conn.execute(select(job_runs.c.cluster, job_runs.c.job_id).distinct()).all()
        runs = [run for cluster, job_id in keys for run in self.runs(job_id, cluster)]
        return {run.key: run._replace(revision=0) for run in runs}

    def charges(self) -> list[tuple[ChargeRow, int | None]]:
        """Return every charge with its invoice."""
        columns = [charges.c[name] for name in CHARGE_COLUMNS]
        with reading(self.engine) as conn:
            rows = conn.execute(select(*columns, charges.c.invoice_id).order_by(*columns))
            return [(ChargeRow(*row[:-1]), row[-1]) for row in rows]

    def standing(self) -> set[Standing]:
        """Return what is owed now."""
        rows = [row for row, _ in self.charges() if row.superseded_by == 0]
        with reading(self.engine) as conn:
            prices = by_id(conn, {row.price_id for row in rows})
        return {
            Standing(
                row.key, row.item, row.segment, row.base_units, row.quantity_micro,
                prices.get(row.price_id), row.billing_account, row.period,
            )
            for row in rows
        }  # fmt: skip

    def owed(self, item: str = "cpu") -> int:
        """Return the base units of an item that stand, over all runs."""
        return sum(row.base_units for row, _ in self.charges() if _is_standing(row, item))

    def billed(self, item: str = "cpu") -> int:
        """Return the base units that all invoices and the next one will have billed."""
        return sum(
            row.base_units
            for row, invoice in self.charges()
            if row.item == item and (invoice is not None or row.superseded_by == 0 or row.kind < 0)
        )

    def invoice(self, invoice_id: int = 1) -> None:
        """Put everything billable on an invoice, as issuing does."""
        with transaction(self.engine) as conn:
            conn.execute(
                update(charges)
                .where(
                    charges.c.invoice_id.is_(None),
                    (charges.c.superseded_by == 0) | (charges.c.kind == -1),
                )
                .values(invoice_id=invoice_id)
            )

    def revisions(self) -> list[tuple[int, int]]:
        """Return (job id, replaced revision) of every row that a revision replaced."""
        table = run_revisions.c
        with reading(self.engine) as conn:
            rows = conn.execute(
                select(table.job_id, table.revision).order_by(table.job_id, table.revision)
            )
            return [(row[0], row[1]) for row in rows]

    def kept_aside(self) -> Sequence[Any]:
        """Return the rows of the quarantine."""
        with reading(self.engine) as conn:
            return conn.execute(select(quarantine).order_by(quarantine.c.id)).all()


def _is_standing(row: ChargeRow, item: str) -> bool:
    return row.item == item and row.superseded_by == 0
