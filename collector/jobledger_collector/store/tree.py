"""Account trees in the database: sightings go in, the tree of a time comes out."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from jobledger_collector.core.tree import (
    Association,
    TreeEntry,
    TreeKind,
    Version,
    association_of,
    joined,
)
from jobledger_collector.store.schema_agents import tree_entries

NAMES_AT_ONCE: Final = 500
"""Entries looked up by one statement."""
MAX_ENTRIES: Final = 500_000
"""Entries of one kind that are read of one cluster."""

_Key = tuple[str, int, str]
_t = tree_entries.c


def keep(conn: Connection, entries: Iterable[TreeEntry]) -> int:
    """Join sightings to what is known of their entries; returns how many entries changed.

    Only rows that differ are written: a sighting that is known already changes nothing.
    """
    told: dict[_Key, list[TreeEntry]] = defaultdict(list)
    for entry in entries:
        told[entry.key].append(entry)
    known = _known(conn, told)
    old_rows: list[tuple[_Key, Version]] = []
    new_rows: list[tuple[_Key, Version]] = []
    changed = 0
    for key, sightings in told.items():
        before = known.get(key, ())
        after = joined(before, sightings)
        if after != tuple(before):
            changed += 1
            old_rows += [(key, version) for version in before if version not in after]
            new_rows += [(key, version) for version in after if version not in before]
    _replace(conn, old_rows, new_rows)
    return changed


def entries_at(conn: Connection, cluster: str, kind: TreeKind, at_s: int) -> dict[str, str]:
    """Return the attributes (JSON) by name of all that was there at a time (epoch seconds)."""
    latest = (
        select(_t.name, func.max(_t.valid_from).label("valid_from"))
        .where(_t.cluster == cluster, _t.kind == int(kind), _t.valid_from <= at_s)
        .group_by(_t.name)
        .subquery()
    )
    rows = conn.execute(
        select(_t.name, _t.attributes)
        .join(latest, (latest.c.name == _t.name) & (latest.c.valid_from == _t.valid_from))
        .where(_t.cluster == cluster, _t.kind == int(kind), _t.gone == 0)
        .order_by(_t.name)
        .limit(MAX_ENTRIES)
    )
    return {row.name: row.attributes for row in rows}


def associations_at(conn: Connection, cluster: str, at_s: int) -> list[Association]:
    """Return a cluster's associations as they were at a time (epoch seconds)."""
    found = entries_at(conn, cluster, TreeKind.ASSOCIATION, at_s)
    return [association_of(name, attributes) for name, attributes in found.items()]


def first_seen(conn: Connection, cluster: str) -> int:
    """Return when a cluster's tree was first seen (epoch seconds), 0 for never."""
    found = conn.execute(select(func.min(_t.valid_from)).where(_t.cluster == cluster)).scalar_one()
    return found or 0


def _known(conn: Connection, keys: Iterable[_Key]) -> dict[_Key, tuple[Version, ...]]:
    names: dict[tuple[str, int], list[str]] = defaultdict(list)
    for cluster, kind, name in keys:
        names[cluster, kind].append(name)
    found: dict[_Key, list[Version]] = defaultdict(list)
    for (cluster, kind), wanted in names.items():
        for start in range(0, len(wanted), NAMES_AT_ONCE):
            some = wanted[start : start + NAMES_AT_ONCE]
            rows = conn.execute(
                select(tree_entries)
                .where(_t.cluster == cluster, _t.kind == kind, _t.name.in_(some))
                .order_by(_t.name, _t.valid_from)
            )
            for row in rows:
                times = tuple(map(int, row.seen_at.split(","))) if row.seen_at else ()
                version = Version(row.valid_from, bool(row.gone), row.attributes, times)
                found[cluster, kind, row.name].append(version)
    return {key: tuple(versions) for key, versions in found.items()}


def _replace(
    conn: Connection, old: Sequence[tuple[_Key, Version]], new: Sequence[tuple[_Key, Version]]
) -> None:
    for (cluster, kind, name), version in old:
        conn.execute(
            delete(tree_entries).where(
                _t.cluster == cluster, _t.kind == kind, _t.name == name,
                _t.valid_from == version.valid_from,
            )
        )  # fmt: skip
    if new:
        conn.execute(
            insert(tree_entries),
            [
                {
                    "cluster": cluster, "kind": kind, "name": name,
                    "valid_from": version.valid_from, "gone": int(version.gone),
                    "attributes": version.attributes,
                    "seen_at": ",".join(map(str, version.seen_at)),
                }
                for (cluster, kind, name), version in new
            ],
        )  # fmt: skip
