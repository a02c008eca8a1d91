"""How the service runs: what could not be stored, and who reports."""

from typing import Final, NamedTuple

from flask import Blueprint, abort, render_template, request

from jobledger_collector.store.operations_views import (
    AgentRow,
    QuarantineRow,
    agent_rows,
    cluster_names,
    quarantine_page,
    quarantine_reasons,
)
from jobledger_collector.store.verifications import Verified, last_verified
from jobledger_web import clock
from jobledger_web.access import Permission, requires
from jobledger_web.database import reading
from jobledger_web.formats import visible
from jobledger_web.ledger import BIGGEST_ID

area = Blueprint("operations", __name__)

SILENT_S: Final = 120
"""An agent reports every ten seconds: after this long without a word it is gone."""
LATE_S: Final = 15 * 60
"""A lag beyond this is worth a look."""
SKEWED_MS: Final = 5_000
"""A clock that is off by more than this makes times hard to compare."""
QUARANTINE_FIELDS: Final = frozenset({"cluster", "reason", "older", "newer"})


class ShownRecord(NamedTuple):
    """A quarantined record and its raw form as text in which nothing hides."""

    row: QuarantineRow
    text: str
    is_cut: bool


class ShownAgent(NamedTuple):
    """An agent and what is worth saying of it; times in seconds, lag None while unknown."""

    row: AgentRow
    silent_s: int
    lag_s: int | None
    verified: tuple[Verified, ...]
    """What was last compared with Slurm of the clusters that it reports for."""

    @property
    def is_silent(self) -> bool:
        """Whether it has not reported for too long."""
        return self.silent_s > SILENT_S

    @property
    def is_late(self) -> bool:
        """Whether it is far behind the cluster."""
        return self.lag_s is not None and self.lag_s > LATE_S

    @property
    def is_skewed(self) -> bool:
        """Whether its clock is off."""
        return abs(self.row.clock_skew_ms) > SKEWED_MS


@area.get("/quarantine")
@requires(Permission.QUARANTINE_READ)
def quarantine() -> str:
    """Records kept aside, with why, and as they came."""
    asked = request.args
    if set(asked) - QUARANTINE_FIELDS:
        abort(400, "The page knows no such field.")
    cluster, reason = asked.get("cluster"), asked.get("reason")
    with reading() as conn:
        reasons = quarantine_reasons(conn)
        page = quarantine_page(
            conn,
            cluster=cluster,
            reason=reason,
            older_than=_id(asked.get("older")),
            newer_than=_id(asked.get("newer")),
        )
    return render_template(
        "operations/quarantine.html",
        reasons=reasons,
        records=[
            ShownRecord(row, visible(row.raw), row.raw_size > len(row.raw)) for row in page.rows
        ],
        page=page,
        cluster=cluster,
        reason=reason,
        total=sum(one.records for one in reasons),
    )


def _id(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > BIGGEST_ID:
        abort(400, "This page link is damaged; start again from the first page.")
    return int(text)


@area.get("/agents")
@requires(Permission.AGENTS_READ)
def agents() -> str:
    """Each agent: how far it has come, what waits, what is wrong."""
    now = clock.now_s()
    with reading() as conn:
        rows = agent_rows(conn)
        clusters = cluster_names(conn)
        verified = last_verified(conn)
    shown = [
        ShownAgent(
            row,
            max(0, now - row.last_seen),
            max(0, now - row.complete_through) if row.complete_through else None,
            tuple(one for one in verified if one.cluster in row.clusters.split(",")),
        )
        for row in rows
    ]
    return render_template("operations/agents.html", agents=shown, clusters=clusters)
