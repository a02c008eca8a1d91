"""The same pages say the same on SQLite and PostgreSQL."""

import re

import pytest

from jobledger_web import database
from jobledger_web.app import create_app
from jobledger_web.config import WebConfig
from tests.web.conftest import SignIn, log_in
from tests.web.filled import fill

PAGES = (
    "/usage?month=all&sort=cost", "/usage?month=2026-11&sort=user&order=up",
    "/usage?month=open", "/usage.csv?month=all", "/invoices", "/invoices/INV-2026-000001",
    "/invoices/INV-2026-000001/jobs.csv", "/rates", "/quarantine", "/agents",
)  # fmt: skip


def settled(text: str) -> str:
    """A page without what differs between two visits: tokens, and when a record came."""
    text = re.sub(r'name="csrf" value="[^"]+"', "", text)
    text = re.sub(r"(older|newer)=\d+", "", text)
    return re.sub(r"\d\d? Nov 2026 \d\d:\d\d:\d\d", "", text)


@pytest.mark.postgres
@pytest.mark.usefixtures("now")
def test_both_databases_show_the_same(sign_in: SignIn, postgres_url: str) -> None:
    fill(postgres_url).dispose()
    app = create_app(WebConfig(postgres_url))
    on_sqlite, on_postgres = sign_in("ada"), app.test_client()
    log_in(on_postgres, "ada")
    for page in PAGES:
        answer = on_postgres.get(page)
        assert answer.status_code == 200, page
        assert settled(answer.text) == settled(on_sqlite.get(page).text), page
    linked = re.findall(r'href="(/jobs/[^"]+)"', on_postgres.get(PAGES[0]).text)
    for link in linked[:5]:
        assert settled(on_postgres.get(link).text) == settled(on_sqlite.get(link).text)
    with app.app_context():
        database.site().engine.dispose()
