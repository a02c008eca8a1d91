"""Changed books price again what is not invoiced: exactly, once, and nothing else."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from jobledger_collector.columns import Row
from jobledger_collector.core.errors import CollectorError
from jobledger_collector.core.money import format_cost
from jobledger_collector.core.record import content_text
from jobledger_collector.ingest import Ingest
from jobledger_collector.rating import Rating
from jobledger_collector.rerating import Rerated, rerate
from jobledger_collector.store.accounts import load_accounts
from jobledger_collector.store.books import load_books
from jobledger_collector.store.cards import load_card
from jobledger_collector.store.engine import open_engine, reading, transaction
from jobledger_collector.store.migrate import upgrade
from jobledger_collector.store.schema import charges, job_runs, prices
from jobledger_collector.wire import Decoded
from tests.collector.billing import ACCOUNTS, MAHIDOL, NOVEMBER, Books, a_run, at, open_books

Card = Callable[[str], str]
FIRST = MAHIDOL.read_text("utf-8")
MID_OCTOBER = "2026-10-12T09:00:00+07:00"  # in the middle of billing.a_run


@pytest.fixture
def books(database_url: str) -> Books:
    """Books with the sample card and two accounts."""
    return open_books(database_url)


def a_card(
    version: int = 2, start: str = "2026-10-01T00:00:00+07:00", cpu: str = "4", **over: str
) -> str:
    """The sample card's next version, with another price of a core-hour for mu."""
    text_ = FIRST.replace("version: 1", f"version: {version}", 1)
    text_ = text_.replace("2025-10-01T00:00:00+07:00", start, 1)
    text_ = text_.replace('mu: "1", gov: "3"', f'mu: "{cpu}", gov: "3"', 1)
    for old, new in over.items():
        text_ = text_.replace(old, new)
    return text_


def load(books: Books, card: str, ended_after: int = 0) -> Rerated:
    with transaction(books.engine) as conn:
        load_card(conn, card, "card.yaml", NOVEMBER, "tester")
        return rerate(conn, load_books(conn), ended_after)


def standing(books: Books) -> list[tuple[Any, ...]]:
    """What stands: (job, item, segment, base units, price in 10^-8, version, account, invoiced)."""
    with reading(books.engine) as conn:
        rows = conn.execute(
            select(
                charges.c.job_id, charges.c.item, charges.c.segment, charges.c.base_units,
                prices.c.unit_e8, prices.c.card_version, charges.c.billing_account,
                charges.c.invoice_id.isnot(None),
            )
            .select_from(charges.outerjoin(prices, prices.c.id == charges.c.price_id))
            .where(charges.c.superseded_by == 0)
            .order_by(charges.c.job_id, charges.c.item, charges.c.segment)
        )  # fmt: skip
        return [tuple(row) for row in rows]


def everything(books: Books) -> list[list[tuple[Any, ...]]]:
    """Every row of runs and charges, to see that nothing changed."""
    with reading(books.engine) as conn:
        return [
            [tuple(row) for row in conn.execute(select(table).order_by(text("1, 2, 3, 4, 5, 6")))]
            for table in (charges, job_runs)
        ]


def owed(books: Books) -> str:
    return format_cost(sum(quantity * (unit_e8 or 0) for quantity, unit_e8 in _billable(books)), 2)


def _billable(books: Books) -> list[tuple[int, int | None]]:
    with reading(books.engine) as conn:
        rows = conn.execute(
            select(charges.c.quantity_micro, prices.c.unit_e8)
            .select_from(charges.outerjoin(prices, prices.c.id == charges.c.price_id))
            .where(
                charges.c.invoice_id.is_(None),
                (charges.c.superseded_by == 0) | (charges.c.kind == -1),
            )
        )
        return [tuple(row) for row in rows]


def test_a_new_card_prices_again_what_it_covers(books: Books) -> None:
    books.ingest(a_run(1))
    assert owed(books) == "16.00"  # 8 core-hours at 1, 16 GiB-hours at 0.5
    done = load(books, a_card(cpu="4"))
    assert owed(books) == "40.00"
    assert (done.runs, done.changed, done.invoiced, done.unpriced) == (1, 1, 0, 0)
    assert (format_cost(done.before_e14), format_cost(done.after_e14)) == ("16", "40")


def test_repeating_it_changes_nothing(books: Books) -> None:
    books.ingest(a_run(1), a_run(2, account="acme"), a_run(3, end=0))
    load(books, a_card())
    before = everything(books)
    with transaction(books.engine) as conn:
        done = rerate(conn, load_books(conn))
    assert done.changed == 0
    assert everything(books) == before


