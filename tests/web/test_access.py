"""Who reaches what: every page as every role, and nobody else's jobs or invoices."""

import csv
import io
import re
from collections import deque

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jobledger_collector.store.engine import open_engine, reading
from jobledger_collector.store.invoices import InvoiceRow, list_invoices
from jobledger_collector.store.usage_views import JobFilter, JobRow, iter_jobs
from jobledger_web.access import (
    GRANTS,
    Permission,
    Public,
    Role,
    UnguardedRoute,
    policy_of,
    public,
    refuse_unguarded,
    requires,
    scope_of,
)
from tests.web.conftest import SignIn
from tests.web.filled import PEOPLE

EVERYBODY = [person.login for person in PEOPLE if not person.must_change]
MEMBERS = {person.login: person for person in PEOPLE if person.role == "member"}
CRAWL_PAGES = 70
PAGES = {
    "/": Permission.USAGE_READ,
    "/usage": Permission.USAGE_READ,
    "/usage?month=all": Permission.USAGE_READ,
    "/usage?month=open": Permission.USAGE_READ,
    "/usage.csv": Permission.USAGE_READ,
    "/invoices": Permission.INVOICE_READ,
    "/rates": Permission.PRICES_READ,
    "/rates/mahidol-hpc/1": Permission.PRICES_READ,
    "/quarantine": Permission.QUARANTINE_READ,
    "/agents": Permission.AGENTS_READ,
    "/password": Permission.SELF,
}


def all_jobs(url: str) -> list[JobRow]:
    with reading(open_engine(url)) as conn:
        return list(iter_jobs(conn, JobFilter()))


def all_invoices(url: str) -> list[InvoiceRow]:
    with reading(open_engine(url)) as conn:
        return list_invoices(conn)


def may_see_job(login: str, job: JobRow) -> bool:
    """The rule, said again in words of its own."""
    person = MEMBERS[login]
    is_own = person.slurm_user != "" and job.user == person.slurm_user
    return is_own or job.billing_account in person.accounts


def test_every_route_has_a_policy(app: Flask) -> None:
    assert all(policy_of(view) is not None for view in app.view_functions.values())


def test_only_these_routes_are_public(app: Flask) -> None:
    found = {name for name, view in app.view_functions.items() if policy_of(view) is Public.PUBLIC}
    assert found == {
        "health.healthz", "health.readyz", "health.metrics", "static",
        "login.login", "login.sign_in", "login.language",
    }  # fmt: skip


def test_a_route_without_a_policy_stops_the_start() -> None:
    def forgotten() -> str:
        return "open to all"

    with pytest.raises(UnguardedRoute, match=r"secret\.page"):
        refuse_unguarded({"secret.page": forgotten, "fine": public(lambda: "")})
    refuse_unguarded({"secret.page": requires(Permission.SELF)(forgotten)})


@pytest.mark.parametrize("page", PAGES)
def test_nobody_reads_without_signing_in(client: FlaskClient, page: str) -> None:
    answer = client.get(page)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/login")


@pytest.mark.parametrize("login", EVERYBODY)
def test_each_role_reaches_its_pages_and_no_other(sign_in: SignIn, login: str) -> None:
    browser = sign_in(login)
    role = Role(next(person.role for person in PEOPLE if person.login == login))
    for page, permission in PAGES.items():
        expected = 200 if permission in GRANTS[role] else 403
        assert browser.get(page).status_code == expected, page


@pytest.mark.parametrize("login", EVERYBODY)
def test_every_link_leads_somewhere(sign_in: SignIn, login: str) -> None:
    """Follow the links breadth first, as each role: no page fails or refuses."""
    browser = sign_in(login)
    waiting, seen = deque(["/"]), {"/"}
    while waiting and len(seen) < CRAWL_PAGES:
        page = waiting.popleft()
        answer = browser.get(page)
        assert answer.status_code == 200, page
        if answer.mimetype != "text/html":
            continue
        links = re.findall(r'href="(/[^"#]*)', answer.text)
        for link in (link.replace("&amp;", "&") for link in links):
            if link not in seen and not link.endswith(".pdf") and not link.startswith("/static"):
                seen.add(link)
                waiting.append(link)
    assert len(seen) > 6


