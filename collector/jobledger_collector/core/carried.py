"""A run's history beyond its row, as JSON: "" for nearly every run.

The row itself is the newest sighting. What else ``revise`` must remember to
come to the same result whatever arrives next is carried beside it.
"""

import json
from typing import Any, Final

from jobledger_collector.core.record import JobRecord, tres_of, tres_text
from jobledger_collector.core.revise import Attribution, History, Settled, Version, sighting

CLAIMED: Final = (
    "user", "uid", "account", "assoc_id", "wckey",
    "energy_j", "total_cpu_ms", "max_rss_bytes", "steps",
)  # fmt: skip
"""Fields in which the row may differ from its version: frozen, or known from another one."""
_ALLOC: Final = JobRecord._fields.index("alloc_tres")
_REQ: Final = JobRecord._fields.index("req_tres")


def pack(history: History, settled: Settled) -> str:
    """Return what the row of ``settled`` does not tell of its history."""
    if history.open_run or history == sighting(settled.record, settled.digest):
        return ""
    (shown,) = (one for one in history.versions if one.essence == settled.shown.essence)
    carried: dict[str, Any] = {
        "first": shown.first_observed,
        "energy_observed": shown.energy_observed,
    }
    if history.last_open:
        carried["last_open"] = history.last_open
    if history.origin:
        carried["origin"] = list(history.origin)
    if settled.record != shown.record:
        carried["claimed"] = [getattr(shown.record, name) for name in CLAIMED]
    others = [version for version in history.versions if version is not shown]
    if others:
        carried["others"] = [_packed(version) for version in others]
    return json.dumps(carried, ensure_ascii=False, separators=(",", ":"))


def unpack(record: JobRecord, digest: str, carried: str) -> History:
    """Return the history of a stored row; the inverse of ``pack``."""
    if not carried:
        return sighting(record, digest)
    told = json.loads(carried)
    claimed = dict(zip(CLAIMED, told.get("claimed", ()), strict=False))
    shown = Version(record._replace(**claimed), digest, told["first"], told["energy_observed"])
    versions = [shown, *(_unpacked(packed) for packed in told.get("others", ()))]
    return History(
        tuple(sorted(versions, key=lambda version: version.seniority)),
        Attribution(*told["origin"]) if "origin" in told else None,
        None,
        told.get("last_open", 0),
    )


def _packed(version: Version) -> list[Any]:
    values: list[Any] = list(version.record)
    values[_ALLOC] = tres_text(version.record.alloc_tres)
    values[_REQ] = tres_text(version.record.req_tres)
    return [values, *version[1:]]


def _unpacked(packed: list[Any]) -> Version:
    values, *seen = packed
    values[_ALLOC] = tres_of(values[_ALLOC])
    values[_REQ] = tres_of(values[_REQ])
    return Version(JobRecord(*values), *seen)
