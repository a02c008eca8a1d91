"""What Slurm said of a run, as the label and value pairs of its page."""

from collections.abc import Mapping
from typing import Any, Final

from flask_babel import gettext

from jobledger_web.formats import Formats
from jobledger_web.usage.words import tres_text

MS_PER_S: Final = 1_000
PERCENT: Final = 100


def facts(run: Mapping[str, Any], fmt: Formats) -> list[tuple[str, str]]:
    """Label and value of everything known of a run; what is unknown is left out."""
    found = [*_placement(run), *_limits(run, fmt), *_measured(run, fmt), *_identity(run)]
    return [(label, value) for label, value in found if value]


def _placement(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (gettext("Payer"), run["billing_account"]),
        (gettext("Partition"), run["partition"]),
        ("QOS", run["qos"]),
        (gettext("Reservation"), run["reservation"]),
        ("WCKey", run["wckey"]),
        (gettext("Nodes"), f"{run['nodes']} · {run['node_list']}" if run["node_list"] else ""),
        (gettext("Held"), tres_text(run["alloc_tres"]) if run["alloc_tres"] else ""),
        (gettext("Asked for"), tres_text(run["req_tres"]) if run["req_tres"] else ""),
    ]


def _limits(run: Mapping[str, Any], fmt: Formats) -> list[tuple[str, str]]:
    limit, by, restarts = run["timelimit_s"], run["cancelled_by_uid"], run["restarts"]
    exit_text = f"{run['exit_code']}:{run['exit_signal']}" if run["end"] else ""
    return [
        (gettext("Time limit"), "" if limit < 0 else fmt.duration(limit)),
        (gettext("Exit code : signal"), exit_text),
        (gettext("Cancelled by uid"), "" if by < 0 else str(by)),
        (gettext("Restarts"), "" if restarts < 0 else fmt.count(restarts)),
    ]


def _measured(run: Mapping[str, Any], fmt: Formats) -> list[tuple[str, str]]:
    cpu_ms, cpu_s, rss = run["total_cpu_ms"], run["cpu_s"], run["max_rss_bytes"]
    is_measured = cpu_ms >= 0 and cpu_s > 0
    busy = f"{cpu_ms * PERCENT // (cpu_s * MS_PER_S)} %" if is_measured else ""
    return [
        (gettext("Cores kept busy"), busy),
        (gettext("Largest memory of a task"), fmt.size(rss) if rss > 0 else ""),
        (gettext("Energy"), f"{fmt.count(run['energy_j'])} J" if run["energy_j"] > 0 else ""),
        (gettext("Steps"), fmt.count(run["steps"]) if run["steps"] else ""),
    ]


def _identity(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    array, task = run["array_job_id"], run["array_task"]
    het, offset = run["het_job_id"], run["het_offset"]
    return [
        (gettext("Array task"), f"{array}_{task}" if array and task >= 0 else ""),
        (gettext("Heterogeneous job"), f"{het}+{offset}" if het and offset >= 0 else ""),
        (gettext("Association"), str(run["assoc_id"]) if run["assoc_id"] else ""),
        ("SLUID", run["sluid"] if run["sluid"] != "0" else ""),
    ]
