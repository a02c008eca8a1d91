"""Believe X-Forwarded-* from the proxies that are configured, and from nobody else."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from werkzeug.middleware.proxy_fix import ProxyFix

from jobledger_web.config import Network, contains

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FORWARDED: Final = (
    "HTTP_FORWARDED",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_X_FORWARDED_PROTO",
)
"""What a proxy says of the request that it passes on, as WSGI names it."""
PASSED_ON: Final = "jobledger.passed_on"
"""Set in the environment of a request that came through somebody else."""


class TrustedProxies:
    """WSGI middleware: one trusted hop, and no say for anybody else."""

    def __init__(self, app: "WSGIApplication", networks: tuple[Network, ...]) -> None:
        """Wrap ``app``; ``networks`` are where the trusted proxies are."""
        self._app = app
        self._behind_proxy = ProxyFix(app, x_for=1, x_proto=1, x_host=1)
        self._networks = networks

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Pass the request on, with the client that a trusted proxy names."""
        environ[PASSED_ON] = any(name in environ for name in FORWARDED)
        if self._is_trusted(str(environ.get("REMOTE_ADDR", ""))):
            return self._behind_proxy(environ, start_response)
        for name in FORWARDED:
            environ.pop(name, None)
        return self._app(environ, start_response)

    def _is_trusted(self, address: str) -> bool:
        try:
            return contains(self._networks, ip_address(address))
        except ValueError:
            return False
