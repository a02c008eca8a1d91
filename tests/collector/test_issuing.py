"""Issuing: numbers without gaps, every charge billed once, whatever goes wrong."""

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from random import Random
from typing import Final

import pytest
from sqlalchemy import select, text

from jobledger_collector.core.document import Document, DocumentSettings
from jobledger_collector.core.errors import DatabaseFailed
from jobledger_collector.issuing import IssuingRefused, Outcome, Result, issue
from jobledger_collector.store.accounts import load_accounts
from jobledger_collector.store.cards import load_card
from jobledger_collector.store.engine import open_engine, transaction
from jobledger_collector.store.handles import Engine
from jobledger_collector.store.invoices import get_invoice, lines_add_up, list_invoices
from jobledger_collector.store.migrate import upgrade
from jobledger_collector.store.schema import charges, invoices
from tests.collector.billing import (
    ACCOUNTS,
    DECEMBER,
    MAHIDOL,
    NOVEMBER,
    Books,
    a_run,
    an_order,
    at,
    open_books,
)

JANUARY: Final = at("2027-01-03T10:00:00")


@pytest.fixture
def books(database_url: str) -> Books:
    return open_books(database_url)


@pytest.fixture
def light_books(sqlite_url: str) -> Books:
    return open_books(sqlite_url)


def told(outcomes: list[Outcome]) -> list[tuple[str, str, str, str]]:
    return [(one.account, one.result.value, one.number, one.total) for one in outcomes]


def test_each_account_gets_one_document_with_its_tiers_prices_and_tax(books: Books) -> None:
    books.ingest(a_run(1), a_run(2, account="acme"), a_run(3, user="bob"))
    assert told(books.issue()) == [
        ("acme", "issued", "INV-2026-000001", "77.04"),  # (8 × 5 + 16 × 2) + 7 %
        ("physics", "issued", "INV-2026-000002", "32.00"),  # 2 × (8 × 1 + 16 × 0.5)
    ]


def test_issuing_again_issues_nothing(books: Books) -> None:
    books.ingest(a_run(1))
    books.issue()
    assert books.issue() == []


def test_what_arrives_late_goes_on_the_next_invoice_as_a_prior_period(books: Books) -> None:
    books.ingest(a_run(1))
    books.issue()
    books.ingest(a_run(2))
    (again,) = books.issue()
    assert (again.result, again.number) == (Result.ALREADY, "INV-2026-000001")
    (late,) = books.issue(202611, DECEMBER)
    assert (late.number, late.total) == ("INV-2026-000002", "16.00")
    document = document_of(books, late.number)
    assert [line["prior_period"] for line in document["lines"]] == [True, True]
    assert len(document["notes"]) == 1


def test_a_correction_is_one_line_of_the_difference(books: Books) -> None:
    books.ingest(a_run(1))
    books.issue()
    longer = a_run(1, end=a_run(1).end + 3600, observed=NOVEMBER)
    books.ingest(longer)
    (correction,) = books.issue(202611, DECEMBER)
    lines = document_of(books, correction.number)["lines"]
    assert [(line["sku"], line["quantity"], line["net"]) for line in lines] == [
        ("cpu-std", "4.000000", "4.00"),
        ("mem-std", "8.000000", "4.00"),
    ]


def test_below_zero_waits_for_usage_that_covers_it(books: Books) -> None:
    books.ingest(a_run(1))
    books.issue()
    books.ingest(a_run(1, end=a_run(1).end - 3600, observed=NOVEMBER))
    (carried,) = books.issue(202611, DECEMBER)
    assert (carried.result, carried.subtotal) == (Result.CARRIED, "-8.00")
    assert "carried forward" in carried.message
    start = at("2026-12-05T08:00:00")
    books.ingest(a_run(7, submit=start, start=start, end=start + 7200, observed=start + 7300))
    (covered,) = books.issue(202612, JANUARY)
    assert (covered.result, covered.number, covered.total) == (
        Result.ISSUED,
        "INV-2027-000001",
        "8.00",
    )


