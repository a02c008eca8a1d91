"""``jobledger-web``: serve the web, or check its configuration."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from jobledger_collector import logs
from jobledger_collector.config import process_environment
from jobledger_collector.core.errors import CollectorError
from jobledger_web import __version__
from jobledger_web.config import WebConfig, load

EPILOG: Final = """\
examples:
  jobledger-web serve --db sqlite:////var/lib/jobledger/jobledger.db
  jobledger-web serve --config /etc/jobledger/web.toml
  jobledger-web serve --db "$URL" --listen 127.0.0.1:0   # prints READY with the port
  jobledger-web check-config --config /etc/jobledger/web.toml

exit codes:
  0 done   1 could not be done   2 bad usage   3 configuration   4 database
"""
MAX_HEADER_BYTES: Final = 16 * 1024
CHANNEL_TIMEOUT_S: Final = 60
CONNECTIONS_MAX: Final = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    options = _parser().parse_args(arguments)
    logs.start("info", process_environment())
    overrides = {"web.listen": options.listen} if options.listen else {}
    if options.db:
        overrides["database.url"] = options.db
    try:
        config = load(options.config, overrides)
        if options.command == "check-config":
            print(f"The configuration is good: listening on {_shown(config)}.")
            return 0
        return _serve(config)
    except CollectorError as error:
        print(f"jobledger-web: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"jobledger-web: {error.strerror or error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jobledger-web",
        description="What the clusters' jobs cost, on the web.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jobledger-web {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in (
        ("serve", "serve the web until it is told to stop"),
        ("check-config", "read the configuration and say whether it is good"),
    ):
        command = commands.add_parser(name, help=purpose, description=purpose)
        command.add_argument("--config", type=Path, metavar="FILE", help="web.toml")
        command.add_argument("--db", metavar="URL", help="database, instead of the configured one")
        command.add_argument(
            "--listen", metavar="ADDRESS:PORT", help="instead of the configured one; port 0: any"
        )
    return parser


def _shown(config: WebConfig) -> str:
    host = f"[{config.listen.host}]" if ":" in config.listen.host else config.listen.host
    return f"{host}:{config.listen.port}"


def _serve(config: WebConfig) -> int:
    """Serve until SIGTERM or SIGINT. Raises DatabaseFailed when the books cannot be read."""
    import waitress

    from jobledger_collector.store.engine import open_engine
    from jobledger_collector.store.migrate import require_current
    from jobledger_web.app import create_app
    from jobledger_web.fences import MAX_BODY_BYTES

    engine = open_engine(config.database_url)
    require_current(engine)
    engine.dispose()
    try:
        server = waitress.create_server(
            create_app(config),
            host=config.listen.host,
            port=config.listen.port,
            threads=config.threads,
            connection_limit=CONNECTIONS_MAX,
            channel_timeout=CHANNEL_TIMEOUT_S,
            max_request_header_size=MAX_HEADER_BYTES,
            max_request_body_size=4 * MAX_BODY_BYTES,
            clear_untrusted_proxy_headers=False,  # ours to judge, by network: proxies.py
            ident=None,
        )
    except OSError as error:
        raise CannotListen(
            f"Cannot listen on {_shown(config)}: {os.strerror(error.errno or 0)}."
            " Stop what uses that port, or give another one with --listen."
        ) from error
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    print(f"READY jobledger-web http://{server.effective_host}:{server.effective_port}", flush=True)
    try:
        server.run()
    finally:
        server.close()
    return 0


class CannotListen(CollectorError):
    """The address is in use, or not this machine's."""


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
