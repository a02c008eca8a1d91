"""The ``jobledger-collector`` program: serve, migrate, status, check-config."""

import argparse
import gc
import json
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from jobledger_collector import VERSION, logs
from jobledger_collector.clock import now_s
from jobledger_collector.config import (
    CollectorConfig,
    agents_token,
    database_url,
    load_config,
    parse_address,
    process_environment,
)
from jobledger_collector.core.enrolment import Listener, sha256_of
from jobledger_collector.core.errors import CollectorError

if TYPE_CHECKING:
    from jobledger_collector.store.handles import Engine

DONE: Final = 0
GC_YOUNG_OBJECTS: Final = 100_000
"""A batch makes many small objects that die with it: looking for cycles among
them each 700, as Python does by itself, finds none and costs a tenth."""
THREAD_TURN_S: Final = 0.0005
"""The thread that stores a batch waits for the one that reads ahead at most so
long, instead of Python's 5 ms, whenever the database has answered."""

EPILOG: Final = """\
examples:
  jobledger-collector check-config --config /etc/jobledger/collector.toml
  jobledger-collector migrate --db postgresql+psycopg2://jobledger@db.example.org/jobledger
  jobledger-collector serve
  jobledger-collector serve --db sqlite:///jobledger.db --listen 127.0.0.1:0 --metrics-listen ''
  jobledger-collector status --json

exit codes:
  0 done   1 could not be done   2 bad usage   3 configuration   4 database   5 input
"""
_OPTIONS: Final = {
    "db": ("database", "url"),
    "listen": ("server", "listen"),
    "metrics_listen": ("metrics", "listen"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns the exit code, with one sentence on stderr if not 0."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.command(args))
    except CollectorError as error:
        sys.stderr.write(f"jobledger-collector: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return DONE


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole program."""
    parser = argparse.ArgumentParser(
        prog="jobledger-collector",
        description="Receive job runs from agents, keep each once, price it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jobledger-collector {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    serve = _command(commands, "serve", "listen for agents until told to stop", _serve)
    serve.add_argument("--listen", metavar="HOST:PORT", help="for agents; port 0 is any free one")
    serve.add_argument("--metrics-listen", metavar="HOST:PORT", help="for Prometheus; '' is none")
    _command(commands, "migrate", "bring the database to this version's tables", _migrate)
    status = _command(commands, "status", "say what the database holds and who reports", _status)
    status.add_argument("--json", action="store_true", help="as one JSON object")
    _command(commands, "check-config", "read the settings and say whether they hold", _check)
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=run)
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings (collector.toml)")
    parser.add_argument("--db", metavar="URL", help="database, over the settings")
    return parser


def _load(args: argparse.Namespace) -> CollectorConfig:
    given = {
        place: value
        for option, place in _OPTIONS.items()
        if (value := getattr(args, option, None)) is not None
    }
    return load_config(args.config, given, process_environment())


def _open(config: CollectorConfig) -> "Engine":
    from jobledger_collector.store.engine import open_engine

    return open_engine(database_url(config))


def _serve(args: argparse.Namespace) -> int:
    from jobledger_collector.metrics import Metrics
    from jobledger_collector.server import Ledger, Server
    from jobledger_collector.store.migrate import require_current, upgrade

    config = _load(args)
    logs.start(config.log.level, process_environment())
    listener = _listener(config)
    engine = _open(config)
    # SQLite serves a trial or one small site: nobody should have to prepare it.
    if engine.dialect.name == "sqlite":
        upgrade(engine)
    else:
        require_current(engine)
    metrics = Metrics(engine, config.tls)
    ledger = Ledger(engine, metrics, listener, config.server.max_streams)
    address = parse_address(config.server.listen, "[server] listen")
    server = Server(ledger, config.server, address, config.tls)
    ready = f"READY agents {server.address}"
    stop_metrics: Callable[[], None] | None = None
    if config.metrics.listen:
        where = parse_address(config.metrics.listen, "[metrics] listen")
        bound, stop_metrics = metrics.serve(where)
        ready += f" metrics {bound}"
    told = _when_told_to_stop()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS)
    sys.setswitchinterval(THREAD_TURN_S)
    server.start()
    print(ready, flush=True)
    told.wait()
    server.stop()
    if stop_metrics:
        stop_metrics()
    engine.dispose()
    return DONE


def _listener(config: CollectorConfig) -> Listener:
    """Return how agents without an enrolment are met: openly only on this machine itself."""
    token = agents_token(config)
    address = parse_address(config.server.listen, "[server] listen")
    return Listener(sha256_of(token) if token else "", open_to_all=address.is_loopback)


def _when_told_to_stop() -> threading.Event:
    told = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        told.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return told


def _migrate(args: argparse.Namespace) -> int:
    from jobledger_collector.store.engine import shown_url
    from jobledger_collector.store.migrate import head, upgrade

    engine = _open(_load(args))
    changed = upgrade(engine)
    what = "brought to" if changed else "already of"
    print(f"{shown_url(engine)} is {what} version {head()}.")
    return DONE


def _status(args: argparse.Namespace) -> int:
    from jobledger_collector.store.engine import reading, shown_url
    from jobledger_collector.store.migrate import require_current
    from jobledger_collector.store.status import read_status

    engine = _open(_load(args))
    require_current(engine)
    with reading(engine) as conn:
        status = read_status(conn)
    if args.json:
        print(json.dumps({"database": shown_url(engine), **status._asdict()}))
        return DONE
    print(
        f"{shown_url(engine)}: {status.runs} runs, {status.charges} charges,"
        f" {status.revisions} revisions, {status.quarantined} records in quarantine"
    )
    now = now_s()
    for agent in status.agents:
        ago = now - int(agent["last_seen"])
        print(f"agent {agent['name']} {agent['version']}: last seen {ago} s ago")
    for one in status.verified:
        print(
            f"cluster {one['cluster']}: compared with Slurm {now - one['verified_at']} s ago:"
            f" {one['missing']} were missing, {one['differing']} different, {one['extra']} extra"
        )
    return DONE


def _check(args: argparse.Namespace) -> int:
    from jobledger_collector.tls import Certificates

    config = _load(args)
    agents_token(config)
    _open(config)
    if config.tls.certificate_file:
        Certificates(config.tls)
    print("The settings hold.")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
