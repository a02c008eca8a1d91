"""``/healthz``, ``/readyz`` and ``/metrics``."""

from ipaddress import ip_address
from typing import Final

from flask import Blueprint, Flask, Response, abort, current_app, g, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from jobledger_web import __version__, clock
from jobledger_web.access import public
from jobledger_web.config import contains
from jobledger_web.database import is_ready, settings
from jobledger_web.proxies import PASSED_ON

area = Blueprint("health", __name__)

_METERS: Final = "jobledger_meters"
BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meters:
    """What Prometheus reads of this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "jobledger_web_requests_total",
            "Requests answered.",
            ("endpoint", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "jobledger_web_request_seconds",
            "Time to answer a request, in seconds.",
            ("endpoint",),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.sign_ins = Counter(
            "jobledger_web_sign_ins_total",
            "Attempts to sign in.",
            ("outcome",),
            registry=self.registry,
        )
        build = Gauge(
            "jobledger_web_build_info", "The running version.", ("version",), registry=self.registry
        )
        build.labels(__version__).set(1)


def measure(app: Flask) -> None:
    """Count and time every request of ``app``."""
    app.extensions[_METERS] = Meters()

    @app.before_request
    def begin() -> None:
        g.began = clock.ticks()

    @app.after_request
    def end(response: Response) -> Response:
        found = meters()
        # Names of routes, never paths: a scanner must not make a label a page.
        endpoint = request.endpoint or "none"
        method = request.method if request.method in {"GET", "HEAD", "POST"} else "other"
        found.requests.labels(endpoint, method, str(response.status_code)).inc()
        if "began" in g:
            found.seconds.labels(endpoint).observe(clock.elapsed_s(g.began))
        return response


def meters() -> Meters:
    """The meters of the running app."""
    found: Meters = current_app.extensions[_METERS]
    return found


@area.get("/healthz")
@public
def healthz() -> Response:
    """The process answers."""
    return Response("ok\n", mimetype="text/plain")


@area.get("/readyz")
@public
def readyz() -> Response:
    """The database answers too; 503 while it does not."""
    if is_ready():
        return Response("ready\n", mimetype="text/plain")
    return Response("the database is not available\n", status=503, mimetype="text/plain")


@area.get("/metrics")
@public
def metrics() -> Response:
    """The metrics, to the addresses that are configured; nothing is here for others."""
    if not _may_scrape():
        abort(404)
    return Response(generate_latest(meters().registry), content_type=CONTENT_TYPE_LATEST)


def _may_scrape() -> bool:
    # Behind a proxy that nobody configured every client looks like loopback.
    if request.environ.get(PASSED_ON) and not settings().trusted_proxies:
        return False
    try:
        return contains(settings().metrics_allow, ip_address(request.remote_addr or ""))
    except ValueError:
        return False
