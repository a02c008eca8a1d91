"""What ``jobledger-agent status`` says: the spool's file and the running agent's metrics."""

import datetime as dt
import http.client
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from jobledger_agent import clock
from jobledger_agent.settings.config import split_address
from jobledger_agent.spooling.spool import SourceMark, SpoolStats, peek

TIMEOUT_S: Final = 2
METRICS_BYTES_MAX: Final = 1 << 20
_SAMPLE: Final = re.compile(r"jobledger_agent_(source|sweep)_(\w+)\{([^}]*)\}")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ABOUT: Final = {
    "dbd_queue_messages": "{} messages wait for slurmdbd",
    "running_jobs": "{} jobs run",
    "open_runs": "{} in accounting",
    "runaway_suspects": "{} runaway suspects",
    "canary_success_timestamp_seconds": "proved true {}",
    "sweep_through_timestamp_seconds": "compared through {}",
    "missing_total": "{} missing",
    "differing_total": "{} differing",
    "extra": "{} extra",
}
"""What a person reads of a cluster, by the end of the metric's name."""


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
        "held_records": status.stats.held_records,
        "held_blocks": status.stats.held_blocks,
        "oldest_age_s": _age_s(status),
        "sources": [
            {
                "source": mark.source,
                "complete_through": mark.complete_through,
                "acknowledged_through": mark.acknowledged_through,
            }
            for mark in status.marks
        ],
        "clusters": {
            cluster: {name: float(value) for name, value in told.items()}
            for cluster, told in facts(status.metrics).items()
        },
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
    if status.stats.held_records:
        lines.append(
            f"held       {status.stats.held_records:,} records that the collector refused; when"
            " both programs are of one version: jobledger-agent replay --held"
        )
    lines += [
        f"source     {mark.source}: read through {_when(mark.complete_through)},"
        f" acknowledged through {_when(mark.acknowledged_through)}"
        for mark in status.marks
    ]
    lines += [
        f"cluster    {cluster}: {', '.join(_told(about))}"
        for cluster, about in facts(status.metrics).items()
    ]
    lines += _troubles(status.metrics)
    connected = status.metrics.get("jobledger_agent_collector_connected")
    running = {None: "not seen: no metrics", "1.0": "connected to the collector"}
    lines.append(f"agent      {running.get(connected, 'not connected to the collector')}")
    return "\n".join(lines)


def facts(metrics: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return what the running agent last learned, by cluster and by the metric's end."""
    found: dict[str, dict[str, str]] = {}
    for sample, value in metrics.items():
        match = _SAMPLE.fullmatch(sample)
        labels = dict(_LABEL.findall(match[3])) if match else {}
        if match and "cluster" in labels:
            found.setdefault(labels["cluster"], {})[match[2]] = value
    return found


def _told(about: Mapping[str, str]) -> Iterator[str]:
    for name, words in _ABOUT.items():
        if name in about:
            number = int(float(about[name]))
            yield words.format(_when(number) if name.endswith("_seconds") else f"{number:,}")


def _troubles(metrics: Mapping[str, str]) -> Iterator[str]:
    """Say what the running agent waits for."""
    if metrics.get("jobledger_agent_spool_full") == "1.0":
        yield "full       the spool or its disk is full: nothing is read until there is room"
    for sample, value in metrics.items():
        if sample.startswith("jobledger_agent_source_paused{") and value == "1.0":
            name = dict(_LABEL.findall(sample)).get("source", "")
            yield f"paused     {name} waits until slurmctld has told slurmdbd what it holds"


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
