"""A cluster's account tree as it was: what was seen of each entry, as effective-dated versions.

Slurm keeps no history of accounts, users, associations and QOS; only who looked
at the time knows. The same sightings give the same versions whatever order or
repetition they come in, as long as none is later than RECENT_SIGHTINGS others.
"""

import json
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final, NamedTuple

RECENT_SIGHTINGS: Final = 64
"""Of how many sightings of an unchanged entry the times are remembered: two months of days."""
MAX_VERSIONS: Final = 1_000
"""Versions of one entry that are kept, the newest ones."""
MAX_DEPTH: Final = 64
"""Accounts above one another; Slurm's trees are a few deep."""


class TreeKind(IntEnum):
    """What an entry is; the numbers are those of ``usage.proto``."""

    ACCOUNT = 1
    USER = 2
    ASSOCIATION = 3
    QOS = 4


ATTRIBUTES: Final[Mapping[TreeKind, frozenset[str]]] = {
    TreeKind.ACCOUNT: frozenset({"description", "organization"}),
    TreeKind.USER: frozenset({"default_account", "admin_level"}),
    TreeKind.ASSOCIATION: frozenset({
        "account", "parent", "parent_id", "user", "partition", "qos", "default_qos", "lineage",
    }),
    TreeKind.QOS: frozenset({"description", "usage_factor", "priority"}),
}  # fmt: skip
"""What may be known of an entry; anything else is passed over."""


class TreeEntry(NamedTuple):
    """One sighting of an entry; ``attributes`` as ``canonical`` writes them."""

    cluster: str
    kind: TreeKind
    name: str
    attributes: str
    gone: bool
    observed: int

    @property
    def key(self) -> tuple[str, int, str]:
        """Which entry it is a sighting of."""
        return (self.cluster, int(self.kind), self.name)


class Version(NamedTuple):
    """What an entry was from ``valid_from`` (epoch seconds) until its next version.

    ``seen_at`` are later times at which it was seen to be the same, the newest.
    """

    valid_from: int
    gone: bool
    attributes: str
    seen_at: tuple[int, ...]


class Association(NamedTuple):
    """An association as it was: who may charge what to whom."""

    id: str
    account: str
    parent: str
    user: str
    partition: str


def canonical(attributes: Mapping[str, str]) -> str:
    """Write attributes in the one form by which they are compared; empty ones are left out."""
    named = {name: value for name, value in attributes.items() if value}
    return json.dumps(named, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def joined(versions: Iterable[Version], sightings: Iterable[TreeEntry]) -> tuple[Version, ...]:
    """Return an entry's versions with these sightings of it, in the order of time.

    Two that say different things of one instant: the greater text, whichever came first.
    """
    told: dict[int, tuple[str, bool]] = {}
    for version in versions:
        for time in (version.valid_from, *version.seen_at):
            told[time] = (version.attributes, version.gone)
    for entry in sightings:
        content = (entry.attributes, entry.gone)
        told[entry.observed] = max(content, told.get(entry.observed, content))
    runs: list[tuple[tuple[str, bool], list[int]]] = []
    for time, content in sorted(told.items()):
        if runs and runs[-1][0] == content:
            runs[-1][1].append(time)
        else:
            runs.append((content, [time]))
    return tuple(
        Version(times[0], gone, attributes, tuple(times[1:][-RECENT_SIGHTINGS:]))
        for (attributes, gone), times in runs[-MAX_VERSIONS:]
    )


def association_of(name: str, attributes: str) -> Association:
    """Read an association that ``canonical`` wrote."""
    told = json.loads(attributes)
    return Association(name, *(str(told.get(field, "")) for field in Association._fields[1:]))


def parents_of(associations: Iterable[Association]) -> dict[str, str]:
    """Return each account's parent ("" of the topmost), from the accounts' own associations."""
    return {one.account: one.parent for one in associations if not one.user}


def path_to(account: str, parents: Mapping[str, str]) -> tuple[str, ...]:
    """Return the accounts from the topmost down to this one; a circle is cut."""
    path = [account]
    while (parent := parents.get(path[-1], "")) and parent not in path and len(path) < MAX_DEPTH:
        path.append(parent)
    return tuple(reversed(path))


def association_path(
    account: str, user: str, associations: Iterable[Association]
) -> tuple[str, ...]:
    """Return the accounts above a run, topmost first, and its user; () when nothing is known."""
    parents = parents_of(associations)
    if account not in parents:
        return ()
    path = path_to(account, parents)
    return (*path, user) if user else path
