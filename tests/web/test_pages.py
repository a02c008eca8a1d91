"""What the pages say is what the books hold."""

import csv
import datetime as dt
import html
import io
import re
from decimal import Decimal

import pytest
from flask import Flask

from jobledger_collector.core.charge import COST_SCALE
from jobledger_collector.core.periods import zone
from jobledger_collector.store import people
from jobledger_collector.store.engine import open_engine, reading
from jobledger_collector.store.invoices import InvoiceRow, list_invoices
from jobledger_collector.store.usage_views import JobFilter, JobRow, Sort, iter_jobs
from jobledger_web import database
from jobledger_web.access import Role, Viewer
from jobledger_web.ledger import PAGE_ROWS, Ledger
from tests.web.conftest import SignIn, log_in
from tests.web.filled import PASSWORD, PERIOD

JOB_LINK = re.compile(r'<a class="mono" href="/jobs/([^/]+)/(\d+)/(\d+)"')


def all_jobs(url: str, wanted: JobFilter | None = None) -> list[JobRow]:
    with reading(open_engine(url)) as conn:
        return list(iter_jobs(conn, wanted or JobFilter()))


def all_invoices(url: str) -> list[InvoiceRow]:
    with reading(open_engine(url)) as conn:
        return list_invoices(conn)


def words(text: str) -> str:
    """A page as one reads it."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def keys(text: str) -> list[tuple[str, int, int]]:
    return [(cluster, int(job), int(submit)) for cluster, job, submit in JOB_LINK.findall(text)]


def next_page(text: str, rel: str = "next") -> str:
    found = re.search(rf'rel="{rel}" href="([^"]+)"', text)
    return html.unescape(found[1]) if found else ""


# --------------------------------------------------------------------- usage


def test_the_newest_month_comes_first_with_its_totals(sign_in: SignIn, books_url: str) -> None:
    jobs = all_jobs(books_url, JobFilter(period=PERIOD))
    page = words(sign_in("ada").get("/").text)
    assert "Usage November 2026" in page
    assert f"{len(jobs)} jobs" in page
    cost = sum(job.cost_e14 for job in jobs)
    assert f"Cost {Decimal(cost) / COST_SCALE:.2f} THB" in page
    assert f"Core-hours {Decimal(sum(job.cpu_s for job in jobs)) / 3600:.2f}" in page


@pytest.mark.parametrize("sort", list(Sort))
@pytest.mark.parametrize("order", ["down", "up"])
def test_paging_shows_every_job_once_in_order_and_back_again(
    sign_in: SignIn, books_url: str, sort: Sort, order: str
) -> None:
    browser = sign_in("pia")
    page, pages = f"/usage?month=all&sort={sort.value}&order={order}", []
    while page:
        text = browser.get(page).text
        pages.append(keys(text))
        page = next_page(text)
    shown = [key for one in pages for key in one]
    jobs = {
        (job.cluster, job.job_id, job.submit): job
        for job in all_jobs(books_url)
        if job.billing_account in {"bio_genomics", "beta_only"}
    }
    assert len(pages) > 1
    assert all(len(one) == PAGE_ROWS for one in pages[:-1])
    assert sorted(shown) == sorted(jobs)
    assert len(set(shown)) == len(shown)
    column = "cost_e14" if sort is Sort.COST else sort.value
    values = [getattr(jobs[key], column) for key in shown]
    if sort is not Sort.COST:  # costs are ordered to a millionth
        assert values == sorted(values, reverse=order == "down")
    back = next_page(text, "prev")
    assert keys(browser.get(back).text) == pages[-2]


@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ("user=alice", "user", "alice"),
        ("account=eng-ml", "account", "eng-ml"),
        ("payer=physics", "billing_account", "physics"),
        ("cluster=alpha-2205", "cluster", "alpha-2205"),
        ("state=TIMEOUT", "state", "TIMEOUT"),
        ("user=nobody", "user", "nobody"),
        ("user=%27+OR+1%3D1+--", "user", "' OR 1=1 --"),
    ],
)
def test_a_filter_leaves_what_it_names(
    sign_in: SignIn, books_url: str, query: str, field: str, value: str
) -> None:
    browser = sign_in("ada")
    expected = [job for job in all_jobs(books_url) if getattr(job, field) == value]
    rows = list(csv.DictReader(io.StringIO(browser.get(f"/usage.csv?month=all&{query}").text)))
    assert [(row["cluster"], int(row["job_id"])) for row in rows] == [job[:2] for job in expected]
    assert sum(Decimal(row["cost"]) for row in rows) * COST_SCALE == sum(
        job.cost_e14 for job in expected
    )
    page = words(browser.get(f"/usage?month=all&{query}").text)
    assert (f"{len(expected)} job" in page) == bool(expected)
    assert ("No job matches this selection." in page) == (not expected)


def test_the_same_selection_gives_the_same_bytes(sign_in: SignIn) -> None:
    browser = sign_in("ada")
    one, two = (browser.get("/usage.csv?month=2026-11") for _ in range(2))
    assert one.data == two.data
    assert one.headers["Content-Disposition"] == "attachment; filename=jobs-2026-11.csv"


def test_open_jobs_have_a_page_of_their_own(sign_in: SignIn, books_url: str) -> None:
    opened = [job for job in all_jobs(books_url) if not job.end]
    shown = keys(sign_in("ada").get("/usage?month=open").text)
    assert sorted(shown) == sorted(job[:3] for job in opened)


def test_sorting_again_turns_the_order_and_keeps_the_filter(sign_in: SignIn) -> None:
    text = sign_in("ada").get("/usage?month=all&user=alice&sort=cost").text
    header = re.search(r'<th[^>]*aria-sort="descending"[^>]*><a class="sort" href="([^"]+)"', text)
    assert header is not None
    link = html.unescape(header[1])
    assert "order=up" in link
    assert "user=alice" in link
    assert "sort=cost" in link


def test_each_day_sums_to_the_month(books_url: str) -> None:
    ada = Viewer("ada", Role.ADMIN, None, must_change=False)
    wanted = JobFilter(period=PERIOD)
    with reading(open_engine(books_url)) as conn:
        ledger = Ledger(conn, ada)
        days = ledger.days(wanted, "Asia/Bangkok")
        assert sum(day.cost_e14 for day in days) == ledger.totals(wanted).cost_e14
        assert ledger.days(JobFilter(), "Asia/Bangkok") == []
    assert [day.day for day in days] == [dt.date(2026, 11, n) for n in range(1, 31)]
    local = zone("Asia/Bangkok")
    by_hand: dict[dt.date, int] = {}
    for job in all_jobs(books_url, wanted):
        day = dt.datetime.fromtimestamp(job.end, local).date()
        by_hand[day] = by_hand.get(day, 0) + job.cost_e14
    assert {day.day: day.cost_e14 for day in days if day.cost_e14} == {
        day: cost for day, cost in by_hand.items() if cost
    }


@pytest.mark.parametrize(
    ("timezone", "period", "days"),
    [("Europe/Berlin", 202610, 31), ("Australia/Lord_Howe", 202610, 31), ("UTC", 202602, 28)],
)
def test_a_month_has_its_days_when_the_clocks_change(
    books_url: str, timezone: str, period: int, days: int
) -> None:
    ada = Viewer("ada", Role.ADMIN, None, must_change=False)
    with reading(open_engine(books_url)) as conn:
        assert len(Ledger(conn, ada).days(JobFilter(period=period), timezone)) == days


# ----------------------------------------------------------------------- job


def costliest(url: str, **wanted: object) -> JobRow:
    jobs = [
        job
        for job in all_jobs(url)
        if all(getattr(job, name) == value for name, value in wanted.items())
    ]
    return max(jobs, key=lambda job: job.cost_e14)


def test_a_job_says_what_happened_and_adds_up(sign_in: SignIn, books_url: str) -> None:
    job = costliest(books_url, account="eng-ml")
    page = words(sign_in("ada").get(f"/jobs/{job.cluster}/{job.job_id}/{job.submit}").text)
    for said in ("Submitted", "started", "Ended", "It held", "GPU of type a100", "default tier mu"):
        assert said in page, said
    exact = Decimal(job.cost_e14) / COST_SCALE
    assert f"Together exactly {exact:f} THB" in page
    products = re.findall(r"= ([\d,.]+) [\w-]+-Hours × ([\d.]+) = ([\d.]+) THB", page)
    assert len(products) == 3
    for quantity, price, cost in products:
        assert Decimal(quantity.replace(",", "")) * Decimal(price) == Decimal(cost)
    assert sum(Decimal(cost) for _, _, cost in products) == exact


def test_a_revision_says_what_it_changed(sign_in: SignIn, books_url: str) -> None:
    revised = next(job for job in all_jobs(books_url) if job.revision > 1)
    link = f"/jobs/{revised.cluster}/{revised.job_id}/{revised.submit}"
    page = words(sign_in("ada").get(link).text)
    assert "This is revision 2." in page
    assert re.search(r"energy_j : \S+ became 125000", page)
    assert "Energy 125,000 J" in page


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("RUNNING", "It has not ended; it is charged when it ends."),
        ("PENDING", "it has not started"),
        ("COMPLETED", "by the clock"),
    ],
)
def test_every_state_has_its_words(sign_in: SignIn, books_url: str, state: str, said: str) -> None:
    job = next(job for job in all_jobs(books_url) if job.state == state)
    page = words(sign_in("ada").get(f"/jobs/{job.cluster}/{job.job_id}/{job.submit}").text)
    assert said in page


def test_every_job_has_a_page(sign_in: SignIn, books_url: str) -> None:
    """One of each state, partition and account: no shape of record breaks the page."""
    browser = sign_in("ada")
    shapes = {
        (job.state, job.partition, job.account, job.flags): job for job in all_jobs(books_url)
    }
    for job in shapes.values():
        link = f"/jobs/{job.cluster}/{job.job_id}/{job.submit}"
        assert browser.get(link).status_code == 200, link


# ------------------------------------------------------------------ invoices


def test_an_invoice_shows_its_document_and_adds_up(sign_in: SignIn, books_url: str) -> None:
    browser = sign_in("finn")
    for invoice in all_invoices(books_url):
        page = words(browser.get(f"/invoices/{invoice.number}").text)
        total = Decimal(invoice.total_minor) / 100
        assert f"Total {total:.2f} THB" in page
        rows = list(
            csv.DictReader(io.StringIO(browser.get(f"/invoices/{invoice.number}/lines.csv").text))
        )
        assert sum(Decimal(row["net"]) for row in rows) * 100 == invoice.subtotal_minor
        assert {row["number"] for row in rows} == {invoice.number}


def test_the_list_of_invoices_filters(sign_in: SignIn, books_url: str) -> None:
    browser = sign_in("finn")
    numbers = {invoice.number for invoice in all_invoices(books_url)}
    everything = browser.get("/invoices").text
    assert all(number in everything for number in numbers)
    assert "No invoice" in browser.get("/invoices?month=2026-10").text
    one = browser.get("/invoices?month=2026-11&account=physics").text
    assert len({number for number in numbers if number in one}) == 1


def test_a_pdf_is_drawn_in_both_languages_once(
    sign_in: SignIn, books_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = all_invoices(books_url)[0].number
    browser = sign_in("finn")
    for language in ("en", "th"):
        answer = browser.get(f"/invoices/{number}/{language}.pdf")
        assert answer.data.startswith(b"%PDF-")
        assert answer.mimetype == "application/pdf"
        assert answer.headers["Content-Disposition"].endswith(f"{number}-{language}.pdf")
    monkeypatch.setattr("jobledger_web.drawing.render_pdf", None)
    assert browser.get(f"/invoices/{number}/th.pdf").data == answer.data


# ---------------------------------------------------------------- operations


def test_quarantine_shows_hostile_records_as_harmless_text(sign_in: SignIn) -> None:
    text = sign_in("ada").get("/quarantine?cluster=alpha").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; is not a job" in text
    assert "<script" not in text
    assert "&lt;b&gt;\\u0000\\xff\\u001b[31m&lt;/b&gt;" in text


def test_quarantine_filters_by_reason_and_pages(sign_in: SignIn) -> None:
    browser = sign_in("ada")
    text = browser.get("/quarantine").text
    counts = [int(n) for n in re.findall(r'<td class="num">(\d+)</td>', text)]
    assert f"{sum(counts)} records" in text
    shown, page = 0, "/quarantine"
    while page:
        text = browser.get(page).text
        shown += text.count('<li class="sheet block">')
        page = next_page(text)
    assert shown == sum(counts)
    assert next_page(text, "prev")
    links = re.findall(r'<th scope="row" class="wrap"><a href="([^"]+)"', text)
    for link, count in zip(links, counts, strict=True):
        filtered = browser.get(html.unescape(link)).text
        assert filtered.count('<li class="sheet block">') == min(count, 25)


def test_agents_show_their_lag(sign_in: SignIn, now: list[int]) -> None:
    browser = sign_in("ada")
    page = words(browser.get("/agents").text)
    assert "lab 0.1.0 well" in page
    assert "Lag 1 min" in page
    assert "Waiting in its spool 3" in page
    assert "Held for a person 2" in page
    assert "Waiting in Slurm’s controller 40" in page
    assert "5 were missing, 6 different, 7 extra" in page
    now[0] += 600
    assert "lab 0.1.0 silent" in words(browser.get("/agents").text)


def test_rates_show_prices_by_tier(sign_in: SignIn) -> None:
    page = words(sign_in("ada").get("/rates").text)
    assert "mahidol-hpc v1" in page
    assert "CPU core time cpu-std Core-Hours – 5.00 1.00 3.00 5.00" in page
    assert "schema: jobledger.ratecard/1" in page


def test_empty_books_have_pages_too(empty_app: Flask) -> None:
    with empty_app.app_context(), database.writing() as conn:
        people.add_person(conn, people.Person("ada", "admin"), PASSWORD)
    browser = empty_app.test_client()
    log_in(browser, "ada", PASSWORD)
    for page, said in (
        ("/", "No job matches this selection."),
        ("/usage.csv", "cluster,job_id"),
        ("/invoices", "No invoice matches this selection."),
        ("/rates", "No rate card is loaded yet."),
        ("/quarantine", "The quarantine is empty"),
        ("/agents", "No agent has reported yet."),
    ):
        answer = browser.get(page)
        assert answer.status_code == 200
        assert said in answer.text, page