def test_a_card_cuts_a_run_that_it_begins_in(books: Books) -> None:
    books.ingest(a_run(1))
    load(books, a_card(start=MID_OCTOBER))
    cpu = [row[1:6] for row in standing(books) if row[1] == "cpu"]
    assert cpu == [("cpu", 0, 14_400, 10**8, 1), ("cpu", 1, 14_400, 4 * 10**8, 2)]


def test_the_outcome_is_that_of_having_had_the_card_from_the_start(
    books: Books, tmp_path: Path
) -> None:
    runs = [a_run(1), a_run(2, account="acme", suspended_s=77), a_run(3, alloc_tres=GPUS)]
    books.ingest(*runs)
    load(books, a_card(start=MID_OCTOBER))
    fresh = open_books(f"sqlite:///{tmp_path / 'fresh.db'}")
    load(fresh, a_card(start=MID_OCTOBER))
    fresh.ingest(*runs)
    assert standing(books) == standing(fresh)


GPUS = (("cpu", 8), ("gres/gpu", 2), ("gres/gpu:a100", 1), ("mem", 1024), ("node", 1))


def test_what_is_invoiced_stays_as_it_was_billed(books: Books) -> None:
    books.ingest(a_run(1))
    books.issue()
    books.ingest(a_run(2))
    before = [row for row in standing(books) if row[0] == 1]
    done = load(books, a_card())
    assert [row for row in standing(books) if row[0] == 1] == before
    assert all(row[-1] for row in before)
    assert (done.runs, done.changed, done.invoiced) == (2, 1, 1)
    assert owed(books) == "40.00"  # only run 2


def test_an_item_without_a_price_is_priced_though_its_run_is_invoiced(books: Books) -> None:
    no_memory = FIRST.replace("    meter: mem\n", "    meter: mem\n    match: {qos: [rare]}\n")
    with transaction(books.engine) as conn:
        load_card(
            conn,
            no_memory.replace("version: 1", "version: 2").replace("2025-10-01T00", "2025-10-02T00"),
            "card.yaml", NOVEMBER, "tester",
        )  # fmt: skip
    books.ingest(a_run(1))
    books.issue()
    assert [(row[1], row[-1]) for row in standing(books)] == [("cpu", True), ("mem", False)]
    with reading(books.engine) as conn:
        assert conn.execute(select(job_runs.c.flags)).scalar_one() == "no_price"
    load(books, a_card(version=3))
    assert [(row[1], row[4], row[-1]) for row in standing(books)] == [
        ("cpu", 10**8, True),  # as billed
        ("mem", 5 * 10**7, False),  # priced now, for the next invoice
    ]
    with reading(books.engine) as conn:
        assert conn.execute(select(job_runs.c.flags)).scalar_one() == ""


def test_the_first_card_prices_what_was_there_before_it(database_url: str) -> None:
    engine = open_engine(database_url)
    upgrade(engine)
    books = Books(engine, database_url)
    last_second_of_october = at("2026-10-31T23:59:59")
    books.ingest(a_run(1, end=last_second_of_october))
    assert standing(books) == []
    assert _run(books)[:2] == ("no_card", 202610)
    load(books, FIRST)
    assert {row[1] for row in standing(books)} == {"cpu", "mem"}
    assert _run(books)[:2] == ("", 202610)


def test_the_books_time_zone_decides_the_month_also_of_what_came_before(database_url: str) -> None:
    engine = open_engine(database_url)
    upgrade(engine)
    books = Books(engine, database_url)
    books.ingest(a_run(1, end=at("2026-11-01T03:00:00")))  # still October in UTC
    assert _run(books)[1] == 202610
    load(books, FIRST)
    assert _run(books)[1] == 202611
    with reading(engine) as conn:
        assert set(conn.execute(select(charges.c.period)).scalars()) == {202611}


def _run(books: Books) -> tuple[str, int, str]:
    with reading(books.engine) as conn:
        row = conn.execute(
            select(job_runs.c.flags, job_runs.c.period, job_runs.c.billing_account)
        ).one()
        return (row[0], row[1], row[2])


def reassign(books: Books, document: str) -> Rerated:
    with transaction(books.engine) as conn:
        load_accounts(conn, document, "accounts.yaml")
        return rerate(conn, load_books(conn))


def test_another_payer_takes_over_what_is_not_invoiced(books: Books) -> None:
    books.ingest(a_run(1))
    books.issue()
    books.ingest(a_run(2))
    reassign(books, ACCOUNTS.replace("slurm: [acme]", "slurm: [acme, physics]").replace(
        "tier: mu, slurm: [physics]", "tier: mu"
    ))  # fmt: skip
    assert {(row[0], row[4], row[6]) for row in standing(books) if row[1] == "cpu"} == {
        (1, 10**8, "physics"),
        (2, 5 * 10**8, "acme"),
    }


