"""Options of the command line that stand over the settings file."""

import argparse
import dataclasses
import re
from pathlib import Path
from typing import Final

from jobledger_agent.settings import config, sections

_INPUT_OPTION: Final = re.compile(
    r"^(?P<rest>.+),(?P<key>rename|cluster|timezone)=(?P<value>[^,]*)$"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of run and once."""
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


def settings(args: argparse.Namespace) -> sections.AgentConfig:
    """Return the file's settings with the command line's over them."""
    needs_file = args.config or not (args.input and args.collector)
    found = config.load(args.config) if needs_file else config.from_environment()
    if args.name:
        found = over(found, "agent", name=args.name)
    if args.collector:
        found = over(found, "collector", address=args.collector)
    if args.spool:
        found = over(found, "spool", path=args.spool)
    if args.metrics_listen is not None:
        found = over(found, "metrics", listen=args.metrics_listen)
    if args.input:
        found = dataclasses.replace(found, sources=tuple(args.input))
    if not found.sources:
        raise config.ConfigError("there is no source: add a [[source]] or give --input FILE")
    return config.checked(found)


def over(settings: sections.AgentConfig, section: str, **values: object) -> sections.AgentConfig:
    """Return the settings with these values in one section."""
    changed = dataclasses.replace(getattr(settings, section), **values)
    return dataclasses.replace(settings, **{section: changed})
