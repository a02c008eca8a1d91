"""``jobledger export``: CSV of jobs with costs, or of invoice lines."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.jobs import add_filters, filter_of, period_argument
from jobledger_collector.admin.outcome import CommandFailed
from jobledger_collector.exports import export_jobs, export_lines

EPILOG: Final = """\
examples:
  jobledger export jobs --period 2026-10 --out jobs-2026-10.csv
  jobledger export lines --period 2026-10 > lines-2026-10.csv

The same selection of the same books gives the same bytes. Text that a
spreadsheet would run as a formula starts with a quote (').
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the group to the program."""
    group = subparsers.add_parser(
        "export",
        help="write CSV of jobs or of invoice lines",
        description="Write CSV (RFC 4180, UTF-8) of jobs with costs, or of invoice lines.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = group.add_subparsers(metavar="WHAT", required=True)
    jobs = what.add_parser("jobs", help="one row a job run, with its exact cost")
    add_filters(jobs)
    _add_out(jobs)
    jobs.set_defaults(run=run_jobs)
    lines = what.add_parser("lines", help="one row a line of an issued document")
    lines.add_argument("--period", metavar="YYYY-MM", help="documents of this period")
    lines.add_argument("--account", metavar="ID", help="documents of this billing account")
    _add_out(lines)
    lines.set_defaults(run=run_lines)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="FILE", type=Path, help="write here, not to the screen")


def run_jobs(args: argparse.Namespace, context: Context) -> int:
    """Write the jobs; returns the exit code."""
    with context.reading() as conn:
        write_csv(export_jobs(conn, filter_of(args)), args.out, context)
    return 0


def run_lines(args: argparse.Namespace, context: Context) -> int:
    """Write the invoice lines; returns the exit code."""
    period = period_argument(args.period)
    with context.reading() as conn:
        write_csv(export_lines(conn, period=period, account=args.account), args.out, context)
    return 0


def write_csv(pieces: Iterable[str], out: Path | None, context: Context) -> None:
    """Write pieces of CSV to a file, or to the output without one."""
    if out is None:
        for piece in pieces:
            context.out.write(piece)
        return
    write_file(out, (piece.encode() for piece in pieces))


def write_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file whole or not at all; raises CommandFailed."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.writelines(pieces)
        part.replace(path)
    except OSError as error:
        raise CommandFailed(
            f"Cannot write {path}: {error.strerror}; give --out a file in a folder that exists,"
            " may be written and has room"
        ) from error
    finally:
        part.unlink(missing_ok=True)
