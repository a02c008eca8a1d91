"""Sign in, sign out, change the password, choose the language."""

import logging
import threading
from typing import Final

from flask import (
    Blueprint,
    Response,
    abort,
    g,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask_babel import gettext
from werkzeug.wrappers import Response as BaseResponse

from jobledger_collector.store import people
from jobledger_collector.store import sessions as session_store
from jobledger_web import clock, sessions, throttle
from jobledger_web.access import Permission, public, requires
from jobledger_web.database import writing
from jobledger_web.health.views import meters
from jobledger_web.language import COOKIE, COOKIE_MAX_AGE_S, LANGUAGES

area = Blueprint("login", __name__)
log = logging.getLogger("jobledger_web")

PASSWORD_CHECKS: Final = threading.BoundedSemaphore(2)
"""Passwords checked at one time: each takes tens of MiB and tens of milliseconds."""
CHECK_WAIT_S: Final = 10


@area.get("/login")
@public
def login() -> str | BaseResponse:
    """The sign-in form; who is signed in goes on."""
    if g.session is not None:
        return redirect(sessions.local_target(request.args.get("next", "")), 303)
    return _form()


@area.post("/login")
@public
def sign_in() -> BaseResponse:
    """Check the password, within the limits, and begin a session."""
    name, password = request.form.get("login", "").strip(), request.form.get("password", "")
    address, now = request.remote_addr or "", clock.now_s()
    with writing() as conn:
        is_admitted = throttle.admit(conn, name, address, now)
    if not is_admitted:
        return _locked(name, address)
    if not _is_right(name, password):
        meters().sign_ins.labels("refused").inc()
        log.warning("sign-in refused: login %r from %s", name[: throttle.LOGIN_CHARACTERS], address)
        return make_response(_form(gettext("The login or the password is not right."), name), 401)
    with writing() as conn:
        throttle.welcome(conn, name, address, now)
    meters().sign_ins.labels("accepted").inc()
    log.info("signed in: %r from %s", name, address)
    response = make_response(redirect(sessions.local_target(request.form.get("next", "")), 303))
    sessions.sign_in(response, name)
    return response


def _locked(name: str, address: str) -> Response:
    meters().sign_ins.labels("locked").inc()
    log.warning("sign-in locked: login %r from %s", name[: throttle.LOGIN_CHARACTERS], address)
    minutes = throttle.SPAN_S // 60
    sentence = gettext(
        "Too many attempts. Signing in is locked for up to %(minutes)s minutes, also with the"
        " right password.",
        minutes=minutes,
    )
    response = make_response(_form(sentence, name), 429)
    response.headers["Retry-After"] = str(throttle.SPAN_S)
    return response


def _is_right(name: str, password: str) -> bool:
    if not PASSWORD_CHECKS.acquire(timeout=CHECK_WAIT_S):
        abort(503)
    try:
        with writing() as conn:
            return people.check_password(conn, name, password)
    finally:
        PASSWORD_CHECKS.release()


def _form(problem: str = "", name: str = "") -> str:
    return render_template(
        "login/login.html",
        problem=problem,
        notice="",
        login=name[: throttle.LOGIN_CHARACTERS],
        next=sessions.local_target(request.values.get("next", "")),
    )


@area.post("/logout")
@requires(Permission.SELF)
def logout() -> BaseResponse:
    """End the session, here and in the database."""
    response = make_response(redirect(url_for("login.login"), 303))
    sessions.sign_out(response)
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


@area.get("/password")
@requires(Permission.SELF)
def password() -> str:
    """The form to change one's own password."""
    return _password_form(done="done" in request.args)


@area.post("/password", endpoint="change_password")
@requires(Permission.SELF)
def change_password() -> BaseResponse:
    """Change the password; every other session of the person ends, this one begins anew."""
    name, address = sessions.viewer().login, request.remote_addr or ""
    now = clock.now_s()
    with writing() as conn:
        is_admitted = throttle.admit(conn, name, address, now)
    if not is_admitted:
        return make_response(
            _password_form(problem=gettext("Too many attempts. Try again later.")), 429
        )
    current, new = request.form.get("current", ""), request.form.get("new", "")
    if not _is_right(name, current):
        return make_response(
            _password_form(problem=gettext("The current password is not right.")), 400
        )
    problem = _weakness(new, request.form.get("again", ""), current, name)
    if problem:
        return make_response(_password_form(problem=problem), 400)
    with writing() as conn:
        throttle.welcome(conn, name, address, now)
        people.set_password(conn, name, new, must_change=False)
        session_store.close_sessions_of(conn, name)
    log.info("password changed: %r from %s", name, address)
    response = make_response(redirect(url_for("login.password", done=1), 303))
    sessions.sign_in(response, name)
    return response


def _password_form(*, problem: str = "", done: bool = False) -> str:
    least = people.MIN_PASSWORD_CHARACTERS
    return render_template("login/password.html", least=least, problem=problem, done=done)


def _weakness(new: str, again: str, current: str, name: str) -> str:
    if new != again:
        return gettext("The two new passwords are not the same.")
    if new == current:
        return gettext("The new password is the old one.")
    if len(new) < people.MIN_PASSWORD_CHARACTERS:
        return gettext("The new password is too short.")
    if people.weakness(new, name):
        return gettext("The new password is too easy to guess.")
    return ""


@area.post("/language")
@public
def language() -> BaseResponse:
    """Remember the language that the visitor chose, and go back."""
    chosen = request.form.get("language", "")
    if chosen not in LANGUAGES:
        abort(400)
    response = make_response(redirect(sessions.local_target(request.form.get("next", "")), 303))
    response.set_cookie(
        COOKIE,
        chosen,
        max_age=COOKIE_MAX_AGE_S,
        httponly=True,
        secure=request.is_secure,
        samesite="Lax",
    )
    return response
