"""The web, put together: settings, store, fences, areas."""

import hashlib
import logging
from pathlib import Path
from typing import Any, Final

from flask import Flask, Response, g, make_response, render_template, request, url_for
from flask_babel import gettext, lazy_gettext
from markupsafe import Markup
from werkzeug.exceptions import HTTPException

from jobledger_collector.core.errors import DatabaseFailed
from jobledger_web import __version__, charts, database, fences, language, sessions
from jobledger_web.access import Permission, public, refuse_unguarded
from jobledger_web.config import WebConfig
from jobledger_web.health import views as health
from jobledger_web.invoices import views as invoices
from jobledger_web.login import views as login
from jobledger_web.operations import views as operations
from jobledger_web.proxies import TrustedProxies
from jobledger_web.rates import views as rates
from jobledger_web.usage import views as usage

log = logging.getLogger("jobledger_web")

NAVIGATION: Final = (
    ("usage.index", lazy_gettext("Usage"), Permission.USAGE_READ),
    ("invoices.index", lazy_gettext("Invoices"), Permission.INVOICE_READ),
    ("rates.index", lazy_gettext("Rates"), Permission.PRICES_READ),
    ("operations.quarantine", lazy_gettext("Quarantine"), Permission.QUARANTINE_READ),
    ("operations.agents", lazy_gettext("Agents"), Permission.AGENTS_READ),
)
"""Menu entries: endpoint, label, and who sees it."""


def create_app(config: WebConfig) -> Flask:
    """Build the web on ``config``; connects to nothing yet.

    Raises UnguardedRoute when a route has no access policy, and DatabaseFailed
    when the database's URL cannot be read.
    """
    app = Flask(__name__)
    database.attach(app, config)
    language.speak(app)
    health.measure(app)
    fences.fence(app)
    sessions.guard(app)
    for area in (health, login, usage, invoices, rates, operations):
        app.register_blueprint(area.area)
    app.context_processor(_page)
    app.jinja_env.globals["share"] = charts.share
    app.jinja_env.globals["asset"] = _assets(app)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(DatabaseFailed, _database_failed)
    app.register_error_handler(Exception, _failed)
    app.view_functions["static"] = public(app.view_functions["static"])
    refuse_unguarded(app.view_functions)
    app.wsgi_app = TrustedProxies(app.wsgi_app, config.trusted_proxies)  # type: ignore[method-assign]
    return app


def _page() -> dict[str, Any]:
    """What every template may use."""
    session = g.get("session")
    viewer = session.viewer if session is not None else None
    return {
        "viewer": viewer,
        "navigation": [
            (endpoint, label, (request.blueprint, request.endpoint))
            for endpoint, label, permission in NAVIGATION
            if viewer is not None and viewer.may(permission)
        ],
        "version": __version__,
        "csrf_field": _csrf_field,
        "language": language.chosen(),
        "languages": language.NAMES,
        "fmt": language.formats,
        "Permission": Permission,
    }


def _csrf_field() -> Markup:
    return Markup('<input type="hidden" name="{}" value="{}">').format(
        fences.CSRF_FIELD, fences.csrf_token()
    )


def _assets(app: Flask) -> Any:  # noqa: ANN401 - a Jinja global
    """Links to static files that change whenever the file does."""
    folder = Path(str(app.static_folder))
    digests = {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        for file in folder.rglob("*")
        if file.is_file()
    }

    def asset(name: str) -> str:
        return url_for("static", filename=name, v=digests[name])

    return asset


def _refused(error: HTTPException) -> Response:
    code = error.code or 500
    if error.response is not None or code < 400:  # noqa: PLR2004 - a redirect is no refusal
        return make_response(error.get_response())
    response = _sorry(code)
    for name, value in error.get_headers(request.environ):
        if name.lower() in {"allow", "retry-after"}:
            response.headers[name] = value
    return response


def _database_failed(error: DatabaseFailed) -> Response:
    log.error("%s", error)
    return _sorry(503)


def _failed(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.endpoint, exc_info=error)
    return _sorry(500)


def _sorry(code: int) -> Response:
    """The error page; where even that fails, its sentence alone."""
    title, advice = _sentences(code)
    try:
        page = render_template("error.html", code=code, title=title, advice=advice)
        return make_response(page, code)
    except DatabaseFailed:
        return Response(f"{title}\n{advice}\n", code, mimetype="text/plain")


def _sentences(code: int) -> tuple[str, str]:
    known = {
        400: (
            gettext("The request could not be understood"),
            gettext("Go back, open the page again and repeat. A form is valid for one day."),
        ),
        401: (gettext("Please sign in"), gettext("Your session has ended.")),
        403: (
            gettext("This page is not for your role"),
            gettext("Ask an administrator of Jobledger if you need it."),
        ),
        404: (
            gettext("There is nothing here"),
            gettext("It does not exist, or it is not yours to see."),
        ),
        405: (gettext("That cannot be done here"), gettext("Go back and use the page's buttons.")),
        413: (gettext("That is too large"), gettext("Send less at one time.")),
        414: (gettext("That address is too long"), gettext("Start again from the first page.")),
        415: (
            gettext("That kind of content is not accepted"),
            gettext("Go back and use the page's form."),
        ),
        429: (
            gettext("Too many attempts"),
            gettext("Wait a quarter of an hour, then try again."),
        ),
        503: (
            gettext("The books are not available at the moment"),
            gettext("Nothing is lost. Try again in a minute."),
        ),
    }
    failed = (
        gettext("Something went wrong here"),
        gettext("It was written to the log. Try again, or tell an administrator."),
    )
    return known.get(code, failed)
