"""``jobledger quarantine``: records that could not be stored, and why."""

import argparse
from typing import Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.output import json_line, say, table
from jobledger_collector.core.explain import local_time
from jobledger_collector.store.cards import read_books
from jobledger_collector.store.quarantined import QuarantinedRow, iter_quarantine

SHOWN_RAW_CHARACTERS: Final = 60
TABLE_ROWS: Final = 200
EPILOG: Final = """\
examples:
  jobledger quarantine
  jobledger quarantine list --cluster alpha
  jobledger quarantine --json | jq -r .reason | sort | uniq -c

A record is here because it could not be read, or says something impossible.
Nothing of it is charged. Mend its cause in Slurm, or the agent's, and let the
agent read it again: it is then stored, and this row stays as evidence.
--json prints raw as text; bytes that are not UTF-8 as \\xNN.
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the program."""
    parser = subparsers.add_parser(
        "quarantine",
        help="records that could not be stored, and why",
        description="List the records that are kept aside, oldest first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", nargs="?", choices=("list",), default="list")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--cluster", metavar="NAME", help="only this cluster's")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N records")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, context: Context) -> int:
    """List what is in the quarantine."""
    limit = args.limit if args.limit is not None or args.json else TABLE_ROWS
    with context.reading() as conn:
        rows = iter_quarantine(conn, cluster=args.cluster, limit=limit)
        if args.json:
            for row in rows:
                json_line(context.out, {**row._asdict(), "raw": raw_text(row.raw)})
            return 0
        timezone = read_books(conn).timezone
        listed = list(rows)
        table(
            context.out,
            ("ID", "CLUSTER", "FIRST SEEN", "TIMES", "ORIGIN", "REASON", "RAW"),
            [_row(row, timezone) for row in listed],
        )
    if limit is not None and len(listed) == limit:
        say(context.err, f"The first {limit}; --limit N or --json shows more.")
    return 0


def raw_text(raw: bytes) -> str:
    r"""Return a raw record as text; bytes that are not UTF-8 as \xNN."""
    return raw.decode("utf-8", "backslashreplace")


def _row(row: QuarantinedRow, timezone: str) -> tuple[object, ...]:
    return (
        row.id,
        row.cluster or "?",
        local_time(row.first_seen, timezone),
        row.times,
        row.origin,
        row.reason,
        raw_text(row.raw)[:SHOWN_RAW_CHARACTERS],
    )
