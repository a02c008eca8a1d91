"""Completion for bash, generated from the program's own parser."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from jobledger_agent.cli import build_parser


def script() -> str:
    """The file for /usr/share/bash-completion/completions/jobledger-agent."""
    parser = build_parser()
    for action in _actions(parser):
        # Attributes that shtab looks for; argparse knows nothing of them.
        if action.type is Path or action.metavar in ("FILE", "PATH"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell="bash"))  # noqa: S604 - which shell to write for


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every option of the program and of its commands."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for each in action.choices.values():
                yield from _actions(each)
