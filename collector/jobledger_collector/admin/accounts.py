"""``jobledger accounts``: who pays for which Slurm account."""

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Final

from jobledger_collector.admin import account_tree
from jobledger_collector.admin.context import Context
from jobledger_collector.admin.files import read_document
from jobledger_collector.admin.output import json_line, say, table
from jobledger_collector.admin.repricing import reprice
from jobledger_collector.core.accounts import ANY_CLUSTER, AccountBook
from jobledger_collector.store.accounts import load_account_book, load_accounts

EPILOG: Final = """\
examples:
  jobledger accounts load accounts.yaml
  jobledger accounts list --json
  jobledger accounts tree --cluster alpha --at 2026-10-31

The document is the whole truth: loading it replaces the one before. A Slurm
account that it does not name pays under its own name, at the rate card's
default tier. What is not invoiced follows a change; what is invoiced does not.
"""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command group to the program."""
    parser = subparsers.add_parser(
        "accounts",
        help="who pays for which Slurm account",
        description="Load and list billing accounts.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    load = actions.add_parser("load", help="load the accounts document")
    load.add_argument("file", type=Path)
    load.set_defaults(run=_load)
    listing = actions.add_parser("list", help="list billing accounts")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=_list)
    account_tree.register(actions)


def _load(args: argparse.Namespace, context: Context) -> int:
    text = read_document(args.file)
    context.make_tables()
    with context.writing() as conn:
        loaded = load_accounts(conn, text, str(args.file))
        if not loaded.changed:
            say(context.out, f"{args.file} says what the books already know; nothing changed.")
            return 0
        book = loaded.book
        say(
            context.out,
            f"Loaded {len(book.accounts)} billing accounts for {len(book.slurm)} Slurm accounts.",
        )
        reprice(conn, context, ended_after=0)
    return 0


def _list(args: argparse.Namespace, context: Context) -> int:
    with context.reading() as conn:
        book = load_account_book(conn)
    slurm = _slurm_names(book)
    accounts = sorted(book.accounts.values(), key=lambda account: account.id)
    if args.json:
        for account in accounts:
            fields = {name: getattr(account, name) for name in account.__slots__}
            json_line(context.out, {**fields, "slurm": slurm[account.id]})
        return 0
    rows = [
        (account.id, account.tier or "(default)", account.name, " ".join(slurm[account.id]))
        for account in accounts
    ]
    table(context.out, ("ACCOUNT", "TIER", "NAME", "PAYS FOR"), rows)
    return 0


def _slurm_names(book: AccountBook) -> defaultdict[str, list[str]]:
    names: defaultdict[str, list[str]] = defaultdict(list)
    for (cluster, name), account in sorted(book.slurm.items()):
        names[account].append(name if cluster == ANY_CLUSTER else f"{cluster}:{name}")
    return names
