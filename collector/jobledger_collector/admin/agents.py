"""``jobledger agents``: who reports, how far each has come, and who may."""

import argparse
from datetime import UTC, datetime
from typing import Any, Final

from jobledger_collector.admin import authorities, enrolling
from jobledger_collector.admin.context import Context
from jobledger_collector.admin.outcome import CommandFailed
from jobledger_collector.admin.output import json_line, say, table
from jobledger_collector.core.enrolment import NEVER
from jobledger_collector.store import agents as reporters
from jobledger_collector.store import enrolments, verifications
from jobledger_collector.store.operations_views import AgentRow, agent_rows
from jobledger_collector.store.verifications import Verified

EPILOG: Final = """\
examples:
  jobledger agents                                    how far each has come
  jobledger agents add alpha --address db.example.org:7610 > code
  jobledger agents show alpha
  jobledger agents rotate alpha > code                a new token; the old one ends in a week
  jobledger agents revoke alpha                       from its next batch on
  jobledger agents ca init --host db.example.org      certificates, where there is no authority

LAG is how far behind now everything is known to be complete ("?" when the
agent cannot say); SEEN is how long ago the agent last reported; HELD are records
that wait at the agent for a person.
"""
HEADINGS: Final = (
    "AGENT", "VERSION", "CLUSTERS", "LAG", "SEEN", "SPOOL", "HELD", "NEW", "KNOWN", "REVISED",
    "QUARANTINED", "MAY", "SOURCE",
)  # fmt: skip
UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command group to the program."""
    parser = subparsers.add_parser(
        "agents",
        help="who reports, how far each has come, and who may",
        description="List the agents with their lag; enrol them and let them go.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(metavar="ACTION")
    listing = actions.add_parser("list", help="list them (also without an action)")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=run)
    show = actions.add_parser("show", help="all that is known of one")
    show.add_argument("name")
    show.add_argument("--json", action="store_true", help="as one JSON object")
    show.set_defaults(run=_show)
    enrolling.register(actions)
    revoke = actions.add_parser("revoke", help="let one report no more, from its next batch on")
    revoke.add_argument("name")
    revoke.set_defaults(run=_revoke)
    remove = actions.add_parser(
        "remove", help="forget one and its enrolment: its clusters belong to nobody then"
    )
    remove.add_argument("name")
    remove.set_defaults(run=_remove)
    authorities.register(actions)


def run(args: argparse.Namespace, context: Context) -> int:
    """List the agents: those that reported, and those that are enrolled and have not."""
    with context.reading() as conn:
        agents = {agent.name: agent for agent in agent_rows(conn)}
        enrolled = {found.agent: found for found in enrolments.list_enrolled(conn)}
    now_s = context.now_s()
    if args.json:
        for agent in agents.values():
            found = enrolled.get(agent.name)
            more = {"lag_s": lag_s(agent, now_s), "enrolled": _may(found)}
            json_line(context.out, {**agent._asdict(), **more})
        return 0
    silent = [
        (name, "", ",".join(found.clusters), "?", "never", *[0] * 6, _may(found), "?")
        for name, found in enrolled.items()
        if name not in agents
    ]
    rows = [_row(agent, _may(enrolled.get(name)), now_s) for name, agent in agents.items()]
    table(context.out, HEADINGS, sorted([*rows, *silent], key=lambda row: str(row[0])))
    return 0


def _show(args: argparse.Namespace, context: Context) -> int:
    with context.reading() as conn:
        found = enrolments.find(conn, args.name)
        agents = [agent for agent in agent_rows(conn) if agent.name == args.name]
        clusters = {*(found.clusters if found else ()), *_told_clusters(agents)}
        verified = [one for one in verifications.last_verified(conn) if one.cluster in clusters]
    if not found and not agents:
        raise _nobody(args.name)
    now_s = context.now_s()
    if args.json:
        json_line(context.out, _shown(found, agents, verified, now_s))
        return 0
    say(context.out, f"agent {args.name}")
    if found:
        _say_enrolment(context, found, now_s)
    else:
        say(context.out, "  not enrolled: speaks for clusters that nobody owns")
    for agent in agents:
        say(context.out, f"  version {agent.version}, last seen {_day(agent.last_seen)}")
        lag = duration(lag_s(agent, now_s))
        say(context.out, f"  lag {lag}, {agent.spool_records} records in its spool")
        say(context.out, f"  clock {agent.clock_skew_ms / 1_000:+.1f} s from ours")
        queue = "?" if agent.dbd_queue < 0 else agent.dbd_queue
        say(context.out, f"  held records {agent.held_records}, slurmctld's DBD queue {queue}")
        say(context.out, f"  source: {agent.source_error or 'well'}")
    for one in verified:
        say(context.out, "  " + verified_line(one))
    return 0


def verified_line(one: Verified) -> str:
    """Say in one line what was last found of a cluster."""
    return (
        f"cluster {one.cluster}: compared {_day(one.verified_at)}, {one.spans} spans up to"
        f" {_day(one.through)}: {one.missing} were missing, {one.differing} different,"
        f" {one.refused} refused, {one.extra} extra"
    )


def _told_clusters(agents: list[AgentRow]) -> set[str]:
    return {cluster for agent in agents for cluster in agent.clusters.split(",") if cluster}


def _shown(
    found: enrolments.Enrolled | None, agents: list[AgentRow], verified: list[Verified], now_s: int
) -> dict[str, Any]:
    enrolment = None
    if found:
        tokens = [{"sha256": token.sha256[:12], "expires_at": token.expires_at}
                  for token in found.tokens]  # fmt: skip
        enrolment = {**found._asdict(), "tokens": tokens}
    return {
        "enrolment": enrolment,
        "reports": [{**agent._asdict(), "lag_s": lag_s(agent, now_s)} for agent in agents],
        "verified": [one._asdict() for one in verified],
    }


def _say_enrolment(context: Context, found: enrolments.Enrolled, now_s: int) -> None:
    say(context.out, f"  enrolled {_day(found.enrolled_at)} by {found.enrolled_by}")
    say(context.out, f"  clusters {', '.join(found.clusters)}")
    if found.revoked_at:
        say(context.out, f"  REVOKED {_day(found.revoked_at)} by {found.revoked_by}")
    for token in found.tokens:
        if token.expires_at == NEVER:
            until = "stands"
        else:
            until = ("ended " if token.expires_at <= now_s else "ends ") + _day(token.expires_at)
        say(context.out, f"  token {token.sha256[:12]}… {until}")
    if found.certificate_name:
        say(context.out, f"  certificate {found.certificate_name}")


def _revoke(args: argparse.Namespace, context: Context) -> int:
    with context.writing() as conn:
        if not enrolments.revoke(conn, args.name, context.now_s(), context.person):
            raise _nobody(args.name)
    say(context.out, f"Agent {args.name} reports no more, from its next batch on.")
    return 0


def _remove(args: argparse.Namespace, context: Context) -> int:
    with context.writing() as conn:
        enrolled = enrolments.remove(conn, args.name)
        reported = reporters.forget(conn, args.name)
        if not enrolled and not reported:
            raise _nobody(args.name)
    say(context.out, f"Agent {args.name} is forgotten; what it reported stays.")
    return 0


def _nobody(name: str) -> CommandFailed:
    return CommandFailed(f"There is no such enrolment {name}: `jobledger agents` lists them")


def _may(found: enrolments.Enrolled | None) -> str:
    if found is None:
        return "open"
    if found.revoked_at:
        return "revoked"
    proofs = ["token"] if found.asks_token else []
    proofs += ["certificate"] if found.certificate_name else []
    return "+".join(proofs)


def lag_s(agent: AgentRow, now_s: int) -> int | None:
    """Return how many seconds before now everything is complete; None when unknown."""
    return max(0, now_s - agent.complete_through) if agent.complete_through else None


def _row(agent: AgentRow, may: str, now_s: int) -> tuple[object, ...]:
    return (
        agent.name,
        agent.version,
        agent.clusters,
        duration(lag_s(agent, now_s)),
        duration(max(0, now_s - agent.last_seen)),
        agent.spool_records,
        agent.held_records,
        agent.records_new,
        agent.records_known,
        agent.records_revised,
        agent.records_quarantined,
        may,
        agent.source_error or "well",
    )


def duration(seconds: int | None) -> str:
    """Write a duration in its two largest units: "2 h 5 min"; "?" when unknown."""
    if seconds is None:
        return "?"
    parts = []
    for unit, size in UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _day(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