def test_another_tier_changes_prices(books: Books) -> None:
    books.ingest(a_run(1))
    reassign(books, ACCOUNTS.replace("tier: mu", "tier: gov"))
    assert owed(books) == "40.00"  # 8 × 3 + 16 × 1


def test_an_earlier_end_is_not_touched_by_a_later_card(books: Books) -> None:
    books.ingest(a_run(1))
    before = everything(books)
    start = at("2026-11-01T00:00:00")
    done = load(books, a_card(start="2026-11-01T00:00:00+07:00"), ended_after=start)
    assert done.runs == 0
    assert everything(books) == before


def test_pages_leave_no_run_out(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobledger_collector.rerating.PAGE_RUNS", 7)
    monkeypatch.setattr("jobledger_collector.store.runs.PAGE_RUNS", 5)
    books.ingest(*(a_run(n) for n in range(1, 40)))
    seen: list[int] = []
    with transaction(books.engine) as conn:
        load_card(conn, a_card(), "card.yaml", NOVEMBER, "tester")
        done = rerate(conn, load_books(conn), 0, lambda sums: seen.append(sums.runs))
    assert (done.runs, done.changed, owed(books)) == (39, 39, f"{39 * 40}.00")
    assert seen == [7, 14, 21, 28, 35, 39]


def test_a_change_that_fails_leaves_the_books_as_they_were(books: Books) -> None:
    books.ingest(a_run(1))
    before = everything(books)

    def interrupt(_: Rerated) -> None:
        raise KeyboardInterrupt

    def load_half() -> None:
        with transaction(books.engine) as conn:
            load_card(conn, a_card(), "card.yaml", NOVEMBER, "tester")
            rerate(conn, load_books(conn), 0, interrupt)

    with pytest.raises(KeyboardInterrupt):
        load_half()
    assert everything(books) == before
    with reading(books.engine) as conn:
        assert len(load_books(conn).rates.cards) == 1


def test_a_revision_after_an_invoice_is_priced_again_but_the_invoice_is_not(books: Books) -> None:
    first = a_run(1)
    books.ingest(first)
    books.issue()
    longer = first._replace(end=first.end + 3600, observed=first.observed + 9999)
    books.ingest(longer)
    assert owed(books) == "8.00"  # 24 for the longer run, less 16 invoiced
    load(books, a_card())
    assert owed(books) == "44.00"  # 60 at the new price, less 16 as invoiced


def test_energy_that_comes_after_the_invoice_takes_nothing_else_back(books: Books) -> None:
    """Neither another payer nor another price since is a reason to undo what was billed."""
    with_energy = FIRST.replace(
        "meters:\n", "meters:\n  energy: {unit: kWh}\n"
    ).replace("skus:\n", """skus:
  - id: power
    meter: energy
    list: "4"
    price: {mu: "4", gov: "4", private: "4"}
    name: {en: Electricity, th: ไฟฟ้า}
""").replace("version: 1", "version: 2").replace("2025-10-01", "2025-10-02")  # fmt: skip
    load(books, with_energy)
    first = a_run(1)
    books.ingest(first)
    books.issue()
    reassign(books, ACCOUNTS.replace("slurm: [acme]", "slurm: [acme, physics]").replace(
        "tier: mu, slurm: [physics]", "tier: mu"
    ))  # fmt: skip
    load(books, with_energy.replace("version: 2", "version: 3").replace("-10-02", "-10-03")
         .replace('mu: "1"', 'mu: "2"'))  # fmt: skip
    books.ingest(first._replace(energy_j=3_600_000, observed=first.observed + 9_999))
    assert owed(books) == "4.00"
    assert {(row[1], row[6], row[7]) for row in standing(books)} == {
        ("cpu", "physics", True), ("mem", "physics", True), ("energy", "physics", False)
    }  # fmt: skip


def test_runs_that_arrive_during_a_load_are_priced_by_the_new_card(books: Books) -> None:
    """Whatever an ingest stores before or after the change, nothing keeps an old price."""
    batches = [[a_run(25 * n + k) for k in range(25)] for n in range(30)]
    started, failed = threading.Event(), []

    def deliver() -> None:
        try:
            service = Ingest(books.engine, Rating(books.engine), "test")
            for number, batch in enumerate(batches, 1):
                rows = [Row(run, content_text(run)) for run in batch]
                service.apply(service.prepare(Decoded(number, rows, clean=True)))
                started.set()
        except CollectorError as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=deliver)
    thread.start()
    started.wait(timeout=30)
    load(books, a_card())
    thread.join(timeout=60)
    assert not failed
    versions = [row[5] for row in standing(books)]
    assert set(versions) == {2}
    assert len(versions) == 2 * sum(len(batch) for batch in batches)
