"""Reading runs: exact on both databases, every run on exactly one page."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

import pytest
from sqlalchemy import Connection, Engine

from jobledger_collector.core.charge import COST_SCALE
from jobledger_collector.core.record import JobRecord
from jobledger_collector.store.usage_views import (
    Cursor,
    JobFilter,
    JobRow,
    Scope,
    Sort,
    by_account,
    by_project,
    by_user,
    iter_jobs,
    months,
    page_jobs,
    totals,
)
from tests.collector.billing import NOVEMBER, Books, a_run, at, open_books
from tests.postgres import TEMPLATE

EVERYTHING: Final = JobFilter()
RANDOM: Final = Random(3)
SEPTEMBER: Final = at("2026-09-03T08:00:00")
RUNS: Final = [
    *(
        a_run(
            number,
            cluster=RANDOM.choice(["alpha", "beta"]),
            user=RANDOM.choice(["alice", "bob", "สมชาย", ""]),
            account=RANDOM.choice(["physics", "acme", "chem"]),
            state=RANDOM.choice(["COMPLETED", "FAILED", "TIMEOUT"]),
            end=a_run(number).end + RANDOM.choice([0, 0, 1, 60, 3601]),
        )
        for number in range(1, 90)
    ),
    a_run(90, submit=SEPTEMBER, start=SEPTEMBER, end=SEPTEMBER + 60),
    a_run(91, end=0, state="RUNNING"),
    a_run(92, start=0, end=0, state="PENDING", alloc_tres=()),
    a_run(93, start=0, state="CANCELLED", alloc_tres=()),
    a_run(94, partition="huge", alloc_tres=(("cpu", 4_000_000), ("mem", 4_000_000_000))),
]


def filled(url: str) -> Books:
    books = open_books(url)
    books.ingest(*RUNS)
    return books


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def read_only(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The runs in one database for all tests that only read."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("views") / "jobledger.db"
        return filled(f"sqlite:///{path}").engine
    return filled(request.getfixturevalue("postgres_server").create(template=TEMPLATE)).engine


@pytest.fixture
def conn(read_only: Engine) -> Iterator[Connection]:
    with read_only.connect() as opened:
        yield opened


def key(job: JobRow) -> tuple[str, int, int]:
    return job[:3]


def test_every_run_is_there_once_in_the_order_of_its_key(conn: Connection) -> None:
    keys = [key(job) for job in iter_jobs(conn, EVERYTHING)]
    assert keys == sorted((run.cluster, run.job_id, run.submit) for run in RUNS)


@pytest.mark.parametrize("job_id", [91, 92, 93])
def test_a_run_that_used_nothing_is_listed_with_zeros(conn: Connection, job_id: int) -> None:
    (job,) = (job for job in iter_jobs(conn, EVERYTHING) if job.job_id == job_id)
    assert (job.elapsed_s, job.cpu_s, job.mem_mib_s, job.cost_e14) == (0, 0, 0, 0)


def test_a_cost_is_exact(conn: Connection) -> None:
    (job,) = (job for job in iter_jobs(conn, EVERYTHING) if job.job_id == 90)
    # 4 cores for 60 s: 0.066667 core-hours at 1; 8 GiB for 60 s: 0.133333 GiB-hours at 0.5
    assert job.cost_e14 * 10**7 == 1_333_335 * COST_SCALE
    assert job.currency == "THB"


def test_a_cost_beyond_64_bits_is_exact_too(conn: Connection) -> None:
    (job,) = (job for job in iter_jobs(conn, EVERYTHING) if job.job_id == 94)
    assert job.cost_e14 == (8_000_000 * 1 + 7_812_500 * COST_SCALE // 2 // COST_SCALE) * COST_SCALE


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (JobFilter(period=202609), lambda run: run.job_id == 90),
        (JobFilter(period=0), lambda run: run.end == 0),
        (JobFilter(cluster="beta"), lambda run: run.cluster == "beta"),
        (
            JobFilter(account="acme", state="FAILED"),
            lambda run: (run.account, run.state) == ("acme", "FAILED"),
        ),
        (JobFilter(billing_account="chem"), lambda run: run.account == "chem"),
        (JobFilter(user="สมชาย"), lambda run: run.user == "สมชาย"),
        (JobFilter(invoiced=True), lambda _: False),
        (JobFilter(invoiced=False), lambda _: True),
        (JobFilter(scope=Scope(user="bob")), lambda run: run.user == "bob"),
        (JobFilter(scope=Scope(user="")), lambda _: False),
        (
            JobFilter(scope=Scope("bob", frozenset({"chem"}))),
            lambda run: run.user == "bob" or run.account == "chem",
        ),
        (
            JobFilter(account="acme", scope=Scope("bob")),
            lambda run: run.user == "bob" and run.account == "acme",
        ),
    ],
)
def test_a_filter_chooses(
    conn: Connection, wanted: JobFilter, chosen: Callable[[JobRecord], bool]
) -> None:
    expected = sorted((run.cluster, run.job_id, run.submit) for run in RUNS if chosen(run))
    assert [key(job) for job in iter_jobs(conn, wanted)] == expected
    assert totals(conn, wanted).jobs == len(expected)


@pytest.mark.parametrize("wanted", [EVERYTHING, JobFilter(period=202610, account="chem")])
def test_sums_are_the_sums_of_the_rows(conn: Connection, wanted: JobFilter) -> None:
    rows = list(iter_jobs(conn, wanted))
    sums = totals(conn, wanted)
    for name in ("elapsed_s", "cpu_s", "gpu_s", "mem_mib_s", "node_s", "list_e14", "cost_e14"):
        assert getattr(sums, name) == sum(getattr(row, name) for row in rows), name
    for grouped, name in (
        (by_account, "billing_account"),
        (by_project, "account"),
        (by_user, "user"),
    ):
        groups = dict(grouped(conn, wanted))
        assert sum(group.jobs for group in groups.values()) == len(rows)
        for label, group in groups.items():
            own = [row for row in rows if getattr(row, name) == label]
            assert group.cost_e14 == sum(row.cost_e14 for row in own)
            assert group.cpu_s == sum(row.cpu_s for row in own)


def test_months_are_newest_first_and_open_runs_last(conn: Connection) -> None:
    assert months(conn) == [(202610, 91), (202609, 1), (0, 2)]


@pytest.mark.parametrize("sort", list(Sort))
@pytest.mark.parametrize("descending", [True, False])
def test_pages_hold_every_run_once_in_order_forwards_and_back(
    conn: Connection, sort: Sort, descending: bool
) -> None:
    pages, at_cursor = [], None
    while True:
        page = page_jobs(conn, EVERYTHING, sort, descending=descending, at=at_cursor, limit=13)
        pages.append([key(job) for job in page.rows])
        last = page
        if page.next is None:
            break
        at_cursor = Cursor.parse(page.next.text())
    everything = [key_ for page_ in pages for key_ in page_]
    assert len(everything) == len(set(everything)) == len(RUNS)
    back = [pages[-1]]
    while last.previous is not None:
        at_cursor = Cursor.parse(last.previous.text())
        last = page_jobs(conn, EVERYTHING, sort, descending=descending, at=at_cursor, limit=13)
        back.insert(0, [key(job) for job in last.rows])
    assert back == pages


@pytest.mark.parametrize("sort", [Sort.COST, Sort.CPU, Sort.END, Sort.JOB_ID])
def test_a_page_is_sorted_by_what_it_says(conn: Connection, sort: Sort) -> None:
    name = {Sort.COST: "cost_e14"}.get(sort, sort.value)
    values = [getattr(job, name) for job in page_jobs(conn, EVERYTHING, sort, limit=500).rows]
    assert values == sorted(values, reverse=True)


def test_a_page_never_shows_what_its_reader_may_not_see(conn: Connection) -> None:
    stolen = page_jobs(conn, EVERYTHING, Sort.JOB_ID, limit=20).next
    page = page_jobs(conn, JobFilter(scope=Scope("bob")), Sort.JOB_ID, at=stolen, limit=500)
    assert {job.user for job in page.rows} == {"bob"}


@pytest.mark.parametrize(
    "link",
    ["", "x", "e30", "WzFd", "é", "A" * 3_000, "WyJhIiwiYiIsMSwyLCJjIl0", "W1tbW1tbW1s",
     Cursor(2**70, "a", 1, 1).text(), Cursor("a\0", "a", 1, 1).text(),
     Cursor(1, "a", -(2**80), 1).text()],
)  # fmt: skip
def test_a_damaged_link_is_refused_in_words(link: str) -> None:
    with pytest.raises(ValueError, match="start again from the first page"):
        Cursor.parse(link)


def test_a_link_of_another_order_is_refused(conn: Connection) -> None:
    with pytest.raises(ValueError, match="another order"):
        page_jobs(conn, EVERYTHING, Sort.USER, at=Cursor(5, "alpha", 1, 1))


def test_an_invoiced_run_shows_its_number_until_it_is_corrected(database_url: str) -> None:
    books = filled(database_url)
    books.issue()
    with books.engine.connect() as conn:
        invoiced = list(iter_jobs(conn, JobFilter(invoiced=True)))
        assert {job.invoice for job in invoiced if job.billing_account == "acme"} == {
            "INV-2026-000001"
        }
        assert totals(conn, JobFilter(invoiced=False)).cost_e14 == 0
    first = next(run for run in RUNS if run.account == "acme")
    books.ingest(first._replace(end=first.end + 999, observed=NOVEMBER))
    with books.engine.connect() as conn:
        (job,) = (job for job in iter_jobs(conn, EVERYTHING) if job.job_id == first.job_id)
    assert (job.invoice, job.revision) == (None, 2)
