"""What every request must pass, and what every answer carries."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jobledger_web import database
from jobledger_web.app import create_app
from jobledger_web.config import WebConfig, load
from jobledger_web.fences import CONTENT_SECURITY_POLICY, HEADERS, MAX_BODY_BYTES, MAX_URL_BYTES
from tests.web.conftest import SignIn, token

HTML_PAGES = (
    "/login", "/", "/usage?month=all", "/invoices", "/rates", "/quarantine", "/agents",
    "/password", "/nowhere", "/usage?month=never",
)  # fmt: skip
PRIVATE = ("/usage", "/usage.csv", "/invoices", "/rates", "/quarantine", "/agents", "/password")


@pytest.mark.parametrize(
    "page", [*HTML_PAGES, "/usage.csv", "/healthz", "/readyz", "/metrics", "/static/app.css"]
)
def test_every_answer_carries_the_headers(sign_in: SignIn, page: str) -> None:
    answer = sign_in("ada").get(page)
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "Server" not in answer.headers


def test_the_policy_lets_the_browser_run_nothing() -> None:
    rules = dict(rule.split(None, 1) for rule in CONTENT_SECURITY_POLICY.split("; "))
    assert rules.pop("default-src") == "'none'"
    assert rules.pop("frame-ancestors") == rules.pop("base-uri") == "'none'"
    assert "script-src" not in rules
    assert set(rules.values()) == {"'self'", "'self' data:"}


@pytest.mark.parametrize("page", PRIVATE)
def test_private_pages_are_kept_nowhere(sign_in: SignIn, page: str) -> None:
    assert sign_in("ada").get(page).headers["Cache-Control"] == "no-store"


def test_static_files_are_kept(client: FlaskClient) -> None:
    assert "max-age" in client.get("/static/app.css").headers["Cache-Control"]


@pytest.mark.parametrize("page", HTML_PAGES)
def test_pages_hold_no_script_no_style_and_nothing_from_elsewhere(
    sign_in: SignIn, page: str
) -> None:
    text = sign_in("ada").get(page).text
    for forbidden in (r"<script", r"\sstyle=", r"<style", r"\son\w+=", r"javascript:"):
        assert not re.search(forbidden, text, re.IGNORECASE), forbidden
    assert not re.search(r'(href|src|action)="(https?:)?//', text)


def test_the_stylesheet_loads_only_its_own_fonts(client: FlaskClient) -> None:
    css = client.get("/static/app.css").text
    urls = re.findall(r'url\("([^"]+)"\)', css)
    assert urls
    assert css.count("url(") == len(urls)
    for url in urls:
        assert client.get(f"/static/{url}").status_code == 200
    assert "@import" not in css


# ------------------------------------------------------------------ forgery


def posts(app: Flask) -> list[str]:
    return [
        rule.rule for rule in app.url_map.iter_rules() if rule.methods and "POST" in rule.methods
    ]


def test_every_change_needs_the_token(app: Flask, sign_in: SignIn) -> None:
    assert set(posts(app)) == {"/login", "/logout", "/password", "/language"}
    browser = sign_in("ada")
    good = token(browser)
    for route in posts(app):
        for bad in (
            {"login": "x"},
            {"csrf": ""},
            {"csrf": good[:-1]},
            {"csrf": good + "x"},
            {"csrf": "ก"},
        ):
            assert browser.post(route, data=bad).status_code == 400, (route, bad)
    assert browser.get("/usage").status_code == 200


def test_another_persons_token_is_no_token(sign_in: SignIn) -> None:
    alices = token(sign_in("alice"))
    assert sign_in("ada").post("/logout", data={"csrf": alices}).status_code == 400


def test_a_visitors_token_belongs_to_the_visit(app: Flask) -> None:
    one, other = app.test_client(), app.test_client()
    stolen = token(one, "/login")
    token(other, "/login")
    data = {"csrf": stolen, "language": "th"}
    assert other.post("/language", data=data).status_code == 400
    assert one.post("/language", data=data).status_code == 303
    assert app.test_client().post("/language", data=data).status_code == 400


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 400), ("same-site", 400), ("same-origin", 303)]
)
def test_the_browser_says_where_a_form_came_from(sign_in: SignIn, site: str, status: int) -> None:
    browser = sign_in("ada")
    answer = browser.post(
        "/logout", data={"csrf": token(browser)}, headers={"Sec-Fetch-Site": site}
    )
    assert answer.status_code == status


def test_a_change_after_the_session_ended_does_nothing_and_says_so(client: FlaskClient) -> None:
    assert client.post("/logout", data={"csrf": "x"}).status_code == 401
    assert client.post("/password", data={"csrf": "x"}).status_code == 401


# --------------------------------------------------------------------- junk


@pytest.mark.parametrize(
    "page",
    [
        "/%00",
        "/usage?user=%ff",
        "/usage?user=%00",
        "/usage?user=a%0ab",
        "/usage?%ff=1",
        "/usage?user=a&user=b",
        "/usage?unknown=1",
        "/usage?month=2026-13",
        "/usage?month=%E0%B9%92%E0%B9%90%E0%B9%92%E0%B9%96-10",
        "/usage?sort=password",
        "/usage?order=sideways",
        "/usage?at=!!!!",
        "/usage?at=W10",
        "/usage?sort=user&at=WzEsImEiLDEsMSxmYWxzZV0",
        "/invoices?month=x",
        "/invoices?x=1",
        "/quarantine?older=-1",
        "/quarantine?older=99999999999999999999999",
        "/quarantine?x=1",
        "/usage?" + "&".join(f"f{n}=1" for n in range(40)),
        "/usage?user=" + "a" * 3000,
    ],
)
def test_junk_is_refused_and_never_an_error(sign_in: SignIn, page: str) -> None:
    assert sign_in("ada").get(page).status_code == 400


@pytest.mark.parametrize("path", ["/\xff", "/jobs/\xc3(/1/1", "/invoices/\x80"])
def test_a_path_of_junk_is_refused(sign_in: SignIn, path: str) -> None:
    answer = sign_in("ada").get("/", environ_overrides={"PATH_INFO": path})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"csrf=%ff",
        b"csrf=\xff\xfe",
        b"csrf=a&csrf=b",
        b"login=a%00b&password=x",
        b"&".join(b"f%d=1" % n for n in range(40)),
    ],
)
def test_junk_forms_are_refused(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/login", data=body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""]
)
def test_only_forms_are_accepted(client: FlaskClient, kind: str) -> None:
    assert client.post("/login", data=b"{}", content_type=kind).status_code == 415


def test_bodies_and_addresses_have_limits(client: FlaskClient) -> None:
    form = "application/x-www-form-urlencoded"
    big = b"login=" + b"a" * MAX_BODY_BYTES
    assert client.post("/login", data=big, content_type=form).status_code == 413
    assert client.get("/" + "a" * MAX_URL_BYTES).status_code == 414


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_do_nothing(sign_in: SignIn, method: str) -> None:
    browser = sign_in("ada")
    data = {"csrf": token(browser)}
    assert browser.open("/usage", method=method, data=data).status_code == 405


# ---------------------------------------------------------------- transport


def behind(url: str, proxies: str) -> Flask:
    overrides = {"database.url": url, "web.trusted_proxies": proxies}
    return create_app(load(None, overrides))


FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.9"}


def test_plain_http_is_for_this_machine_only(books_url: str) -> None:
    browser = behind(books_url, "").test_client()
    for address, status in (("127.0.0.1", 200), ("::1", 200), ("192.0.2.1", 403), ("", 403)):
        answer = browser.get("/login", environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code == status, address


def test_only_the_configured_proxy_is_believed(books_url: str) -> None:
    browser = behind(books_url, "10.1.0.0/16").test_client()
    for address, status in (("10.1.2.3", 200), ("10.2.2.3", 403), ("::ffff:10.1.2.3", 200)):
        answer = browser.get(
            "/login", headers=FORWARDED, environ_overrides={"REMOTE_ADDR": address}
        )
        assert answer.status_code == status, address
        assert ("Strict-Transport-Security" in answer.headers) == (status == 200)


def test_behind_tls_cookies_are_pinned_to_the_host(books_url: str) -> None:
    browser = behind(books_url, "10.1.2.3").test_client()
    answer = browser.get("/login", headers=FORWARDED, environ_overrides={"REMOTE_ADDR": "10.1.2.3"})
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-jobledger-visit=")
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert attribute in cookie
    assert "Domain" not in cookie


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("127.0.0.1", {"X-Forwarded-For": "198.51.100.9"}, 404),
        ("127.0.0.1", {"Forwarded": "for=198.51.100.9"}, 404),
    ],
)
def test_metrics_are_for_this_machine_only(
    app: Flask, address: str, headers: dict[str, str], status: int
) -> None:
    answer = app.test_client().get(
        "/metrics", headers=headers, environ_overrides={"REMOTE_ADDR": address}
    )
    assert answer.status_code == status


def test_metrics_through_the_proxy_are_refused(books_url: str) -> None:
    browser = behind(books_url, "10.1.2.3").test_client()
    peer = {"REMOTE_ADDR": "10.1.2.3"}
    answer = browser.get("/metrics", headers=FORWARDED, environ_overrides=peer)
    assert answer.status_code == 404


# -------------------------------------------------------------------- probes


def test_probes_tell_the_process_from_the_database(tmp_path: object, app: Flask) -> None:
    good = app.test_client()
    assert (good.get("/healthz").status_code, good.get("/readyz").status_code) == (200, 200)
    bad = create_app(WebConfig(f"sqlite:///{tmp_path}/no/such/folder/x.db")).test_client()
    assert (bad.get("/healthz").status_code, bad.get("/readyz").status_code) == (200, 503)


def test_without_the_database_pages_say_so(tmp_path: object) -> None:
    broken = create_app(WebConfig(f"sqlite:///{tmp_path}/no/such/folder/x.db")).test_client()
    broken.set_cookie("jobledger", "x" * 43)
    answer = broken.get("/usage")
    assert answer.status_code == 503
    assert "Nothing is lost" in answer.text


def test_metrics_count_requests_by_route_not_by_path(client: FlaskClient) -> None:
    for path in ("/nowhere/1", "/nowhere/2", "/login"):
        client.get(path)
    text = client.get("/metrics").text
    assert 'requests_total{endpoint="none",method="GET",status="404"} 2.0' in text
    assert 'requests_total{endpoint="login.login",method="GET",status="200"} 1.0' in text
    assert "/nowhere" not in text
    assert "jobledger_web_request_seconds_bucket" in text


def test_a_failure_is_logged_and_told_without_its_details(
    app: Flask, sign_in: SignIn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = sign_in("ada")

    def fail(*_: object, **__: object) -> None:
        message = "secret detail"
        raise ValueError(message)

    monkeypatch.setitem(app.view_functions, "operations.agents", app.view_functions["usage.usage"])
    monkeypatch.setattr("jobledger_web.usage.views.ledger", fail)
    answer = browser.get("/agents")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert "secret detail" in caplog.text
    with app.app_context():
        assert database.is_ready()
