"""The account tree as slurmrestd tells it -> TreeEntry, in the words of sacctmgr."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final

from jobledger_agent.parsing.fields import clean
from jobledger_agent.parsing.jsondump import Json
from jobledger_agent.records.tree import ROOT, TreeEntry, TreeKind, seen
from jobledger_agent.source import SourceError

MICRO: Final = 1_000_000
"""Parts of one in which sacctmgr writes a factor."""

Objects = Iterator[Mapping[str, Json]]
Ask = Callable[[str], AbstractContextManager[Objects]]
"""Asks for the objects of one list: accounts, users, associations, qos."""
Pairs = tuple[tuple[str, str], ...]


def tree(ask: Ask, cluster: str, observed: int) -> Iterator[TreeEntry]:
    """Every entry of the cluster. Raises SourceError where the agent may not see all of them."""
    entry = seen(cluster, observed)

    yield from _accounts(ask, entry)
    defaults: dict[str, str] = {}
    with ask("associations") as found:
        for one in found:
            if one.get("cluster") != cluster:
                continue
            name, pairs = _association(one)
            yield entry(TreeKind.ASSOCIATION, name, *pairs)
            if one.get("is_default") and _text(one.get("user")):
                defaults[_text(one.get("user"))] = _text(one.get("account"))
    with ask("users") as found:
        for one in found:
            name = _text(one.get("name"))
            account = defaults.get(name) or _text(_part(one, "default").get("account"))
            level = _first(one.get("administrator_level"))
            yield entry(TreeKind.USER, name, ("default_account", account), ("admin_level", level))
    with ask("qos") as found:
        for one in found:
            yield entry(
                TreeKind.QOS,
                _text(one.get("name")),
                ("description", _text(one.get("description"))),
                ("usage_factor", _factor(one.get("usage_factor"))),
                ("priority", _number(one.get("priority"))),
            )


def _accounts(ask: Ask, entry: Callable[..., TreeEntry]) -> Iterator[TreeEntry]:
    has_root = False
    with ask("accounts") as found:
        for one in found:
            name = _text(one.get("name"))
            has_root = has_root or name == ROOT
            yield entry(
                TreeKind.ACCOUNT,
                name,
                ("description", _text(one.get("description"))),
                ("organization", _text(one.get("organization"))),
            )
    if not has_root:
        raise SourceError(
            "slurmrestd tells no account root, so it does not tell all accounts: with"
            " PrivateData=accounts the user whose token it is needs AdminLevel=Operator"
        )


def _association(one: Mapping[str, Json]) -> tuple[str, Pairs]:
    """Its id and what is known of it; before Slurm 23.11 it is told without one."""
    account, user, partition = (_text(one.get(key)) for key in ("account", "user", "partition"))
    number = one.get("id")
    if isinstance(number, Mapping):
        number = number.get("id")
    name = str(number) if isinstance(number, int) and number else f"{account}/{user}/{partition}"
    # In sacctmgr's words a user's association has the account itself as its account.
    qos = one.get("qos")
    return name, (
        ("account", account),
        ("parent", _text(one.get("parent_account"))),
        ("user", user),
        ("partition", partition),
        ("qos", ",".join(_text(each) for each in qos) if isinstance(qos, list) else ""),
        ("default_qos", _text(_part(one, "default").get("qos"))),
        ("lineage", _text(one.get("lineage"))),
    )


def _part(value: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    part = value.get(key)
    return part if isinstance(part, Mapping) else {}


def _text(value: Json) -> str:
    return clean(value) if isinstance(value, str) else ""


def _first(value: Json) -> str:
    """One word, which later versions wrap into a list."""
    return _text(value[0]) if isinstance(value, list) and value else _text(value)


def _told(value: Json) -> Json:
    """A figure, or None in all of the ways in which Slurm says that there is none."""
    if isinstance(value, Mapping):
        return value.get("number") if value.get("set") else None
    return value


def _number(value: Json) -> str:
    told = _told(value)
    return str(told) if isinstance(told, int) and not isinstance(told, bool) else ""


def _factor(value: Json) -> str:
    """As sacctmgr prints it: six places."""
    told = _told(value)
    if told is None or isinstance(told, (str, bool, list)):
        return ""
    millionths = int(told * MICRO)
    return f"{millionths // MICRO}.{millionths % MICRO:06d}"
