"""What the doctor looks at beside Slurm: spool, disk, secrets, certificates, collector, clock."""

import os
import shutil
import socket
import ssl
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from jobledger_agent import VERSION, clock
from jobledger_agent.delivery import certificates, tls
from jobledger_agent.delivery.call import Greeting, greet
from jobledger_agent.errors import AgentError
from jobledger_agent.operating import preflight
from jobledger_agent.operating.preflight import Check, Level
from jobledger_agent.protocol import wire
from jobledger_agent.settings.config import split_address
from jobledger_agent.settings.sections import (
    AgentConfig,
    CollectorSection,
    KickSection,
    SpoolSection,
)
from jobledger_agent.source import SourceError
from jobledger_agent.sources import feeds
from jobledger_agent.spooling import spoolview
from jobledger_agent.spooling.spool import peek
from jobledger_agent.spooling.spoolfile import connect_to_read

GREET_S: Final = 10
OTHERS_MAY_READ: Final = 0o077
SPOOL_CHECK_BYTES_MAX: Final = 256 << 20
"""A larger spool is not read through here; the agent does so at its start."""


class Sick(AgentError):
    """A check failed; says how to mend it."""


def check(name: str, look: Callable[[], str]) -> Check:
    """Run a check that returns what it found or raises what is wrong."""
    try:
        return Check(name, Level.OK, look())
    except (AgentError, SourceError, OSError) as error:
        return Check(name, Level.FAILED, " ".join(str(error).split()))


def own_checks(config: AgentConfig) -> Iterator[Check]:
    """The agent's own files: spool, disk, secrets, certificates, kick."""
    yield check("spool directory", lambda: _spool_directory(config.spool.path))
    yield check("disk reserve", lambda: _disk_reserve(config.spool))
    if config.spool.path.exists():
        yield check("spool", lambda: _spool_is_sound(config.spool.path))
    yield check("secrets", lambda: _secrets(config.collector))
    for path, end_s in certificates.expiries(config.collector).items():
        yield preflight.expiry_check(f"certificate {path}", str(path), end_s, clock.now_s())
    if config.kick.file:
        yield _kick(config.kick)


def collector_checks(config: AgentConfig) -> Iterator[Check]:
    """Whether the collector is there, proves who it is, takes this agent, and shares its time."""
    if config.collector.wants_tls:
        yield from _served_certificate(config.collector)
    try:
        began_ms = clock.monotonic_ms()
        clusters = feeds.clusters(config)
        hello = wire.hello(config.agent.name, VERSION, clusters, clock.now_ms())
        greeting = greet(config.collector, hello, GREET_S)
        took_ms = clock.monotonic_ms() - began_ms
    except (AgentError, SourceError, OSError) as error:
        yield Check("collector", Level.FAILED, " ".join(str(error).split()))
        yield Check("clock", Level.UNCHECKED, "the collector, which tells its own, is not reached")
        return
    told = (
        f"{config.collector.address} is jobledger-collector {greeting.version}, {took_ms} ms away"
    )
    yield Check("collector", Level.OK, told)
    yield preflight.versions_check(VERSION, greeting.version)
    yield _skew(greeting, took_ms)


def _skew(greeting: Greeting, took_ms: int) -> Check:
    if not greeting.clock_ms:
        told = "not checked: the collector does not tell its clock; compare with `timedatectl`"
        return Check("clock", Level.UNCHECKED, told)
    # It spoke at some moment of the call: what the call took is held against nobody.
    most_ms = clock.now_ms() - greeting.clock_ms
    least_ms = most_ms - took_ms
    return preflight.skew_check(0 if least_ms <= 0 <= most_ms else min(least_ms, most_ms, key=abs))


def _spool_directory(path: Path) -> str:
    directory = path.parent
    if not directory.is_dir():
        raise Sick(f"{directory} does not exist: create it, owned by the agent's user, mode 0700")
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"x")
    except OSError as error:
        raise Sick(
            f"{directory} cannot be written to ({error.strerror}): run this as the agent's user, "
            "or give the directory to it"
        ) from error
    return f"{directory} can be written to"