def test_each_account_pays_its_own_when_a_corrected_run_changes_hands(books: Books) -> None:
    books.ingest(a_run(1))
    books.issue()
    moved = ACCOUNTS.replace("slurm: [physics]", "slurm: []").replace("[acme]", "[acme, physics]")
    with transaction(books.engine) as conn:
        load_accounts(conn, moved, "accounts.yaml")
    books.ingest(a_run(1, end=a_run(1).end + 3600, observed=NOVEMBER))
    assert [
        (one.account, one.result.value, one.subtotal) for one in books.issue(202611, DECEMBER)
    ] == [("acme", "issued", "108.00"), ("physics", "carried forward", "-16.00")]
    check_books(books.engine)


def test_what_costs_nothing_gets_a_statement_and_no_invoice_number(database_url: str) -> None:
    free = MAHIDOL.read_text("utf-8").replace('mu: "1"', 'mu: "0"').replace('mu: "0.5"', 'mu: "0"')
    books = open_books(database_url, free)
    books.ingest(a_run(1), a_run(2, account="acme"))
    assert told(books.issue()) == [
        ("acme", "issued", "INV-2026-000001", "77.04"),
        ("physics", "issued", "STM-2026-000001", "0.00"),
    ]
    lines = document_of(books, "STM-2026-000001")["lines"]
    assert [(line["list_amount"], line["net"]) for line in lines] == [
        ("40.00", "0.00"),
        ("32.00", "0.00"),
    ]


def test_usage_without_a_price_is_left_out_and_said(database_url: str) -> None:
    only_main = MAHIDOL.read_text("utf-8").replace(
        "meter: cpu\n", "meter: cpu\n    match: {partition: [main]}\n", 1
    )
    books = open_books(database_url, only_main)
    books.ingest(a_run(1), a_run(2, partition="other"), a_run(3, account="acme", partition="other"))
    acme, physics = books.issue()
    assert (physics.result, physics.unpriced, physics.total) == (Result.ISSUED, 1, "24.00")
    assert (acme.result, acme.unpriced) == (Result.ISSUED, 1)
    assert "have no price: 1." in physics.message
    (left_over, _) = books.issue()
    assert (left_over.account, left_over.result) == ("acme", Result.UNPRICED)


@pytest.mark.parametrize(
    ("period", "now_s", "said"),
    [
        (202611, NOVEMBER, "not over in Asia/Bangkok"),
        (202612, NOVEMBER, "has not begun"),
        (202610, at("2026-10-31T23:59:59"), "not over"),
    ],
)
def test_a_period_that_is_not_over_is_refused(
    light_books: Books, period: int, now_s: int, said: str
) -> None:
    light_books.ingest(a_run(1))
    with pytest.raises(IssuingRefused, match=said):
        light_books.issue(period, now_s)


def test_a_wrong_clock_does_not_forbid_what_a_person_asks_for(light_books: Books) -> None:
    light_books.ingest(a_run(1))
    (issued,) = light_books.issue(202610, at("2026-09-20T12:00:00"), early=True)
    assert issued.result is Result.ISSUED


def test_an_early_invoice_says_so_and_the_rest_follows(light_books: Books) -> None:
    light_books.ingest(a_run(1))
    (early,) = light_books.issue(202610, at("2026-10-20T12:00:00"), early=True)
    assert "before the period was over" in document_of(light_books, early.number)["notes"][0]["en"]
    light_books.ingest(a_run(2))
    assert told(light_books.issue(202611, DECEMBER)) == [
        ("physics", "issued", "INV-2026-000002", "16.00")
    ]


def test_without_a_rate_card_nothing_is_issued(sqlite_url: str) -> None:
    engine = open_engine(sqlite_url)
    upgrade(engine)
    with pytest.raises(IssuingRefused, match="rates load"):
        list(issue(engine, an_order()))


def test_a_dry_run_says_everything_and_does_nothing(books: Books) -> None:
    books.ingest(a_run(1), a_run(2, account="acme"))
    said = books.issue(dry_run=True)
    assert [(one.result, one.total) for one in said] == [
        (Result.WOULD_ISSUE, "77.04"),
        (Result.WOULD_ISSUE, "16.00"),
    ]
    with books.engine.connect() as conn:
        assert list_invoices(conn) == []
    assert [one.total for one in books.issue()] == [one.total for one in said]


