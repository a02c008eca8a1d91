"""Batches: one transaction each, a verdict a record, whatever is in them."""

import sqlite3
import threading
from dataclasses import replace

import pytest

from jobledger_collector.core.errors import DatabaseUnavailable
from jobledger_collector.core.record import JobRecord, Quarantined, Verdict
from jobledger_collector.core.reporter import Greeting
from jobledger_collector.store import agents, bulk_postgres, bulk_sqlite
from jobledger_collector.store.bulk import Bulk
from jobledger_collector.store.cards import load_card
from jobledger_collector.store.engine import open_engine, transaction
from tests.collector.ingesting import CARD, Collector
from tests.factories import a_job, decoded

NEW, KNOWN, REVISED, QUARANTINED = Verdict


@pytest.fixture
def collector(database_url: str) -> Collector:
    return Collector(database_url)


@pytest.fixture
def light(sqlite_url: str) -> Collector:
    """Where the database makes no difference."""
    return Collector(sqlite_url)


def test_new_runs_are_stored_used_and_priced(collector: Collector) -> None:
    assert collector.take(a_job(1), a_job(2, end=0, state="RUNNING")) == [NEW, NEW]
    run = collector.run(1)
    assert run.record == a_job(1)
    assert run.usage[1:6] == (6, 12, 6, 600, 6)
    assert (run.revision, run.billing_account, run.period) == (1, "physics", 197001)
    assert collector.run(2).period == 0
    assert {(row.item, row.base_units, row.quantity_micro) for row in collector.standing()} == {
        ("cpu", 12, 3333),
        ("gpu", 6, 1667),
    }


def test_a_batch_sent_again_changes_nothing(collector: Collector) -> None:
    batch = [a_job(n) for n in range(1, 20)]
    collector.take(*batch)
    before = (collector.states(), collector.charges())
    assert collector.take(*batch) == [KNOWN] * 19
    assert collector.take(*reversed(batch)) == [KNOWN] * 19
    assert (collector.states(), collector.charges()) == before
    assert collector.revisions() == []


def test_the_way_for_new_batches_is_taken_up_again_after_a_resend(collector: Collector) -> None:
    collector.take(a_job(1))
    collector.take(a_job(1))
    assert not collector.ingest.expect_new
    assert collector.take(a_job(2)) == [NEW]
    assert collector.ingest.expect_new


def test_new_known_revised_and_refused_in_one_batch(collector: Collector) -> None:
    collector.take(*(a_job(n) for n in range(1, 5)))
    applied = collector.take_mixed(
        a_job(1),
        Quarantined("alpha", "jobs.txt:7", "It has 3 fields.", b"1|2|3", 5),
        a_job(2, end=110, observed=2_000),
        a_job(7),
        a_job(3, tres="", observed=2_000),
    )
    assert applied.verdicts == [KNOWN, QUARANTINED, REVISED, NEW, QUARANTINED]
    assert [refusal.place for refusal in applied.refusals] == [1, 4]
    assert applied.refusals[0].reason == "It has 3 fields."
    assert "AllocTRES is empty" in applied.refusals[1].reason
    assert collector.run(3).usage.cpu_s == 12
    assert collector.run(2).usage.cpu_s == 20
    assert len(collector.kept_aside()) == 2


def test_a_run_twice_in_one_batch_is_one_run(collector: Collector) -> None:
    open_view = a_job(1, end=0, state="RUNNING", observed=103)
    verdicts = collector.take(open_view, a_job(1), a_job(1), open_view)
    assert verdicts == [NEW, REVISED, KNOWN, KNOWN]
    assert collector.run(1).revision == 2
    assert collector.revisions() == [(1, 1)]
    assert collector.owed() == 12


def test_a_revision_keeps_what_it_replaced(collector: Collector) -> None:
    collector.take(a_job(1))
    collector.take(a_job(1, end=110, observed=2_000))
    collector.take(a_job(1, end=120, observed=3_000))
    assert collector.run(1).revision == 3
    assert collector.revisions() == [(1, 1), (1, 2)]
    live = [row for row, _ in collector.charges() if row.superseded_by == 0]
    assert {(row.item, row.base_units, row.revision) for row in live} == {
        ("cpu", 40, 3),
        ("gpu", 20, 3),
    }
    assert sorted(row.superseded_by for row, _ in collector.charges()) == [0, 0, 1, 1, 2, 2]