def _disk_reserve(spool: SpoolSection) -> str:
    if not spool.path.parent.is_dir():
        raise Sick(f"nothing to measure until {spool.path.parent} exists: create it first")
    free = shutil.disk_usage(spool.path.parent).free
    used = spool.path.stat().st_size if spool.path.exists() else 0
    wanted = spool.reserve_bytes + max(0, spool.max_bytes - used)
    if free < spool.reserve_bytes:
        raise Sick(
            f"{free >> 20} MiB are free, {spool.reserve_bytes >> 20} MiB must be: make room on the"
            f" disk of {spool.path}"
        )
    if free < wanted:
        raise Sick(
            f"{free >> 20} MiB are free, a full spool takes {wanted >> 20} MiB: make room or "
            "lower spool.max_bytes"
        )
    return f"{free >> 20} MiB are free"


def _spool_is_sound(path: Path) -> str:
    stats, _ = peek(path)
    size = path.stat().st_size
    if size > SPOOL_CHECK_BYTES_MAX:
        return f"{stats.records:,} records wait; {size >> 20} MiB are not read through here"
    with closing(connect_to_read(path)) as connection:
        damage = spoolview.damage(connection)
    if damage:
        raise Sick(
            f"{path} is damaged ({damage}): start the agent again, it sets the file"
            " aside and reads its sources again"
        )
    return f"sound; {stats.records:,} records wait"


def _secrets(collector: CollectorSection) -> str:
    tls.credentials(collector)
    tls.bearer_token(collector)
    for path in filter(None, (collector.key_file, collector.token_file)):
        if path.stat().st_mode & OTHERS_MAY_READ:
            raise Sick(f"{path} can be read by others: chmod 600 {path}")
    return "readable by the agent alone" if collector.wants_tls else "plain text to this machine"


def _kick(kick: KickSection) -> Check:
    """Say whether EpilogSlurmctld could wake the agent; without it the poll interval counts."""
    path = Path(kick.file)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        told = f"{path} is not there ({error.strerror}): a run is seen at the next poll; see"
        told += " `systemd-tmpfiles --create` and the shipped epilog script, or set kick.file empty"
        return Check("kick file", Level.WARNING, told)
    if not stat.S_ISREG(mode):
        told = f"{path} is no regular file: remove it and run `systemd-tmpfiles --create`"
        return Check("kick file", Level.FAILED, told)
    if not os.access(path, os.R_OK):
        told = f"{path} cannot be read by this user: give its group to the agent's user"
        return Check("kick file", Level.WARNING, told)
    return Check("kick file", Level.OK, f"{path} is there")


def _served_certificate(collector: CollectorSection) -> Iterator[Check]:
    """Shake hands as the link does, to name what gRPC would only call unavailable."""
    host, port = split_address(collector.address)
    name = "collector's certificate"
    try:
        context = ssl.create_default_context(cafile=collector.ca_file)
        context.set_alpn_protocols(["h2"])
        if collector.cert_file:
            context.load_cert_chain(collector.cert_file, collector.key_file, password="")
        with (
            socket.create_connection((host, port), timeout=GREET_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            der = connection.getpeercert(binary_form=True) or b""
    except ssl.SSLCertVerificationError as error:
        yield Check(name, Level.FAILED, _distrust(error, collector))
    except (OSError, ValueError) as error:
        yield Check(name, Level.UNCHECKED, f"no TLS with {collector.address}: {error}")
    else:
        end_s = certificates.der_expiry(der)
        yield preflight.expiry_check(name, f"that of {collector.address}", end_s, clock.now_s())


def _distrust(error: ssl.SSLCertVerificationError, collector: CollectorSection) -> str:
    authority = collector.ca_file or "the system's authorities"
    return (
        f"{collector.address} is not trusted ({error.verify_message}): collector.address must be a"
        f" name in its certificate, and {authority} must hold the authority that signed it"
    )
