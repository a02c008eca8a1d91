"""The ``jobledger-agent`` program: the daemon, and what a person or a timer asks of it."""

import argparse
import gc
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from jobledger_agent import VERSION, clock, logs
from jobledger_agent.errors import AgentError
from jobledger_agent.operating import enroll, moments
from jobledger_agent.settings import config, overrides, sections

if TYPE_CHECKING:
    from jobledger_agent.daemon.service import Outcome

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CONFIG: Final = 3
INPUT: Final = 5
TIMEOUT_S_DEFAULT: Final = 60
GC_YOUNG_OBJECTS: Final = 10_000
"""Records hold no cycles: looking for them ten times as rarely saves a tenth of the CPU."""

EPILOG: Final = """\
examples:
  jobledger-agent check-config --config /etc/jobledger/agent.toml
  jobledger-agent doctor
  jobledger-agent run
  jobledger-agent once --collector 127.0.0.1:7610 --input jobs.txt --input more.json.gz
  jobledger-agent once --collector 127.0.0.1:7610 --input jobs.txt,rename=alpha:alpha-2211
  jobledger-agent backfill --since 2023-01-01 --until 2026-10-01
  jobledger-agent verify --day 2026-10-01
  jobledger-agent replay --since 2026-10-01 --until 2026-10-02
  jobledger-agent status --json

exit codes:
  0 done   1 could not be done   2 bad usage   3 configuration   5 an input could not be read
  (once, backfill, replay, 5: everything that could be read was delivered;
  verify, 1: the collector does not have what Slurm says)
"""


