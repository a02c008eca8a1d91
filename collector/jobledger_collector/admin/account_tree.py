"""``jobledger accounts tree``: a cluster's accounts as Slurm had them at a time."""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.outcome import BadUsage, CommandFailed
from jobledger_collector.admin.output import json_line, printable, say
from jobledger_collector.core.periods import zone
from jobledger_collector.core.tree import MAX_DEPTH, Association, TreeKind, parents_of, path_to
from jobledger_collector.store import tree
from jobledger_collector.store.cards import read_books

INDENT: Final = "  "


def register(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the action to the group."""
    parser = actions.add_parser("tree", help="a cluster's Slurm accounts as they were at a time")
    parser.add_argument("--cluster", required=True)
    parser.add_argument(
        "--at", default="", metavar="DATE", help="end of that day in the books' time zone; now"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object an association")
    parser.set_defaults(run=_tree)


def _tree(args: argparse.Namespace, context: Context) -> int:
    with context.reading() as conn:
        at_s = _instant(args.at, read_books(conn).timezone) if args.at else context.now_s()
        associations = tree.associations_at(conn, args.cluster, at_s)
        accounts = tree.entries_at(conn, args.cluster, TreeKind.ACCOUNT, at_s)
        first = tree.first_seen(conn, args.cluster)
    if not associations:
        seen = "was never seen" if not first else f"was first seen at {first} (epoch seconds)"
        raise CommandFailed(
            f"The account tree of cluster {args.cluster} {seen}: an agent tells it once a day"
        )
    if args.json:
        parents = parents_of(associations)
        for one in associations:
            path = list(path_to(one.account, parents))
            json_line(context.out, {"cluster": args.cluster, **one._asdict(), "path": path})
        return 0
    texts = {name: json.loads(attributes) for name, attributes in accounts.items()}
    for depth, name, users in _lines(associations):
        text = texts.get(name, {}).get("description", "")
        said = f"{INDENT * depth}{name}"
        said += f" ({text})" if text and text != name else ""
        said += f": {', '.join(users)}" if users else ""
        say(context.out, printable(said))
    return 0


def _lines(associations: Sequence[Association]) -> Iterator[tuple[int, str, list[str]]]:
    """Yield depth, account and its users, each account below its parent."""
    parents = parents_of(associations)
    children: dict[str, list[str]] = defaultdict(list)
    for account, parent in sorted(parents.items()):
        children[parent if parent in parents else ""].append(account)
    users: dict[str, set[str]] = defaultdict(set)
    for one in associations:
        if one.user:
            users[one.account].add(one.user)
    waiting = [(0, account) for account in reversed(children[""])]
    shown: set[str] = set()
    while waiting:
        depth, account = waiting.pop()
        if account in shown or depth > MAX_DEPTH:
            continue
        shown.add(account)
        yield depth, account, sorted(users[account])
        waiting += [(depth + 1, child) for child in reversed(children[account])]


def _instant(text: str, timezone: str) -> int:
    """Return the last second of a day, or an instant given whole (ISO 8601)."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadUsage(f'"{text}" is no date: write 2026-10-31 or 2026-10-31T12:00') from error
    local = found if found.tzinfo else found.replace(tzinfo=zone(timezone))
    if "T" not in text and " " not in text:
        local = (local + timedelta(days=1)) - timedelta(seconds=1)
    return int(local.timestamp())