def test_one_account_can_be_issued_alone(light_books: Books) -> None:
    light_books.ingest(a_run(1), a_run(2, account="acme"))
    assert [one.account for one in light_books.issue(account="acme")] == ["acme"]
    assert [one.account for one in light_books.issue()] == ["physics"]


def test_a_clock_that_went_back_gives_no_number(light_books: Books) -> None:
    light_books.ingest(a_run(1), a_run(2, account="acme"))
    light_books.issue(account="acme", now_s=DECEMBER)
    (refused,) = light_books.issue(now_s=NOVEMBER)
    assert refused.result is Result.FAILED
    assert "set the clock right" in refused.message
    assert [one.number for one in light_books.issue(now_s=DECEMBER)] == ["INV-2026-000002"]


def test_an_account_that_fails_leaves_the_others_and_the_numbers_alone(books: Books) -> None:
    books.ingest(a_run(1), a_run(2, account="acme"))
    without_private = (
        MAHIDOL.read_text("utf-8")
        .replace("version: 1", "version: 2", 1)
        .replace("2025-10-01", "2026-10-20", 1)
        .replace("[mu, gov, private]", "[mu, gov]")
    )
    for amount in ("5", "7", "100", "120", "240", "2"):
        without_private = without_private.replace(f', private: "{amount}"', "")
    with transaction(books.engine) as conn:
        load_card(conn, without_private, "v2.yaml", NOVEMBER, "tester")
    acme, physics = books.issue()
    assert acme.result is Result.FAILED
    assert 'tier "private"' in acme.message
    assert told([physics]) == [("physics", "issued", "INV-2026-000001", "16.00")]


def test_the_same_books_give_the_same_document_on_both_databases(
    sqlite_url: str, postgres_url: str
) -> None:
    hashes = set()
    for url in (sqlite_url, postgres_url):
        books = open_books(url)
        books.ingest(*(a_run(number, user=f"user{number % 7}") for number in range(1, 230)))
        books.issue()
        with books.engine.connect() as conn:
            hashes.add(list_invoices(conn)[0].document_sha256)
    assert len(hashes) == 1


def test_the_annex_is_cut_at_its_limit_and_still_comes_to_the_subtotal(light_books: Books) -> None:
    runs = (a_run(i, end=a_run(i).end + 60 * i, alloc_tres=(("cpu", 1),)) for i in range(1, 306))
    light_books.ingest(*runs)
    (outcome,) = light_books.issue()
    document = document_of(light_books, outcome.number)
    annex = document["annex"]
    assert (len(annex["jobs"]), annex["jobs_total"], annex["others_jobs"]) == (200, 305, 105)
    listed = sum(cents(job["cost"]) for job in annex["jobs"])
    assert listed + cents(annex["others_cost"]) == cents(document["totals"]["subtotal"])
    assert annex["jobs"][0]["job_id"] == 305  # the costliest first


def cents(amount: str) -> int:
    return int(amount.replace(".", ""))


def document_of(books: Books, number: str) -> Document:
    with books.engine.connect() as conn:
        found = get_invoice(conn, number)
        assert found is not None
        assert lines_add_up(conn, number)
    return found.document


# ------------------------------------------------------- many at the same time


