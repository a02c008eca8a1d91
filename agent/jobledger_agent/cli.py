"""The ``jobledger-agent`` program: run, once, status, doctor, check-config."""

import argparse
import dataclasses
import gc
import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from jobledger_agent import VERSION, clock, config, logs, sections
from jobledger_agent.errors import AgentError

if TYPE_CHECKING:
    from jobledger_agent.health import HealthReport
    from jobledger_agent.service import Outcome

DONE: Final = 0
FAILED: Final = 1
CONFIG: Final = 3
INPUT: Final = 5
TIMEOUT_S_DEFAULT: Final = 60
GC_YOUNG_OBJECTS: Final = 10_000
"""Records hold no cycles: looking for them ten times as rarely saves a tenth of the CPU."""
PROGRESS_MS_TERMINAL: Final = 200
PROGRESS_MS_LOG: Final = 5_000
VERDICTS: Final = ("new", "known", "revised", "quarantined")

EPILOG: Final = """\
examples:
  jobledger-agent check-config --config /etc/jobledger/agent.toml
  jobledger-agent doctor
  jobledger-agent run
  jobledger-agent once --collector 127.0.0.1:7610 --input jobs.txt --input more.json.gz
  jobledger-agent once --collector 127.0.0.1:7610 --input jobs.txt,rename=alpha:alpha-2211
  jobledger-agent status --json

exit codes:
  0 done   1 could not be done   2 bad usage   3 configuration   5 an input could not be read
  (once, 5: everything that could be read was delivered)
"""
_INPUT_OPTION: Final = re.compile(
    r"^(?P<rest>.+),(?P<key>rename|cluster|timezone)=(?P<value>[^,]*)$"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns the exit code, with one sentence on stderr if not 0."""
    args = build_parser().parse_args(argv)
    config.hush_grpc()
    try:
        return int(args.command(args))
    except config.ConfigError as error:
        return _complain(str(error), CONFIG)
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
        _add_overrides(command)
    once.add_argument(
        "--timeout", metavar="SECONDS", type=int, default=TIMEOUT_S_DEFAULT,
        help="give up after so long without an acknowledgement (default %(default)s)",
    )  # fmt: skip
    once.add_argument("--quiet", action="store_true", help="no progress, only what is wrong")
    status = _command(
        commands, "status", "say what waits and how far the sources are read", _status
    )
    status.add_argument("--spool", metavar="PATH", type=Path, help="over spool.path")
    doctor = _command(commands, "doctor", "check everything that the agent needs", _doctor)
    check = _command(commands, "check-config", "say whether the settings are right", _check_config)
    for command in (once, status, doctor, check):
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
        description=text.capitalize() + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--config", metavar="FILE", type=Path, help="settings (agent.toml)")
    command.set_defaults(command=function)
    return command


def _add_overrides(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", help="over agent.name")
    command.add_argument("--collector", metavar="HOST:PORT", help="over collector.address")
    command.add_argument("--spool", metavar="PATH", type=Path, help="over spool.path")
    command.add_argument("--metrics-listen", metavar="HOST:PORT", help="over metrics.listen")
    command.add_argument(
        "--input",
        metavar="FILE[,rename=OLD:NEW][,cluster=NAME][,timezone=ZONE]",
        action="append",
        type=_input,
        default=[],
        help="read this dump in place of the configured sources; may be given several times",
    )


def _input(text: str) -> sections.FileSection:
    """Read one --input; a comma in a file name is kept unless an option follows it."""
    section = sections.FileSection(path=Path())
    while found := _INPUT_OPTION.match(text):
        text, key, value = found["rest"], found["key"], found["value"]
        if key == "rename":
            old, _, new = value.partition(":")
            if not old or not new:
                raise argparse.ArgumentTypeError(f"rename={value}: write rename=OLD:NEW")
            section = dataclasses.replace(section, rename=((old, new), *section.rename))
        elif key == "cluster":
            section = dataclasses.replace(section, cluster=value)
        else:
            section = dataclasses.replace(section, timezone=value)
    return dataclasses.replace(section, path=Path(text))


def _settings(args: argparse.Namespace) -> sections.AgentConfig:
    """Return the file's settings with the command line's over them."""
    needs_file = args.config or not (args.input and args.collector)
    settings = config.load(args.config) if needs_file else config.from_environment()
    if args.name:
        settings = _over(settings, "agent", name=args.name)
    if args.collector:
        settings = _over(settings, "collector", address=args.collector)
    if args.spool:
        settings = _over(settings, "spool", path=args.spool)
    if args.metrics_listen is not None:
        settings = _over(settings, "metrics", listen=args.metrics_listen)
    if args.input:
        settings = dataclasses.replace(settings, sources=tuple(args.input))
    if not settings.sources:
        raise config.ConfigError("there is no source: add a [[source]] or give --input FILE")
    return config.checked(settings)


def _over(settings: sections.AgentConfig, section: str, **values: object) -> sections.AgentConfig:
    changed = dataclasses.replace(getattr(settings, section), **values)
    return dataclasses.replace(settings, **{section: changed})


def _run(args: argparse.Namespace) -> int:
    supervisor = config.supervisor()
    logs.start(journal=supervisor.journal)
    settings = _settings(args)
    from jobledger_agent.service import Service

    _collect_rarely()
    with closing(Service(settings)) as service:
        service.run(supervisor)
    return DONE


def _once(args: argparse.Namespace) -> int:
    logs.start(journal=config.supervisor().journal, quiet=args.quiet or sys.stderr.isatty())
    settings = _settings(args)
    if args.metrics_listen is None:
        settings = _over(settings, "metrics", listen="")
    with ExitStack() as stack:
        if args.input and not (args.spool or args.config):
            # What cannot be delivered is still in the inputs.
            directory = stack.enter_context(TemporaryDirectory(prefix="jobledger-agent-"))
            settings = _over(settings, "spool", path=Path(directory, "spool.db"))
        from jobledger_agent.service import Service

        _collect_rarely()
        service = stack.enter_context(closing(Service(settings)))
        outcome = service.once(args.timeout, _Progress(quiet=args.quiet))
    if args.json:
        print(json.dumps(_as_json(outcome)))
    return _judge(outcome, settings)


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


def _as_json(outcome: "Outcome") -> dict[str, object]:
    report = outcome.report
    return {
        "read": report.read,
        "unreadable": report.unreadable,
        "acknowledged": report.acknowledged,
        "verdicts": dict(report.verdicts),
        "undelivered": outcome.undelivered,
        "complaints": dict(report.complaints),
        "why": outcome.why,
    }


class _Progress:
    """Tells a terminal at once, and a log every few seconds and at the end."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._redraws = sys.stderr.isatty()
        self._due_ms = clock.monotonic_ms() + PROGRESS_MS_LOG
        self._last = ""

    def __call__(self, report: "HealthReport", waiting: int, *, last: bool = False) -> None:
        now_ms = clock.monotonic_ms()
        if self._quiet or not (last or self._redraws or now_ms >= self._due_ms):
            return
        self._due_ms = now_ms + PROGRESS_MS_LOG
        counts = " ".join(f"{name} {report.verdicts.get(name, 0):,}" for name in VERDICTS)
        line = f"read {report.read:,}  sent {report.acknowledged:,} ({counts})  waiting {waiting:,}"
        if report.link_error:
            line = f"{line}  no collector"
        if line != self._last or last:
            self._last = line
            sys.stderr.write(f"\r\x1b[K{line}" if self._redraws else f"{line}\n")
            sys.stderr.write("\n" if self._redraws and last else "")
            sys.stderr.flush()


def _status(args: argparse.Namespace) -> int:
    from jobledger_agent import status

    settings = config.from_environment() if args.spool else config.load(args.config)
    path = args.spool or settings.spool.path
    found = status.look(path, "" if args.spool else settings.metrics.listen)
    print(json.dumps(status.as_json(found)) if args.json else status.as_text(found))
    return DONE


def _doctor(args: argparse.Namespace) -> int:
    from jobledger_agent import doctor

    return doctor.examine(args.config, as_json=args.json)


def _check_config(args: argparse.Namespace) -> int:
    settings = config.load(args.config)
    from jobledger_agent.sources import feeds
    from jobledger_agent.tls import bearer_token, credentials

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
