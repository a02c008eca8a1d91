"""``jobledger-agent doctor``: everything the agent needs, one line a check, and how to mend it.

Works while the agent runs, as its user or as root; takes no lock of the spool and
stores nothing.
"""

import json
import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc

from jobledger_agent import VERSION
from jobledger_agent.operating import doctor_slurm
from jobledger_agent.operating.doctor_agent import check, collector_checks, own_checks
from jobledger_agent.operating.preflight import Check, Level
from jobledger_agent.settings import config, sections
from jobledger_agent.sources import feeds
from jobledger_agent.spooling.spool import SpoolError, peek
from jobledger_agent.spooling.spoolfile import SQLITE_VERSION


def examine(path: Path | None, *, as_json: bool) -> int:
    """Run every check and print the findings; returns 1 if one failed, else 0.

    Each is printed as soon as it is known: a Slurm that hangs takes its time.
    """
    found: list[Check] = []
    for each in findings(path):
        found.append(each)
        if not as_json:
            print(f"{each.level.value:<4}  {each.name}: {each.told}", flush=True)
    if as_json:
        print(json.dumps([_as_json(each) for each in found]))
    return 0 if all(each.is_well for each in found) else 1


def findings(path: Path | None) -> Iterator[Check]:
    """Yield the findings; without readable settings only those that need none."""
    yield Check("versions", Level.OK, _versions())
    try:
        settings = config.load(path)
    except config.ConfigError as error:
        yield Check("settings", Level.FAILED, str(error))
        return
    yield Check("settings", Level.OK, f"agent {settings.agent.name}")
    yield from own_checks(settings)
    yield from _sources(settings)
    yield from collector_checks(settings)


def _as_json(found: Check) -> dict[str, object]:
    return {
        "check": found.name,
        "ok": found.is_well,
        "level": found.level.name.lower(),
        "told": found.told,
    }


def _versions() -> str:
    return (
        f"jobledger-agent {VERSION}, Python {platform.python_version()}, "
        f"SQLite {SQLITE_VERSION}, gRPC {grpc.__version__}"
    )


def _sources(settings: sections.AgentConfig) -> Iterator[Check]:
    try:
        fed = feeds.feeds(settings)
    except config.ConfigError as error:
        yield Check("sources", Level.FAILED, str(error))
        return
    if not fed:
        told = "none is configured: add a [[source]] to the settings"
        yield Check("sources", Level.FAILED, told)
    for section, each in zip(settings.sources, fed, strict=True):
        if isinstance(section, sections.SacctSection):
            yield from doctor_slurm.checks(section, settings)
        elif isinstance(section, sections.SlurmrestdSection):
            yield from doctor_slurm.rest_checks(section, settings)
        elif isinstance(section, sections.PyslurmSection):
            yield doctor_slurm.pyslurm_check(section)
        else:
            position = _position(settings.spool.path, each.name)
            yield check(f"source {each.name}", partial(_first_block, each, position))


def _position(spool: Path, source: str) -> str:
    try:
        return {mark.source: mark.position for mark in peek(spool)[1]}.get(source, "")
    except SpoolError:
        return ""


def _first_block(fed: feeds.Feed, position: str) -> str:
    """Read as far as the first block, as the agent would; nothing is stored."""
    block = next(iter(fed.source.read(position)), None)
    return "readable" if block is None else f"readable, {len(block.readings)} records at first"