class UsageError(AgentError):
    """Options that are right one by one and not together."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns the exit code, with one sentence on stderr if not 0."""
    args = build_parser().parse_args(argv)
    config.hush_grpc()
    try:
        return int(args.command(args))
    except config.ConfigError as error:
        return _complain(str(error), CONFIG)
    except UsageError as error:
        return _complain(str(error), USAGE)
    except AgentError as error:
        return _complain(str(error), FAILED)
    except BrokenPipeError:
        sys.stderr.close()
        return DONE


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole program."""
    parser = argparse.ArgumentParser(
        prog="jobledger-agent",
        description="Deliver what Slurm's accounting says of its jobs to a jobledger collector.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jobledger-agent {VERSION}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run = _command(commands, "run", "read the sources and deliver, until told to stop", _run)
    once = _command(commands, "once", "read the sources to their end, deliver, exit", _once)
    for command in (run, once):
        overrides.add_arguments(command)
    once.add_argument(
        "--timeout", metavar="SECONDS", type=int, default=TIMEOUT_S_DEFAULT,
        help="give up after so long without an acknowledgement (default %(default)s)",
    )  # fmt: skip
    backfill = _command(
        commands, "backfill", "send what ended in a span of the past; may be stopped and goes on",
        _backfill,
    )  # fmt: skip
    backfill.add_argument("--again", action="store_true", help="forget how far it came before")
    replay = _command(commands, "replay", "send again what was sent or refused before", _replay)
    replay.add_argument("--held", action="store_true",
                        help="offer again the blocks that the collector refused")  # fmt: skip
    verify = _command(
        commands, "verify", "compare what Slurm says of the past with the collector", _verify
    )
    verify.add_argument("--day", metavar="DATE", type=_moment, help="one UTC day")
    for command in (backfill, replay, verify):
        _add_span(command)
    for command in (once, backfill, replay):
        command.add_argument("--quiet", action="store_true", help="no progress, only what is wrong")
    status = _command(
        commands, "status", "say what waits and how far the sources are read", _status
    )
    status.add_argument("--spool", metavar="PATH", type=Path, help="over spool.path")
    doctor = _command(commands, "doctor", "check everything that the agent needs", _doctor)
    check = _command(commands, "check-config", "say whether the settings are right", _check_config)
    enrol = commands.add_parser("enroll", help="become an agent of a collector, with its code")
    enroll.add_arguments(enrol)
    enrol.set_defaults(command=enroll.run)
    for command in (once, backfill, replay, verify, status, doctor, check):
        command.add_argument("--json", action="store_true", help="answer for a script")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    function: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=text,
        description=f"{text[:1].upper()}{text[1:]}.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--config", metavar="FILE", type=Path, help="settings (agent.toml)")
    command.set_defaults(command=function)
    return command


def _add_span(command: argparse.ArgumentParser) -> None:
    options = (
        ("--since", "TIME", _moment, "first end of a run: 2026-10-01 or 2026-10-01T12:00+07:00"),
        ("--until", "TIME", _moment, "runs that ended before this (default: now)"),
    )
    for name, metavar, kind, text in options:
        command.add_argument(name, metavar=metavar, type=kind, help=text)
    command.add_argument("--cluster", metavar="NAME", action="append", default=[],
                         help="only this cluster; may be given several times")  # fmt: skip


def _moment(text: str) -> int:
    try:
        return moments.moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _span(args: argparse.Namespace) -> tuple[int, int]:
    """Return the Ends that the options name, both included. Raises UsageError."""
    now_s = clock.now_s()
    if getattr(args, "day", None) is not None:
        if args.since is not None or args.until is not None:
            raise UsageError("give --day, or --since and --until")
        begin = args.day - args.day % moments.DAY_S
        if begin >= now_s:
            raise UsageError("--day must not be in the future: nothing has ended then")
        return begin, min(begin + moments.DAY_S, now_s) - 1
    if args.since is None:
        raise UsageError("--since is missing: write the first day, as --since 2026-10-01")
    end = min(now_s, now_s if args.until is None else args.until) - 1
    if args.since > end:
        raise UsageError("--since must be earlier than --until and than now")
    return args.since, end


def _run(args: argparse.Namespace) -> int:
    supervisor = config.supervisor()
    logs.start(journal=supervisor.journal)
    settings = overrides.settings(args)
    from jobledger_agent.daemon.service import Service

    _collect_rarely()
    with closing(Service(settings)) as service:
        service.run(supervisor)
    return DONE


def _once(args: argparse.Namespace) -> int:
    _log_quietly(args)
    settings = overrides.settings(args)
    if args.metrics_listen is None:
        settings = overrides.over(settings, "metrics", listen="")
    with ExitStack() as stack:
        if args.input and not (args.spool or args.config):
            # What cannot be delivered is still in the inputs.
            directory = stack.enter_context(TemporaryDirectory(prefix="jobledger-agent-"))
            settings = overrides.over(settings, "spool", path=Path(directory, "spool.db"))
        from jobledger_agent.daemon.service import Service
        from jobledger_agent.operating import progress

        _collect_rarely()
        service = stack.enter_context(closing(Service(settings)))
        tell = progress.Progress(progress.counts, quiet=args.quiet)
        outcome = service.once(args.timeout, tell)
    if args.json:
        print(json.dumps(progress.as_json(outcome)))
    return _judge(outcome, settings)


def _backfill(args: argparse.Namespace) -> int:
    return _send_past(args, "backfill", again=args.again)


def _replay(args: argparse.Namespace) -> int:
    if not args.held:
        return _send_past(args, "replay", again=False)
    if args.since is not None or args.until is not None:
        raise UsageError("give --held, or --since and --until")
    settings = config.load(args.config)
    from jobledger_agent.daemon import replay

    records = replay.release(settings.spool.path, settings.spool.max_bytes)
    if args.json:
        print(json.dumps({"released": records}))
    else:
        print(f"{records:,} records that were held are offered to the collector again")
    return DONE


def _send_past(args: argparse.Namespace, purpose: str, *, again: bool) -> int:
    _log_quietly(args)
    begin, end = _span(args)
    settings = config.load(args.config)
    from jobledger_agent.operating import backfill, past, progress

    pasts = past.clusters_of(settings, args.cluster)
    spool = backfill.spool_beside(settings.spool.path, purpose)
    if again:
        backfill.forget(spool)
    _collect_rarely()
    outcome = backfill.send(settings, pasts, (begin, end), spool, quiet=args.quiet)
    if args.json:
        span = {"since": begin, "until": end + 1}
        print(json.dumps(span | progress.as_json(outcome)))
    code = _judge(outcome, settings)
    if code == DONE:
        backfill.forget(spool)
    return code


def _verify(args: argparse.Namespace) -> int:
    span = _span(args)
    settings = config.load(args.config)
    logs.start(journal=False, quiet=True)
    from jobledger_agent.delivery.verifier import Verifier
    from jobledger_agent.operating import past, verify

    def tell(result: verify.Verified) -> None:
        print(json.dumps(verify.as_json(result)) if args.json else verify.as_text(result))

    pasts = past.clusters_of(settings, args.cluster)
    if not args.json:
        print(verify.heading())
    verifier = Verifier(settings.collector, settings.agent.name)
    results = verify.verify(verifier, pasts, span, verify.sleep, tell)
    return DONE if all(result.is_equal for result in results) else FAILED


def _log_quietly(args: argparse.Namespace) -> None:
    """Where progress is drawn, only what is wrong is logged."""
    logs.start(journal=config.supervisor().journal, quiet=args.quiet or sys.stderr.isatty())


def _collect_rarely() -> None:
    """Let the garbage collector leave alone what was imported, and come seldom."""
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS)


def _judge(outcome: "Outcome", settings: sections.AgentConfig) -> int:
    complaints = outcome.report.complaints
    for complaint in complaints.values():
        _complain(complaint, INPUT)
    if outcome.why:
        what = f"{outcome.undelivered} records were not delivered to {settings.collector.address}"
        if not outcome.undelivered:
            what = "the sources were not read to their end"
        again = "Nothing is lost: run the same command again"
        return _complain(f"{what}: {outcome.why}. {again}", FAILED)
    return INPUT if complaints else DONE


def _status(args: argparse.Namespace) -> int:
    from jobledger_agent.operating import status

    settings = config.from_environment() if args.spool else config.load(args.config)
    path = args.spool or settings.spool.path
    found = status.look(path, "" if args.spool else settings.metrics.listen)
    print(json.dumps(status.as_json(found)) if args.json else status.as_text(found))
    return DONE


def _doctor(args: argparse.Namespace) -> int:
    from jobledger_agent.operating import doctor

    return doctor.examine(args.config, as_json=args.json)


def _check_config(args: argparse.Namespace) -> int:
    settings = config.load(args.config)
    from jobledger_agent.delivery.tls import bearer_token, credentials
    from jobledger_agent.sources.feeds import feeds

    credentials(settings.collector)
    bearer_token(settings.collector)
    names = [feed.name for feed in feeds(settings)]
    if args.json:
        print(json.dumps({"ok": True, "agent": settings.agent.name, "sources": names}))
    else:
        print(f"the settings are right: agent {settings.agent.name}, {len(names)} sources")
    return DONE


def _complain(sentence: str, code: int) -> int:
    sys.stderr.write(f"jobledger-agent: {' '.join(sentence.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
