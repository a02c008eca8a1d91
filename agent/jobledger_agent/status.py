"""What ``jobledger-agent status`` says: the spool's file and the running agent's metrics."""

import datetime as dt
import http.client
from pathlib import Path
from typing import Final, NamedTuple

from jobledger_agent import clock
from jobledger_agent.config import split_address
from jobledger_agent.spool import SourceMark, SpoolStats, peek

TIMEOUT_S: Final = 2
METRICS_BYTES_MAX: Final = 1 << 20


class AgentStatus(NamedTuple):
    """An agent from outside; ``metrics`` is empty when no agent serves any."""

    spool: Path
    stats: SpoolStats
    marks: list[SourceMark]
    metrics: dict[str, str]
    now_s: int


def look(spool: Path, metrics_listen: str) -> AgentStatus:
    """Read a spool and, where an address is given, the metrics. Raises SpoolError."""
    stats, marks = peek(spool)
    return AgentStatus(spool, stats, marks, _scrape(metrics_listen), clock.now_s())


def as_json(status: AgentStatus) -> dict[str, object]:
    """Return the status for a script; times are epoch seconds, 0 for unknown."""
    return {
        "spool": str(status.spool),
        "records": status.stats.records,
        "bytes": status.stats.payload_bytes,
        "oldest_age_s": _age_s(status),
        "sources": [
            {
                "source": mark.source,
                "complete_through": mark.complete_through,
                "acknowledged_through": mark.acknowledged_through,
            }
            for mark in status.marks
        ],
        "metrics": status.metrics,
    }


def as_text(status: AgentStatus) -> str:
    """Return the status for a person."""
    lines = [
        f"spool      {status.spool}",
        (
            f"waiting    {status.stats.records:,} records, {status.stats.payload_bytes:,} bytes,"
            f" the oldest for {_age_s(status):,} s"
        ),
    ]
    lines += [
        f"source     {mark.source}: read through {_when(mark.complete_through)},"
        f" acknowledged through {_when(mark.acknowledged_through)}"
        for mark in status.marks
    ]
    connected = status.metrics.get("jobledger_agent_collector_connected")
    running = {None: "not seen: no metrics", "1.0": "connected to the collector"}
    lines.append(f"agent      {running.get(connected, 'not connected to the collector')}")
    return "\n".join(lines)


def _age_s(status: AgentStatus) -> int:
    return max(0, status.now_s - status.stats.oldest_s) if status.stats.oldest_s else 0


def _when(epoch_s: int) -> str:
    if not epoch_s:
        return "unknown"
    return dt.datetime.fromtimestamp(epoch_s, dt.UTC).isoformat(timespec="seconds")


def _scrape(listen: str) -> dict[str, str]:
    """Read the agent's samples from its metrics, {} when nobody answers."""
    if not listen:
        return {}
    host, port = split_address(listen)
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read(METRICS_BYTES_MAX).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return {}
    finally:
        connection.close()
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in samples if name.startswith("jobledger_agent_")}