def test_a_revision_without_other_usage_touches_no_charge(collector: Collector) -> None:
    collector.take(a_job(1))
    before = collector.charges()
    assert collector.take(a_job(1, sluid=5, total_cpu_ms=70, observed=2_000)) == [REVISED]
    assert collector.run(1).record.sluid == 5
    assert collector.charges() == before


def test_only_the_items_that_changed_are_charged_anew(collector: Collector) -> None:
    collector.take(a_job(1))
    collector.take(a_job(1, energy_j=5_000, observed=2_000))
    rows = [row for row, _ in collector.charges()]
    assert sorted((row.item, row.superseded_by) for row in rows) == [
        ("cpu", 0), ("energy", 0), ("gpu", 0),
    ]  # fmt: skip


def test_an_invoiced_charge_is_reversed_and_charged_anew(collector: Collector) -> None:
    collector.take(a_job(1))
    collector.invoice(1)
    collector.take(a_job(1, end=110, observed=2_000))
    cpu = [(row.kind, row.superseded_by, row.base_units, invoice)
           for row, invoice in collector.charges() if row.item == "cpu"]  # fmt: skip
    assert sorted(cpu, key=str) == sorted(
        [(1, 1, 12, 1), (-1, 1, -12, None), (1, 0, 20, None)], key=str
    )
    assert collector.billed() == 20
    collector.invoice(2)
    collector.take(a_job(1, end=108, observed=3_000))
    assert collector.billed() == 16
    assert collector.owed() == 16


def test_what_is_on_an_invoice_stands_although_prices_changed_since(collector: Collector) -> None:
    collector.take(a_job(1))
    collector.invoice(1)
    dearer = CARD.replace("version: 1\n", "version: 2\n").replace('mu: "3.6"', 'mu: "7.2"')
    dearer = dearer.replace("01T00:00:01", "01T00:00:02")
    with transaction(collector.engine) as conn:
        load_card(conn, dearer, "dearer.yaml", 2, "test")
    before = collector.charges()
    assert collector.take(a_job(1, observed=2_000)) == [KNOWN]
    assert collector.take(a_job(1, observed=3_000, qos="normal", exit_code=1)) == [REVISED]
    assert collector.charges() == before


def test_a_new_card_counts_from_the_very_next_batch(collector: Collector) -> None:
    prepared_before = collector.ingest.prepare(decoded(a_job(1)))
    dearer = CARD.replace("version: 1\n", "version: 2\n").replace('mu: "3.6"', 'mu: "7.2"')
    dearer = dearer.replace("01T00:00:01", "01T00:00:02")
    with transaction(collector.engine) as conn:
        load_card(conn, dearer, "dearer.yaml", 2, "test")
    collector.ingest.apply(prepared_before)
    (cpu,) = [row for row in collector.standing() if row.item == "cpu"]
    assert cpu.price is not None
    assert cpu.price.unit_e8 == 720_000_000


def test_without_a_card_runs_are_kept_and_flagged(database_url: str) -> None:
    collector = Collector(database_url, card="")
    assert collector.take(a_job(1)) == [NEW]
    assert collector.run(1).flags == ("no_card",)
    assert collector.charges() == []


def test_quarantine_counts_what_comes_again(collector: Collector) -> None:
    for observed in (2_000, 3_000, 4_000):
        assert collector.take(a_job(1, tres="", observed=observed)) == [QUARANTINED]
    (row,) = collector.kept_aside()
    assert row.times == 3
    assert b'"job_id": 1' in row.raw


def test_text_survives_whatever_it_holds(collector: Collector) -> None:
    odd = "tab\there, newline\nthere, back\\slash, quote', \\N, ภาษาไทย 🚀"
    texts = ("state", "node_list", "user", "account", "partition", "qos", "wckey", "reservation")
    record = a_job(1, **dict.fromkeys(texts, odd), cluster="cl\tu\\s")
    assert collector.take(record) == [NEW]
    assert collector.take(record) == [KNOWN]
    assert collector.run(1, cluster="cl\tu\\s").record == record
    assert collector.take(record._replace(exit_code=1, observed=2_000)) == [REVISED]
    assert collector.run(1, cluster="cl\tu\\s").record.wckey == odd
    assert {row.billing_account for row in collector.standing()} == {odd}


def test_extreme_numbers_survive(collector: Collector) -> None:
    record = a_job(2**63 - 1, sluid=2**64 - 1, assoc_id=2**63 - 1, uid=2**63 - 1, nodes=2**32 - 1)
    assert collector.take(record, record) == [NEW, KNOWN]
    assert collector.run(2**63 - 1).record == record