def test_four_issuers_at_once_issue_each_document_once_and_leave_no_gap(books: Books) -> None:
    books.ingest(*(a_run(number, account=f"lab{number:02d}") for number in range(1, 25)))
    outcomes: list[Outcome] = []
    errors: list[BaseException] = []

    def issuer() -> None:
        try:
            outcomes.extend(issue(open_engine(books.url), an_order()))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    threads = [threading.Thread(target=issuer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    issued = [one.number for one in outcomes if one.result is Result.ISSUED]
    assert sorted(issued) == [f"INV-2026-{number:06d}" for number in range(1, 25)]
    assert {one.result for one in outcomes} <= {Result.ISSUED, Result.ALREADY}
    check_books(books.engine)


def test_records_that_arrive_while_issuing_are_billed_once(books: Books) -> None:
    accounts = [f"lab{number}" for number in range(6)]
    books.ingest(*(a_run(i, account=accounts[i % 6]) for i in range(1, 121)))
    random = Random(7)
    errors: list[BaseException] = []

    def revise() -> None:
        try:
            for turn in range(1, 9):
                chosen = random.sample(range(1, 121), 40)
                books.ingest(
                    *(
                        a_run(
                            i,
                            account=accounts[i % 6],
                            end=a_run(i).end + turn * 600,
                            observed=NOVEMBER + turn,
                        )
                        for i in chosen
                    )
                )
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)

    writer = threading.Thread(target=revise)
    writer.start()
    outcomes = [one for _ in range(3) for one in books.issue()]
    writer.join()
    assert errors == []
    assert all(one.result is not Result.FAILED for one in outcomes), outcomes
    outcomes += books.issue(202611, DECEMBER)
    assert Counter(one.result for one in outcomes)[Result.ISSUED] >= 6
    check_books(books.engine)


def test_an_issuer_killed_at_any_moment_leaves_nothing_half(books: Books) -> None:
    books.ingest(*(a_run(number, account=f"lab{number:02d}") for number in range(1, 61)))
    random = Random(11)
    for _ in range(3):
        issuer = start_issuer(books.url)
        wait_for_another_invoice(books.engine, issuer)
        time.sleep(random.uniform(0, 0.05))
        issuer.kill()
        issuer.wait()
        check_books(books.engine)
    issuer = start_issuer(books.url)
    assert issuer.wait(timeout=60) == 0
    check_books(books.engine)
    with books.engine.connect() as conn:
        issued = {row.billing_account for row in list_invoices(conn)}
    assert issued == {f"lab{number:02d}" for number in range(1, 61)}


def start_issuer(url: str) -> subprocess.Popen[bytes]:
    """The real program, as finance would start it."""
    command = ["-m", "jobledger_collector.admin.cli", "--db", url, "invoices", "issue"]
    seller = {f"JOBLEDGER_SELLER_{key}": "Example" for key in ("NAME", "ADDRESS", "TAX_ID")}
    return subprocess.Popen(
        [sys.executable, *command, "--period", "2026-10"],
        env={**os.environ, **seller},
        stdout=subprocess.DEVNULL,
    )


def wait_for_another_invoice(engine: Engine, issuer: subprocess.Popen[bytes]) -> None:
    def count() -> int:
        with engine.connect() as conn:
            return len(list_invoices(conn))

    before = count()
    while count() == before and issuer.poll() is None:
        time.sleep(0.002)


def check_books(engine: Engine) -> None:
    """Numbers have no gap; what is billed and what waits is what every run owes."""
    with engine.connect() as conn:
        rows = list_invoices(conn)
        by_series: dict[tuple[str, int], list[int]] = {}
        for row in rows:
            by_series.setdefault((row.series, row.year), []).append(row.sequence)
            assert lines_add_up(conn, row.number), row.number
        for numbers in by_series.values():
            assert sorted(numbers) == list(range(1, len(numbers) + 1))
        assert len({(row.billing_account, row.period) for row in rows}) == len(rows)
        known = {row.id for row in rows}
        owed: Counter[tuple[object, ...]] = Counter()
        accounted: Counter[tuple[object, ...]] = Counter()
        for charge in conn.execute(select(charges)):
            place = (charge.cluster, charge.job_id, charge.submit, charge.item, charge.price_id)
            if charge.superseded_by == 0:
                owed[place] += charge.quantity_micro
            waits = charge.superseded_by == 0 or charge.kind == -1
            if charge.invoice_id is not None or waits:
                accounted[place] += charge.quantity_micro
            assert charge.invoice_id is None or charge.invoice_id in known
        assert {place: sum_ for place, sum_ in accounted.items() if sum_} == dict(owed)


@pytest.mark.parametrize("seed", range(12))
def test_any_history_bills_what_every_run_owes(sqlite_url: str, seed: int) -> None:
    """New, late, lengthened, shortened runs and issuing, in any order."""
    random = Random(seed)
    books = open_books(sqlite_url)
    period, month = 202610, [NOVEMBER, DECEMBER, JANUARY]
    for turn in range(14):
        if random.random() < 0.4:
            step = random.randrange(3)
            books.issue(period + step, max(month[step], NOVEMBER), account=None)
        else:
            changed = random.sample(range(1, 9), random.randrange(1, 6))
            books.ingest(
                *(
                    a_run(
                        i,
                        account=["physics", "acme"][i % 2],
                        end=a_run(i).end + random.choice([-3600, 0, 60, 5400]),
                        observed=NOVEMBER + turn,
                    )
                    for i in changed
                )
            )
        check_books(books.engine)
    books.issue(202612, JANUARY)
    check_books(books.engine)


# ------------------------------------------------- the database's own refusals

REFUSED = (
    "UPDATE invoices SET total_minor = 1, tax_minor = 0, subtotal_minor = 1",
    "UPDATE invoices SET document = '{}'",
    "UPDATE invoices SET number = 'INV-2026-000009'",
    "UPDATE invoices SET issue_date = '2026-01-01'",
    "UPDATE invoices SET billing_account = 'acme'",
    "DELETE FROM invoices",
    "UPDATE invoice_lines SET net_minor = 0, discount_minor = list_minor",
    "DELETE FROM invoice_lines",
    (
        "INSERT INTO invoice_lines SELECT invoice_id, 9, price_id, 0, sku, unit, 1, 0, 0, 0, 0, 0"
        " FROM invoice_lines WHERE line = 1"
    ),
    (
        "INSERT INTO invoices SELECT 9, 'other', 202610, 'INV-2026-000009', 'INV', 2026, 9,"
        " issue_date, issued_at, issued_by, currency, 0, 0, 0, status, document, document_sha256"
        " FROM invoices"
    ),
    "UPDATE charges SET quantity_micro = 0",
    "UPDATE charges SET price_id = 2",
    "UPDATE charges SET invoice_id = NULL",
    "UPDATE charges SET invoice_id = 2",
    "UPDATE charges SET billing_account = 'acme'",
    "UPDATE charges SET period = 202601",
    "DELETE FROM charges",
    "UPDATE prices SET unit_e8 = 0",
    "DELETE FROM prices",
    "UPDATE rate_cards SET document = ''",
    "DELETE FROM rate_cards",
    "UPDATE document_series SET next_number = 1",
    "UPDATE document_series SET last_date = '2020-01-01', next_number = next_number + 1",
    "DELETE FROM document_series",
    "INSERT INTO document_series VALUES ('INV', 2030, 7, '')",
)


SAID: Final = re.compile("is never (changed|deleted)|never changes|go up by one")


def test_the_database_refuses_to_change_what_was_issued(books: Books) -> None:
    books.ingest(a_run(1))
    books.issue()
    said = {statement: refusal(books.engine, statement) for statement in REFUSED}
    assert {statement for statement in said if not SAID.search(said[statement])} == set()


def test_a_charge_cannot_join_a_document_that_is_issued(books: Books) -> None:
    books.ingest(a_run(1))
    books.issue()
    books.ingest(a_run(2))
    assert refusal(books.engine, "UPDATE charges SET invoice_id = 1 WHERE job_id = 2")
    assert not refusal(books.engine, "UPDATE charges SET superseded_by = 1 WHERE job_id = 1")
    assert refusal(books.engine, "UPDATE charges SET superseded_by = 0 WHERE job_id = 1")


def test_sqlite_cannot_replace_a_document_either(light_books: Books) -> None:
    light_books.ingest(a_run(1))
    light_books.issue()
    columns = ", ".join(column.name for column in invoices.c)
    replace = f"INSERT OR REPLACE INTO invoices ({columns}) SELECT * FROM invoices"  # noqa: S608
    assert "is never changed" in refusal(light_books.engine, replace)


def test_postgresql_cannot_empty_the_documents_either(postgres_url: str) -> None:
    books = open_books(postgres_url)
    books.ingest(a_run(1))
    books.issue()
    assert refusal(books.engine, "TRUNCATE invoices, invoice_lines")


def refusal(engine: Engine, statement: str) -> str:
    """What the database says to a statement; empty when it does it."""
    try:
        with transaction(engine) as conn:
            conn.execute(text(statement))
    except DatabaseFailed as error:
        return str(error)
    return ""


def test_series_are_named_by_the_settings(light_books: Books) -> None:
    light_books.ingest(a_run(1))
    (outcome,) = light_books.issue(settings=DocumentSettings(invoice_series="HPC", due_days=14))
    document = document_of(light_books, "HPC-2026-000001")
    assert outcome.number == "HPC-2026-000001"
    assert (document["issue_date"], document["due_date"]) == ("2026-11-02", "2026-11-16")
