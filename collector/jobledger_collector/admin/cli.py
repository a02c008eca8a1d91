"""The ``jobledger`` program: one command group a module, listed in GROUPS.

A group module has ``register(subparsers)``, which adds its parser and sets
``run`` as its default, and ``run(args, context) -> int``, the exit code.
"""

import argparse
import getpass
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jobledger_collector.admin import (
    accounts,
    agents,
    demo,
    explain,
    export,
    invoices,
    jobs,
    people,
    quarantine,
    rates,
)
from jobledger_collector.admin.config import load_config, process_environment
from jobledger_collector.admin.context import Context
from jobledger_collector.clock import now_s
from jobledger_collector.core.errors import CollectorError

GROUPS: Final = (
    rates, accounts, invoices, jobs, quarantine, explain, export, people, agents, demo,
)  # fmt: skip

EPILOG: Final = """\
examples:
  jobledger --db sqlite:///jobledger.db rates load packaging/rates/mahidol.yaml
  jobledger accounts load accounts.yaml
  jobledger invoices issue --period 2026-10
  jobledger jobs --json --period 2026-10
  jobledger explain alpha/1234
  jobledger quarantine --json

exit codes:
  0 done   1 could not be done   2 bad usage   3 configuration   4 database   5 input
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code, with one sentence on stderr if not 0."""
    args = build_parser().parse_args(argv)
    try:
        status = int(args.run(args, _context(args)))
        sys.stdout.flush()
    except CollectorError as failure:
        return _fail(str(failure), failure.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; what was not finished was not done", CollectorError.exit_code)
    except BrokenPipeError:
        # The reader has seen enough (`| head`); nothing may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"jobledger: {sentence}\n")
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole program."""
    parser = argparse.ArgumentParser(
        prog="jobledger",
        description="Price, bill and look after the books of your Slurm clusters.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = importlib.metadata.version("jobledger")
    parser.add_argument("--version", action="version", version=f"jobledger {version}")
    parser.add_argument("--db", metavar="URL", help="database, over JOBLEDGER_DB and the file")
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings (jobledger.toml)")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in GROUPS:
        group.register(subparsers)
    return parser


def _context(args: argparse.Namespace) -> Context:
    return Context(
        config=load_config(args.config, args.db, process_environment()),
        out=sys.stdout,
        err=sys.stderr,
        now_s=now_s,
        person=getpass.getuser(),
    )


if __name__ == "__main__":
    sys.exit(main())
