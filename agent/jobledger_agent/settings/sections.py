"""The sections of the settings: what each key means, in which unit, with its default."""

import socket
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AgentSection:
    """[agent]: who this agent is."""

    name: str = field(default_factory=socket.gethostname)


@dataclass(frozen=True, slots=True)
class CollectorSection:
    """[collector]: where records go. Without TLS only loopback addresses are allowed."""

    address: str = "127.0.0.1:7610"
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None
    token: str = field(default="", repr=False)

    @property
    def wants_tls(self) -> bool:
        """Whether any setting asks for TLS."""
        return self.tls or bool(self.ca_file or self.cert_file or self.key_file)


@dataclass(frozen=True, slots=True)
class SpoolSection:
    """[spool]: where records wait, how many bytes of them at most, and what stays free beside."""

    path: Path = Path("/var/lib/jobledger-agent/spool.db")
    max_bytes: int = 1 << 30
    reserve_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class MetricsSection:
    """[metrics]: where Prometheus reads; empty for nowhere."""

    listen: str = "127.0.0.1:7611"


@dataclass(frozen=True, slots=True)
class KickSection:
    """[kick]: a file that EpilogSlurmctld touches when a job ends; empty for none."""

    file: str = "/run/jobledger-agent/kick"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSection:
    """What every [[source]] that asks a running Slurm has.

    ``overlap_s`` is read again with each cycle, ``lookback_s`` by the very first;
    once a day ``sweep_days`` are compared with the collector (0: never). Reading
    waits while slurmctld holds more than ``dbd_queue_max`` messages for slurmdbd.
    """

    clusters: tuple[str, ...]
    poll_interval_s: int = 30
    overlap_s: int = 600
    lookback_s: int = 31 * 86_400
    sweep_days: int = 35
    dbd_queue_max: int = 1_000
    timeout_s: int = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class SacctSection(LiveSection):
    """[[source]] of kind "sacct": Slurm's own programs."""

    sacct: Path = Path("/usr/bin/sacct")
    sdiag: Path = Path("/usr/bin/sdiag")
    sacctmgr: Path = Path("/usr/bin/sacctmgr")
    scontrol: Path = Path("/usr/bin/scontrol")
    slurm_conf: Path = Path("/etc/slurm/slurm.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmrestdSection(LiveSection):
    """[[source]] of kind "slurmrestd": its address, "unix:/path" or "http(s)://host:port".

    ``data_parser`` "" takes the newest that both sides know. ``token_file`` holds
    a JWT, read for each question; ``user`` is whose it is ("": the agent's own).
    """

    address: str
    data_parser: str = ""
    user: str = ""
    token_file: Path | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PyslurmSection:
    """[[source]] of kind "pyslurm": a fast look; another source must complete it."""

    clusters: tuple[str, ...]
    poll_interval_s: int = 10
    timeout_s: int = 60
    slurm_conf: Path = Path("/etc/slurm/slurm.conf")
    python: Path | None = None


@dataclass(frozen=True, slots=True)
class FileSection:
    """[[source]] of kind "file": a recorded dump of Slurm's accounting, or a folder of them."""

    path: Path
    cluster: str = ""
    rename: tuple[tuple[str, str], ...] = ()
    timezone: str = "UTC"
    poll_interval_s: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherSection:
    """[[source]] of another scheduler than Slurm: what each has; its module adds its own keys."""

    clusters: tuple[str, ...]
    poll_interval_s: int = 300


SourceSection = SacctSection | SlurmrestdSection | PyslurmSection | FileSection | OtherSection


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """All settings of one agent."""

    agent: AgentSection = field(default_factory=AgentSection)
    collector: CollectorSection = field(default_factory=CollectorSection)
    spool: SpoolSection = field(default_factory=SpoolSection)
    metrics: MetricsSection = field(default_factory=MetricsSection)
    kick: KickSection = field(default_factory=KickSection)
    sources: tuple[SourceSection, ...] = ()
