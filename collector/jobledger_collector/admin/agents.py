"""``jobledger agents``: who reports, and how far each has come."""

import argparse
from typing import Final

from jobledger_collector.admin.context import Context
from jobledger_collector.admin.output import json_line, table
from jobledger_collector.store.operations_views import AgentRow, agent_rows

EPILOG: Final = """\
examples:
  jobledger agents
  jobledger agents --json

LAG is how far behind now everything is known to be complete ("?" when the
agent cannot say); SEEN is how long ago the agent last reported.
"""
HEADINGS: Final = (
    "AGENT", "VERSION", "CLUSTERS", "LAG", "SEEN", "SPOOL", "NEW", "KNOWN", "REVISED",
    "QUARANTINED", "SOURCE",
)  # fmt: skip
UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the program."""
    parser = subparsers.add_parser(
        "agents",
        help="who reports, and how far each has come",
        description="List the agents with their lag.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, context: Context) -> int:
    """List the agents."""
    with context.reading() as conn:
        agents = agent_rows(conn)
    now_s = context.now_s()
    if args.json:
        for agent in agents:
            json_line(context.out, {**agent._asdict(), "lag_s": lag_s(agent, now_s)})
        return 0
    table(context.out, HEADINGS, [_row(agent, now_s) for agent in agents])
    return 0


def lag_s(agent: AgentRow, now_s: int) -> int | None:
    """Return how many seconds before now everything is complete; None when unknown."""
    return max(0, now_s - agent.complete_through) if agent.complete_through else None


def _row(agent: AgentRow, now_s: int) -> tuple[object, ...]:
    return (
        agent.name,
        agent.version,
        agent.clusters,
        duration(lag_s(agent, now_s)),
        duration(max(0, now_s - agent.last_seen)),
        agent.spool_records,
        agent.records_new,
        agent.records_known,
        agent.records_revised,
        agent.records_quarantined,
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
