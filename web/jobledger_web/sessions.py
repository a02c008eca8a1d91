"""Who is asking: sessions kept in the database, their id in one cookie.

The id is random and only its SHA-256 is stored. A session ends when idle, when
old, at sign-out, and with every other one when the password changes.
"""

import hashlib
import secrets
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, g, redirect, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from jobledger_collector.store import sessions as store
from jobledger_web import clock
from jobledger_web.access import Permission, Role, Viewer, policy_of, scope_of
from jobledger_web.database import reading, settings, writing
from jobledger_web.fences import is_public, refuse_forgery, visit_cookie
from jobledger_web.throttle import SPAN_S

ID_BYTES: Final = 32
ID_CHARACTERS: Final = 43
"""Of ID_BYTES in URL-safe base64."""
TOUCH_S: Final = 60
"""A session's last use is written at most this often."""
ALWAYS_OPEN: Final = frozenset({"login.password", "login.change_password", "login.logout"})
"""What a person whose password must change can still reach."""


class LiveSession(NamedTuple):
    """The session of this request."""

    id_sha256: str
    csrf: str
    viewer: Viewer


def guard(app: Flask) -> None:
    """Know the visitor, refuse forged forms, then hold every route to its policy."""
    app.before_request(recognise)
    app.before_request(refuse_forgery)
    app.before_request(authorise)


def cookie_name() -> str:
    """Name of the session cookie: pinned to this host wherever TLS allows it."""
    return "__Host-jobledger" if request.is_secure else "jobledger"


def _digest(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()


def recognise() -> None:
    """Find the visitor's session and remember it for this request."""
    g.session = None
    session_id = request.cookies.get(cookie_name(), "")
    if request.endpoint == "static" or len(session_id) != ID_CHARACTERS:
        return
    now, lifetime = clock.now_s(), settings()
    id_sha256 = _digest(session_id)
    with reading() as conn:
        found = store.find_session(
            conn,
            id_sha256,
            seen_after=now - lifetime.idle_s,
            created_after=now - lifetime.absolute_s,
        )
    if found is None:
        return
    if now - found.seen_at >= TOUCH_S:
        with writing() as conn:
            store.touch_session(conn, id_sha256, now)
    role = Role(found.role)
    scope = scope_of(role, found.slurm_user, found.accounts)
    g.session = LiveSession(
        id_sha256, found.csrf, Viewer(found.login, role, scope, found.must_change)
    )


def authorise() -> BaseResponse | None:
    """Let the request through, send it to sign in, or refuse it."""
    if is_public() or request.endpoint is None:
        return None
    if g.session is None:
        if request.method not in {"GET", "HEAD"}:
            abort(401)
        wanted = request.full_path.removesuffix("?")
        return redirect(url_for("login.login", next=None if wanted == "/" else wanted), 303)
    if g.session.viewer.must_change and request.endpoint not in ALWAYS_OPEN:
        return redirect(url_for("login.password"), 303)
    policy = policy_of(current_app.view_functions[request.endpoint])
    if not isinstance(policy, Permission) or not g.session.viewer.may(policy):
        abort(403)
    return None


def viewer() -> Viewer:
    """The person who is signed in; only for views that are not public."""
    session: LiveSession | None = g.session
    if session is None:
        abort(401)
    return session.viewer


def sign_in(response: Response, login: str) -> None:
    """Begin a new session for ``login`` and give its id to the browser.

    The old session and the visit, if any, end: an id that was known before the
    password was given is worth nothing after.
    """
    session_id, now = secrets.token_urlsafe(ID_BYTES), clock.now_s()
    lifetime = settings()
    with writing() as conn:
        store.purge(
            conn,
            seen_before=now - lifetime.idle_s,
            created_before=now - lifetime.absolute_s,
            failed_before=now - 2 * SPAN_S,
        )
        if g.session is not None:
            store.close_session(conn, g.session.id_sha256)
        store.open_session(conn, _digest(session_id), login, secrets.token_urlsafe(ID_BYTES), now)
    _forget_visit(response)
    response.set_cookie(
        cookie_name(), session_id, httponly=True, secure=request.is_secure, samesite="Lax"
    )


def sign_out(response: Response) -> None:
    """End this session in the database and in the browser."""
    with writing() as conn:
        store.close_session(conn, g.session.id_sha256)
    g.session = None
    response.delete_cookie(cookie_name(), httponly=True, secure=request.is_secure, samesite="Lax")


def _forget_visit(response: Response) -> None:
    g.pop("visit", None)
    if visit_cookie() in request.cookies:
        response.delete_cookie(
            visit_cookie(), httponly=True, secure=request.is_secure, samesite="Lax"
        )


def local_target(target: str) -> str:
    """A path of this site to go to next: ``target`` if it is one, else the first page."""
    parts = urlsplit(target)
    is_local = not parts.scheme and not parts.netloc and parts.path.startswith("/")
    if not is_local or target.startswith("//") or "\\" in target:
        return url_for("usage.index")
    return target
