"""A real Chromium on the real program: sign in, usage, job, invoice, PDF."""

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from pypdf import PdfReader

from tests.ports import free_port
from tests.web.filled import PASSWORD
from tests.web.served import Served

pytestmark = pytest.mark.browser

CHROMIUM_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage",
)  # fmt: skip
DESK = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 812}
WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)
PROBLEMS: list[str] = []
"""What the browser complained of, or asked of another host; an error page is no complaint."""


@pytest.fixture(autouse=True)
def _nothing_to_complain_of() -> Iterator[None]:
    PROBLEMS.clear()
    yield
    assert [one for one in PROBLEMS if "the server responded with a status" not in one] == []


@pytest.fixture(scope="module")
def web(filled_db: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real program on a copy of the filled books."""
    path = tmp_path_factory.mktemp("browser") / "books.db"
    shutil.copyfile(filled_db, path)
    arguments = ["--db", f"sqlite:///{path}", "--listen", f"127.0.0.1:{free_port()}"]
    with Served(arguments) as served:
        yield served.url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


def open_page(browser: Browser, size: dict[str, int], locale: str = "en-GB") -> Page:
    """A fresh window in which nothing may go wrong unseen."""
    context: BrowserContext = browser.new_context(
        viewport={"width": size["width"], "height": size["height"]},
        locale=locale,
        accept_downloads=True,
        java_script_enabled=True,
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.on("console", lambda message: PROBLEMS.append(message.text)
            if message.type == "error" else None)  # fmt: skip
    page.on("request", lambda request: PROBLEMS.append(f"asked {request.url}")
            if not request.url.startswith("http://127.0.0.1:") else None)  # fmt: skip
    return page


def sign_in(page: Page, web: str, login: str, label: str) -> None:
    page.goto(web)
    expect(page).to_have_url(re.compile("/login"))
    page.fill("input[name=login]", login)
    page.fill("input[name=password]", PASSWORD)
    page.get_by_role("button", name=label, exact=True).click()
    expect(page.locator(".who")).to_have_text(login)


def fits(page: Page) -> bool:
    """Whether nothing makes the whole page scroll sideways."""
    over: int = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return over <= 0


def pdf_text(page: Page, button: str) -> str:
    with page.expect_download() as waiting:
        page.get_by_role("link", name=button).click()
    body = Path(waiting.value.path()).read_bytes()
    return "\n".join(sheet.extract_text() for sheet in PdfReader(io.BytesIO(body)).pages)


def test_from_signing_in_to_the_pdf_in_english(web: str, chromium: Browser) -> None:
    page = open_page(chromium, DESK)
    sign_in(page, web, "ada", "Sign in")
    expect(page.get_by_role("heading", level=1)).to_have_text("Usage November 2026")

    page.fill("input[name=account]", "eng-ml")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="Cost", exact=True).click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("Cost")
    page.locator("table.stack tbody th a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"Job \d+"))
    expect(page.get_by_text("Together exactly")).to_be_visible()

    page.locator("td a[href^='/invoices/']").first.click()
    number = page.get_by_role("heading", level=1).inner_text().split()[-1]
    assert re.fullmatch(r"INV-2026-\d{6}", number)
    assert number in pdf_text(page, "PDF in English")
    assert number in pdf_text(page, "PDF in Thai")

    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/login"))
    page.goto(f"{web}/usage")
    expect(page).to_have_url(re.compile("/login"))
    page.context.close()


def test_the_same_in_thai_on_a_phone(web: str, chromium: Browser) -> None:
    page = open_page(chromium, PHONE, "th-TH")
    sign_in(page, web, "alice", "เข้าสู่ระบบ")
    expect(page.get_by_role("heading", level=1)).to_have_text("การใช้งาน พฤศจิกายน 2569")
    assert fits(page)
    page.locator("table.stack tbody th a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"งาน \d+"))
    assert fits(page)
    page.get_by_role("link", name="ใบแจ้งหนี้", exact=True).first.click()
    page.locator("table.stack tbody th a").first.click()
    number = page.get_by_role("heading", level=1).inner_text().split()[-1]
    assert fits(page)
    text = pdf_text(page, "PDF ภาษาไทย")
    assert number in text
    assert re.search(r"[\u0e00-\u0e7f]{4}", text)
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Invoice {number}")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-GB", "th-TH"])
def test_no_page_overflows_a_phone(web: str, chromium: Browser, scheme: str, locale: str) -> None:
    page = open_page(chromium, PHONE, locale)
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(web)
    assert fits(page)
    sign_in(page, web, "ada", "Sign in" if locale == "en-GB" else "เข้าสู่ระบบ")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(18, 21, 23)" if scheme == "dark" else "rgb(247, 246, 242)")
    for path in (
        "/usage?month=all", "/invoices", "/invoices/INV-2026-000001", "/rates", "/quarantine",
        "/agents", "/password", "/nowhere", "/usage?user=nobody-at-all",
    ):  # fmt: skip
        page.goto(web + path)
        assert fits(page), path
        for summary in page.locator("summary").all()[:3]:
            summary.click()
        assert fits(page), f"{path} with its details open"
    page.context.close()


def test_everything_works_without_scripts_and_by_keyboard(web: str, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False, locale="en-GB")
    page = context.new_page()
    page.goto(web)
    expect(page.get_by_label("Login")).to_be_focused()
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Usage November 2026")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("link", name="Previous")).to_be_visible()
    context.close()
