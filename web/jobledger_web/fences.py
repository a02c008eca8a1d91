"""What every request must pass and every answer must carry, whatever the page.

Requests: readable text only, each field once, small bodies, and a token on
everything that changes something. Answers: a policy under which the browser
runs no script and loads nothing from elsewhere.
"""

import hashlib
import hmac
import secrets
from ipaddress import ip_address
from typing import Final
from urllib.parse import unquote_to_bytes

from flask import Flask, Response, abort, current_app, g, request
from werkzeug.datastructures import MultiDict

from jobledger_web.access import Public, policy_of

MAX_BODY_BYTES: Final = 16 * 1024
"""Largest form: a login or a password change is far smaller."""
MAX_FIELDS: Final = 32
MAX_FIELD_CHARACTERS: Final = 2048
MAX_URL_BYTES: Final = 8 * 1024
HSTS_S: Final = 2 * 365 * 24 * 3600
STATIC_MAX_AGE_S: Final = 24 * 3600
VISIT_MAX_AGE_S: Final = 24 * 3600

FORM_TYPE: Final = "application/x-www-form-urlencoded"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_FIELD: Final = "csrf"

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": (
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(),"
        " microphone=(), payment=(), usb=()"
    ),
}


def fence(app: Flask) -> None:
    """Put the fences around ``app``; call it before any other request hook."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_BODY_BYTES
    app.config["MAX_FORM_PARTS"] = MAX_FIELDS
    app.before_request(refuse_plain_http)
    app.before_request(refuse_junk)
    app.after_request(harden)


def refuse_plain_http() -> None:
    """Answer 403 to plain HTTP that crossed a network: a cookie would be readable."""
    if request.is_secure or is_local(request.remote_addr):
        return
    abort(403, "Plain HTTP is only served to this machine; come through the TLS proxy.")


def is_local(address: str | None) -> bool:
    """Say whether a peer address is this machine's loopback."""
    try:
        return ip_address(address or "").is_loopback
    except ValueError:
        return False


def refuse_junk() -> None:
    """Answer 400, 413, 414 or 415 to what no browser sends from our own forms."""
    query = request.environ.get("QUERY_STRING", "")
    if len(query) + len(request.environ.get("PATH_INFO", "")) > MAX_URL_BYTES:
        abort(414)
    _readable(request.environ.get("PATH_INFO", "").encode("latin-1", "replace"))
    _readable(unquote_to_bytes(query.replace("+", " ")))
    _single(request.args)
    if request.method in SAFE_METHODS:
        return
    if request.mimetype != FORM_TYPE:
        abort(415)
    body = request.get_data(cache=True, parse_form_data=False)
    _readable(unquote_to_bytes(body.replace(b"+", b" ")))
    _single(request.form)


def _readable(raw: bytes) -> None:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        abort(400, "The request is not valid UTF-8 text.")
    if any(ord(c) < ord(" ") or c == "\x7f" for c in text):
        abort(400, "The request holds control characters.")


def _single(fields: MultiDict[str, str]) -> None:
    if len(fields) > MAX_FIELDS:
        abort(400, "The request holds too many fields.")
    for name, values in fields.lists():
        if len(values) > 1:
            abort(400, "The request names one field twice.")
        if len(name) > MAX_FIELD_CHARACTERS or len(values[0]) > MAX_FIELD_CHARACTERS:
            abort(400, "A field of the request is too long.")


def visit_cookie() -> str:
    """Name of the cookie that a browser has before anybody signed in."""
    return "__Host-jobledger-visit" if request.is_secure else "jobledger-visit"


def visit_token(visit: str) -> str:
    """The form token that belongs to a visit: only who can read the cookie can make it."""
    return hashlib.sha256(b"jobledger visit " + visit.encode()).hexdigest()


def csrf_token() -> str:
    """The token that this visitor's forms must carry; begins a visit if need be."""
    session = g.get("session")
    if session is not None:
        return str(session.csrf)
    if "visit" not in g:
        known = request.cookies.get(visit_cookie(), "")
        g.visit = known if _looks_like_visit(known) else secrets.token_urlsafe(32)
    return visit_token(g.visit)


def _looks_like_visit(value: str) -> bool:
    return 32 <= len(value) <= 64 and value.isascii()  # noqa: PLR2004 - the length of our tokens


def refuse_forgery() -> None:
    """Answer 400 to a change whose form is not ours, 401 where nobody is signed in any more.

    Runs before anything looks at what the form asks for.
    """
    if request.method in SAFE_METHODS:
        return
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        abort(400, "The form was sent from another site.")
    session = g.get("session")
    if session is not None:
        expected = session.csrf
    elif not is_public():
        abort(401)  # the session ended meanwhile: say so, and do nothing
    else:
        visit = request.cookies.get(visit_cookie(), "")
        if not _looks_like_visit(visit):
            abort(400, "The form is too old; open the page again and repeat.")
        expected = visit_token(visit)
    given = request.form.get(CSRF_FIELD, "")
    if not hmac.compare_digest(expected.encode(), given.encode()):
        abort(400, "The form is too old; open the page again and repeat.")


def harden(response: Response) -> Response:
    """Add the headers that every answer carries, and the visit's cookie."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = f"max-age={HSTS_S}; includeSubDomains"
    if request.endpoint == "static" and response.status_code < 400:  # noqa: PLR2004 - HTTP errors
        response.headers["Cache-Control"] = f"public, max-age={STATIC_MAX_AGE_S}"
    else:
        response.headers["Cache-Control"] = "no-store"
    if "visit" in g and request.cookies.get(visit_cookie()) != g.visit:
        response.set_cookie(
            visit_cookie(),
            g.visit,
            max_age=VISIT_MAX_AGE_S,
            httponly=True,
            secure=request.is_secure,
            samesite="Lax",
        )
    return response


def is_public() -> bool:
    """Say whether the requested page needs nobody to be signed in; unknown pages do not."""
    if request.endpoint is None:
        return True
    return policy_of(current_app.view_functions[request.endpoint]) is Public.PUBLIC