def _breaks(collector: Collector, monkeypatch: pytest.MonkeyPatch, poison: JobRecord) -> None:
    """Make the database layer raise on one record, as a fault of ours would."""
    module = bulk_sqlite if collector.engine.dialect.name == "sqlite" else bulk_postgres
    insert = module.insert_new

    def broken(conn, runs, price_id):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        if any(run.record.key == poison.key for run in runs):
            message = "a fault"
            raise ZeroDivisionError(message)
        return insert(conn, runs, price_id)

    monkeypatch.setattr(module, "insert_new", broken)


def test_a_record_that_breaks_us_is_set_aside_and_its_neighbours_go_on(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    _breaks(collector, monkeypatch, a_job(3))
    verdicts = collector.take(*(a_job(n) for n in range(1, 6)))
    assert verdicts == [NEW, NEW, QUARANTINED, NEW, NEW]
    (row,) = collector.kept_aside()
    assert "ZeroDivisionError: a fault" in row.reason
    assert collector.owed() == 48


def test_ids_of_prices_that_were_rolled_back_are_forgotten(
    light: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another price could get the number that was given up."""

    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(bulk_sqlite, "insert_new", fails)
        with pytest.raises(DatabaseUnavailable, match="disk is full"):
            light.take(a_job(1))
    light.take(a_job(2, tres="gres/gpu:a100=1,mem=1"))
    light.take(a_job(1))
    skus = {(row.key.job_id, row.item, row.price and row.price.sku) for row in light.standing()}
    assert skus == {(1, "cpu", "cpu"), (1, "gpu", "gpu"), (2, "gpu:a100", "gpu-a100")}


def test_what_the_database_refuses_is_set_aside(collector: Collector) -> None:
    row = collector.ingest.prepare(decoded(a_job(2))).entries[0]
    assert not isinstance(row, Quarantined)
    negative = row._replace(usage=row.usage._replace(cpu_s=-1))
    whole = collector.ingest.prepare(decoded(a_job(1), a_job(2), a_job(3)))
    entries = [negative if n == 1 else entry for n, entry in enumerate(whole.entries)]
    applied = collector.ingest.apply(whole._replace(entries=entries))
    assert applied.verdicts == [NEW, QUARANTINED, NEW]


def test_a_database_that_is_away_is_never_the_records_fault(
    collector: Collector, database_url: str
) -> None:
    gone = "no-such-host.invalid" if "postgres" in database_url else ""
    url = (
        database_url.replace("127.0.0.1", gone)
        if gone
        else "sqlite:////nonexistent-folder/jobledger.db"
    )
    away = Collector.__new__(Collector)
    away.ingest = replace(collector.ingest, engine=open_engine(url))
    with pytest.raises(DatabaseUnavailable, match="is not available"):
        away.take(a_job(1))
    assert collector.all_runs() == []
    assert collector.kept_aside() == []


def test_two_agents_with_the_same_runs_charge_them_once(collector: Collector) -> None:
    """The same 300 runs from two streams at once, in opposite orders (case 45)."""
    runs = [a_job(n) for n in range(1, 301)]
    orders = ([*runs], [*reversed(runs)])
    verdicts: list[Verdict] = []
    streams = (collector, collector.second())

    def deliver(stream: Collector, order: list[JobRecord]) -> None:
        for first in range(0, len(order), 50):
            verdicts.extend(stream.take(*order[first : first + 50]))

    threads = [
        threading.Thread(target=deliver, args=pair) for pair in zip(streams, orders, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts) == [NEW] * 300 + [KNOWN] * 300
    assert collector.owed() == 12 * 300
    assert collector.kept_aside() == []


def test_the_agents_counters_add_up(light: Collector) -> None:
    with transaction(light.engine) as conn:
        agents.greet(conn, Greeting("agent-1", "1", ("alpha",), 0), 5)
    light.take(a_job(1), a_job(2))
    light.take(a_job(1), a_job(2, end=107, observed=2_000), a_job(3, tres=""))
    with transaction(light.engine) as conn:
        (row,) = agents.list_agents(conn)
    assert [row[name] for name in agents.COUNTERS] == [2, 1, 1, 1]


def test_both_databases_offer_the_same_bulk_operations() -> None:
    wanted = {name for name in vars(Bulk) if not name.startswith("_")}
    for module in (bulk_postgres, bulk_sqlite):
        assert wanted <= set(vars(module))
