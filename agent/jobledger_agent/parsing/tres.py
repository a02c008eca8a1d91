"""TRES as Slurm prints them -> names and counts in base units.

Memory is in MiB and exact: ``4608M``, ``4.50G`` and ``4608`` are one figure.
Energy is taken out: it is a measurement and not a resource that was held.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from jobledger_agent.parsing.fields import MAX_COUNT, NO_VAL64, scaled
from jobledger_agent.records.job import NO_TRES, UNKNOWN, Tres

MIB = 1024**2
"""Bytes in the base unit of memory."""
MAX_TRES = 256
"""TRES in one string: Slurm sites have a few dozen."""
MAX_NAME = 128
"""Characters in the name of one TRES."""

_NAME = re.compile(rf"[a-z][A-Za-z0-9_.:/+-]{{0,{MAX_NAME - 1}}}", re.ASCII)
_IN_MIB = ("mem", "bb/")
"""TRES that slurmdbd keeps in MiB: memory and burst buffers."""


class Held(NamedTuple):
    """What one TRES string says.

    ``cpu`` and ``node`` repeat entries of ``tres`` (UNKNOWN and 0 when absent),
    ``energy_j`` is in joules or UNKNOWN.
    """

    tres: Tres
    energy_j: int
    cpu: int
    node: int


NOTHING = Held(NO_TRES, UNKNOWN, UNKNOWN, 0)
"""What the empty string says."""


def held(counts: Iterable[tuple[str, int]]) -> Held | None:
    """Sorted, without energy and "no value"; None for a name that comes twice.

    An energy of 0 is unknown: Slurm prints it when nothing was measured.
    """
    by_name: dict[str, int] = {}
    for name, figure in counts:
        if name in by_name:
            return None
        by_name[name] = figure
    energy_j = by_name.pop("energy", 0)
    if len(by_name) > MAX_TRES:
        return None
    tres = tuple(sorted((name, n) for name, n in by_name.items() if 0 <= n <= MAX_COUNT))
    cpu, node = by_name.get("cpu", UNKNOWN), by_name.get("node", 0)
    return Held(tres, energy_j if 0 < energy_j <= MAX_COUNT else UNKNOWN, cpu, node)


@lru_cache(maxsize=2048)
def parse_tres(text: str) -> Held | None:
    """``billing=2,cpu=2,mem=4000M,node=1``; None if any part of it is not TRES."""
    if not text:
        return NOTHING
    entries = []
    for entry in text.split(","):
        name, _, figure = entry.partition("=")
        value = _figure(name, figure)
        if value is None:
            return None
        entries.append((name, value))
    return held(entries)


def _figure(name: str, text: str) -> int | None:
    if not _NAME.fullmatch(name):
        return None
    if text in {str(NO_VAL64), str(NO_VAL64 + 1), "-2"} or (name == "energy" and not text):
        return UNKNOWN
    return scaled(text, MIB if name.startswith(_IN_MIB) else 1)


def tres_of_json(entries: object) -> Held | None:
    """A JSON list of ``{"type", "name", "count"}``; counts of mem are in MiB."""
    if entries is None:
        return NOTHING
    if not isinstance(entries, list):
        return None
    found = [_json_entry(entry) for entry in entries]
    known = [entry for entry in found if entry is not None]
    return held(known) if len(known) == len(found) else None


def _json_entry(entry: object) -> tuple[str, int] | None:
    if not isinstance(entry, Mapping):
        return None
    kind, name, figure = entry.get("type"), entry.get("name") or "", entry.get("count")
    if isinstance(figure, Mapping):  # {"set": false, "infinite": false, "number": 0}
        figure = figure.get("number") if figure.get("set") else None
    full = f"{kind}/{name}" if name else str(kind)
    if not _NAME.fullmatch(full) or isinstance(figure, bool):
        return None
    if figure is None:
        return full, UNKNOWN
    return (full, min(figure, MAX_COUNT + 1)) if isinstance(figure, int) else None
