"""``jobledger-agent doctor``: everything the agent needs, one line a check, and how to mend it."""

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import grpc

from jobledger_agent import VERSION, clock, config, sections, sources, tls, wire
from jobledger_agent.call import greet
from jobledger_agent.errors import AgentError
from jobledger_agent.source import SourceError
from jobledger_agent.spool import DISK_RESERVE_BYTES, peek
from jobledger_agent.spoolfile import SQLITE_VERSION, SpoolError

GREET_S: Final = 10
OTHERS_MAY_READ: Final = 0o077


class Check(NamedTuple):
    """One finding: what was looked at, whether it is well, what was found or how to mend it."""

    name: str
    is_well: bool
    told: str


class _Sick(AgentError):
    """A check failed; says how to mend it."""


def examine(path: Path | None, *, as_json: bool) -> int:
    """Run every check and print the findings; returns 0 if all is well, else 1."""
    checks = list(findings(path))
    if as_json:
        print(json.dumps([{"check": c.name, "ok": c.is_well, "told": c.told} for c in checks]))
    else:
        for check in checks:
            print(f"{'ok  ' if check.is_well else 'FAIL'}  {check.name}: {check.told}")
    return 0 if all(check.is_well for check in checks) else 1


def findings(path: Path | None) -> Iterator[Check]:
    """Yield the findings; without readable settings only those that need none."""
    yield Check("versions", is_well=True, told=_versions())
    try:
        settings = config.load(path)
    except config.ConfigError as error:
        yield Check("settings", is_well=False, told=str(error))
        return
    yield Check("settings", is_well=True, told=f"agent {settings.agent.name}")
    yield _check("spool directory", lambda: _spool_directory(settings.spool.path))
    yield _check("disk reserve", lambda: _disk_reserve(settings.spool))
    yield _check("secrets", lambda: _secrets(settings.collector))
    yield from _sources(settings)
    yield _check("collector", lambda: _collector(settings))
    skew = "not checked: the collector does not tell its clock; compare with `timedatectl`"
    yield Check("clock", is_well=True, told=skew)


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, is_well=True, told=look())
    except (AgentError, SourceError, OSError) as error:
        return Check(name, is_well=False, told=" ".join(str(error).split()))


def _versions() -> str:
    return (
        f"jobledger-agent {VERSION}, Python {platform.python_version()}, "
        f"SQLite {SQLITE_VERSION}, gRPC {grpc.__version__}"
    )


def _spool_directory(path: Path) -> str:
    directory = path.parent
    if not directory.is_dir():
        raise _Sick(f"{directory} does not exist: create it, owned by the agent's user, mode 0700")
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"x")
    except OSError as error:
        raise _Sick(
            f"{directory} cannot be written to ({error.strerror}): run this as the agent's user, "
            "or give the directory to it"
        ) from error
    return f"{directory} can be written to"


def _disk_reserve(spool: sections.SpoolSection) -> str:
    if not spool.path.parent.is_dir():
        raise _Sick(f"nothing to measure until {spool.path.parent} exists: create it first")
    free = shutil.disk_usage(spool.path.parent).free
    wanted = DISK_RESERVE_BYTES + spool.max_bytes
    if free < DISK_RESERVE_BYTES:
        raise _Sick(f"{free >> 20} MiB are free, {DISK_RESERVE_BYTES >> 20} MiB must be: make room")
    if free < wanted and not spool.path.exists():
        raise _Sick(
            f"{free >> 20} MiB are free, a full spool takes {wanted >> 20} MiB: make room or "
            "lower spool.max_bytes"
        )
    return f"{free >> 20} MiB are free"


def _secrets(collector: sections.CollectorSection) -> str:
    tls.credentials(collector)
    tls.bearer_token(collector)
    for path in filter(None, (collector.key_file, collector.token_file)):
        if path.stat().st_mode & OTHERS_MAY_READ:
            raise _Sick(f"{path} can be read by others: chmod 600 {path}")
    return "readable by the agent alone" if collector.wants_tls else "plain text to this machine"


def _sources(settings: sections.AgentConfig) -> Iterator[Check]:
    try:
        fed = sources.feeds(settings)
    except config.ConfigError as error:
        yield Check("sources", is_well=False, told=str(error))
        return
    if not fed:
        told = "none is configured: add a [[source]] to the settings"
        yield Check("sources", is_well=False, told=told)
    for section, each in zip(settings.sources, fed, strict=True):
        if isinstance(section, sections.SacctSection):
            yield from _programs(section)
        position = _position(settings.spool.path, each.name)
        yield _check(f"source {each.name}", partial(_first_block, each, position))


def _programs(section: sections.SacctSection) -> Sequence[Check]:
    def runs(path: Path) -> str:
        if not os.access(path, os.X_OK):
            raise _Sick(f"{path} is not there or cannot be run: install Slurm's client programs")
        return "is there"

    return [_check(str(path), partial(runs, path)) for path in (section.sacct, section.sdiag)]


def _position(spool: Path, source: str) -> str:
    try:
        return {mark.source: mark.position for mark in peek(spool)[1]}.get(source, "")
    except SpoolError:
        return ""


def _first_block(fed: sources.Feed, position: str) -> str:
    """Read as far as the first block, as the agent would; nothing is stored."""
    block = next(iter(fed.source.read(position)), None)
    return "readable" if block is None else f"readable, {len(block.readings)} records at first"


def _collector(settings: sections.AgentConfig) -> str:
    started_ms = clock.monotonic_ms()
    hello = wire.hello(settings.agent.name, VERSION, sources.clusters(settings), clock.now_ms())
    version = greet(settings.collector, hello, GREET_S).version
    took_ms = clock.monotonic_ms() - started_ms
    return f"{settings.collector.address} is jobledger-collector {version}, {took_ms} ms away"
