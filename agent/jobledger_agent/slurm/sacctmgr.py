"""A cluster's account tree as ``sacctmgr show`` prints it -> TreeEntry.

sacctmgr escapes nothing and knows no other delimiter than "|". So a question has
at most one column of free text, the last one, and its answer must have exactly
one line for each name that an answer without free text had, in the same order.
Where it has not, somebody wrote a newline into a description: it is asked for
again in halves, at the end by one name, where no text can look like another's.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Final

from jobledger_agent.records.tree import ROOT, TreeEntry, TreeKind, seen
from jobledger_agent.source import SourceError

MAX_LINE_BYTES: Final = 65_536
"""Of one line of an answer: an association may list many QOS."""
MAX_TEXTS: Final = 10_000
"""Accounts, and QOS, whose descriptions are read; of more only the names."""
MAX_QUESTIONS: Final = 100
"""Questions about descriptions with newlines, for one kind of entry at one time."""
_SAFE = re.compile(r"[A-Za-z0-9_.@-]+")

Show = Callable[[Sequence[str]], AbstractContextManager[BinaryIO]]
"""Runs ``sacctmgr -nP show`` with these words."""
Pairs = tuple[tuple[str, str], ...]


def entries(show: Show, cluster: str, observed: int, *, has_lineage: bool) -> Iterator[TreeEntry]:
    """Every account, user, association and QOS of the cluster, as of ``observed``.

    Raises SourceError where an answer is not whole: a line that is none, or no
    root account, as when the agent's user may not see accounts.
    """
    entry = seen(cluster, observed)

    accounts = _names(show, "account", "account")
    if ROOT not in accounts:
        raise SourceError(
            "sacctmgr shows no account root, so it does not show all accounts: with"
            " PrivateData=accounts the agent's user needs AdminLevel=Operator"
        )
    texts = _texts(show, "account", "description", accounts)
    organizations = _texts(show, "account", "organization", accounts)
    for name in accounts:
        yield entry(
            TreeKind.ACCOUNT,
            name,
            ("description", texts.get(name, "")),
            ("organization", organizations.get(name, "")),
        )
    for name, default, level in _rows(show, ("user", "format=user,defaultaccount,adminlevel")):
        yield entry(TreeKind.USER, name, ("default_account", default), ("admin_level", level))
    for number, pairs in _associations(show, cluster, has_lineage=has_lineage):
        yield entry(TreeKind.ASSOCIATION, number, *pairs)
    rows = list(_rows(show, ("qos", "format=name,usagefactor,priority")))
    texts = _texts(show, "qos", "description", [row[0] for row in rows])
    for name, factor, priority in rows:
        yield entry(
            TreeKind.QOS,
            name,
            ("description", texts.get(name, "")),
            ("usage_factor", factor),
            ("priority", priority),
        )


def _associations(show: Show, cluster: str, *, has_lineage: bool) -> Iterator[tuple[str, Pairs]]:
    names: tuple[str, ...] = (
        "account",
        "parent",
        "parent_id",
        "user",
        "partition",
        "qos",
        "default_qos",
    )
    columns = "id,account,parentname,parentid,user,partition,qos,defaultqos"
    if has_lineage:
        names, columns = (*names, "lineage"), columns + ",lineage"
    has_root = False
    for number, *values in _rows(show, ("assoc", f"cluster={cluster}", f"format={columns}")):
        if not number.isascii() or not number.isdigit():
            raise SourceError(f"sacctmgr shows an association with the id {number[:40]!r}")
        pairs = zip(names, values, strict=True)
        has_root = has_root or values[0] == ROOT
        # 0 is no association: only the root account's own rows have it.
        yield (
            number,
            tuple((key, value) for key, value in pairs if (key, value) != ("parent_id", "0")),
        )
    if not has_root:
        raise SourceError(
            f"sacctmgr shows no root association of cluster {cluster}, so it does not show all"
        )


def _rows(show: Show, words: Sequence[str]) -> Iterator[list[str]]:
    """The rows of an answer without free text. Raises SourceError for a line that is none."""
    wanted = words[-1].count(",") + 1
    for line in _lines(show, words):
        row = line.split("|")
        if len(row) != wanted:
            raise SourceError(
                f"sacctmgr show {words[0]} printed a line of {len(row)} columns instead of"
                f" {wanted}; remove the | or newline from the name in {line[:80]!r}"
            )
        yield row


def _names(show: Show, kind: str, column: str) -> list[str]:
    return [row[0] for row in _rows(show, (kind, f"format={column}"))]


def _texts(show: Show, kind: str, column: str, names: Sequence[str]) -> dict[str, str]:
    """The free text of each name; without those that cannot be told from one another."""
    found: dict[str, str] = {}
    key = "name" if kind == "qos" else "account"
    todo = [list(names[:MAX_TEXTS])] if names else []
    asked = 0
    while todo and asked < MAX_QUESTIONS:
        some = todo.pop()
        whole = len(some) == len(names)
        if not whole and not all(map(_SAFE.fullmatch, some)):
            some = [name for name in some if _SAFE.fullmatch(name)]
        if not some:
            continue
        asked += 1
        which = () if whole else ("where", "name=" + ",".join(some))
        lines = list(_lines(show, (kind, *which, f"format={key},{column}")))
        if len(lines) == len(some) and all(map(_begins, lines, some)):
            found.update(
                (name, line[len(name) + 1 :]) for name, line in zip(some, lines, strict=True)
            )
        elif len(some) == 1 and lines and _begins(lines[0], some[0]):
            found[some[0]] = "\n".join(lines)[len(some[0]) + 1 :]
        elif len(some) > 1:
            todo += [some[: len(some) // 2], some[len(some) // 2 :]]
    return found


def _begins(line: str, name: str) -> bool:
    return line.startswith(f"{name}|")


def _lines(show: Show, words: Sequence[str]) -> Iterator[str]:
    with show(words) as answer:
        for line in iter(lambda: answer.readline(MAX_LINE_BYTES), b""):
            if not line.endswith(b"\n"):
                raise SourceError(f"the answer of sacctmgr show {words[0]} is cut off")
            yield line[:-1].decode("utf-8", "replace")
