"""What is left for a person to do after an enrolment, read off the code and the settings."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from jobledger_agent.delivery.tls import is_loopback
from jobledger_agent.operating.enrolment_code import Code
from jobledger_agent.settings.config import split_address

NETWORK: Final = Path("/etc/systemd/system/jobledger-agent.service.d/network.conf")
"""The drop-in that names to whom the unit may speak; the example is beside the manual."""


def left_to_do(code: Code, settings: Path, network: Path = NETWORK) -> Iterator[str]:
    """Yield a sentence for each thing, none when all is done."""
    try:
        document = tomllib.loads(settings.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        document = {}
    strange = sorted(_clusters(document) - set(code.clusters))
    if strange:
        yield (
            f"the sources in {settings} name {', '.join(strange)}, for which this agent may not"
            f" speak: name {', '.join(code.clusters)}"
        )
    if not is_loopback(code.address) and not network.exists():
        host, _ = split_address(code.address)
        yield (
            "the service speaks to its own machine only: allow it the addresses of"
            f" {host}, of the name servers and of slurmdbd in {network}"
        )


def _clusters(document: dict[str, Any]) -> set[str]:
    """Every cluster that a source asks a running Slurm for."""
    sources = document.get("source", [])
    named = (each.get("clusters", []) for each in sources if isinstance(each, dict))
    return {str(cluster) for clusters in named for cluster in clusters}