@pytest.mark.parametrize("login", [name for name in EVERYBODY if name in MEMBERS])
def test_a_member_opens_own_jobs_and_no_others(sign_in: SignIn, books_url: str, login: str) -> None:
    browser = sign_in(login)
    one_of_each = {(job.user, job.account, job.cluster): job for job in all_jobs(books_url)}
    assert len(one_of_each) > 10
    for job in one_of_each.values():
        answer = browser.get(f"/jobs/{job.cluster}/{job.job_id}/{job.submit}")
        assert answer.status_code == (200 if may_see_job(login, job) else 404), job


@pytest.mark.parametrize("login", ["alice", "dave", "pia", "nobody"])
@pytest.mark.parametrize("trick", ["", "&payer=eng-ml", "&user=bob", "&account=bio_genomics"])
def test_a_members_csv_holds_visible_jobs_only(
    sign_in: SignIn, books_url: str, login: str, trick: str
) -> None:
    answer = sign_in(login).get(f"/usage.csv?month=all{trick}")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    visible = {
        (job.cluster, str(job.job_id)) for job in all_jobs(books_url) if may_see_job(login, job)
    }
    assert {(row["cluster"], row["job_id"]) for row in rows} <= visible
    if not trick:
        assert {(row["cluster"], row["job_id"]) for row in rows} == visible


@pytest.mark.parametrize("login", ["alice", "dave", "pia", "nobody"])
def test_a_member_opens_invoices_of_own_accounts_only(
    sign_in: SignIn, books_url: str, login: str
) -> None:
    browser = sign_in(login)
    listed = browser.get("/invoices").text
    for invoice in all_invoices(books_url):
        is_own = invoice.billing_account in MEMBERS[login].accounts
        assert (invoice.number in listed) == is_own
        for page in ("", "/lines.csv", "/jobs.csv"):
            answer = browser.get(f"/invoices/{invoice.number}{page}")
            assert answer.status_code == (200 if is_own else 404), (invoice.number, page)
        if not is_own:
            assert browser.get(f"/invoices/{invoice.number}/en.pdf").status_code == 404


def test_what_is_not_yours_looks_like_what_does_not_exist(sign_in: SignIn, books_url: str) -> None:
    browser = sign_in("dave")
    hidden = next(job for job in all_jobs(books_url) if not may_see_job("dave", job))
    foreign = browser.get(f"/jobs/{hidden.cluster}/{hidden.job_id}/{hidden.submit}")
    missing = browser.get(f"/jobs/{hidden.cluster}/999999999/{hidden.submit}")
    assert foreign.status_code == missing.status_code == 404
    assert foreign.text.replace(f"/{hidden.job_id}/", "/999999999/") == missing.text


def test_a_member_sees_the_price_list_but_no_agreement(sign_in: SignIn) -> None:
    assert "Show the card as it was loaded" in sign_in("ada").get("/rates").text
    page = sign_in("alice").get("/rates").text
    assert "cpu-std" in page
    assert "Show the card as it was loaded" not in page
    assert "schema: jobledger.ratecard" not in page


@pytest.mark.parametrize(
    ("role", "user", "accounts", "sees"),
    [
        (Role.ADMIN, "alice", "physics", None),
        (Role.FINANCE, "", "", None),
        (Role.MEMBER, "alice", "physics, ,chem", ("alice", {"physics", "chem"})),
        (Role.MEMBER, "", "", ("", set())),
    ],
)
def test_a_scope_is_everything_or_what_is_named(
    role: Role, user: str, accounts: str, sees: tuple[str, set[str]] | None
) -> None:
    scope = scope_of(role, user, accounts)
    assert (scope and (scope.user, set(scope.accounts))) == sees


@pytest.mark.parametrize(
    "page",
    [
        "/jobs/alpha/1/1",
        "/jobs/alpha/-1/1",
        "/jobs/alpha/1/x",
        f"/jobs/alpha/{2**63}/1",
        f"/jobs/alpha/1/{10**40}",
        "/jobs/%E0%B8%81/1/1",
        "/jobs/a%2Fb/1/1",
        "/invoices/INV-2026-999999",
        "/invoices/..%2F..%2Fetc",
        "/invoices/INV-2026-000001/fr.pdf",
        "/rates/mahidol-hpc/99",
        f"/rates/mahidol-hpc/{10**40}",
        "/rates/other/1",
        "/nowhere",
        "/static/../app.py",
        "/static/none.css",
    ],
)
def test_no_such_page(sign_in: SignIn, page: str) -> None:
    assert sign_in("ada").get(page).status_code == 404
