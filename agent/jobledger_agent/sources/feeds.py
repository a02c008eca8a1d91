"""From the settings to what reads: each kind of [[source]] -> Feed."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from jobledger_agent import clock
from jobledger_agent.reading.accounting import Accounting
from jobledger_agent.reading.cycle import Cycle, CycleSettings
from jobledger_agent.settings import schedulers
from jobledger_agent.settings.config import ConfigError
from jobledger_agent.settings.sections import (
    AgentConfig,
    FileSection,
    LiveSection,
    OtherSection,
    PyslurmSection,
    SacctSection,
    SlurmrestdSection,
    SourceSection,
)
from jobledger_agent.slurm.pyslurm import PyslurmSource
from jobledger_agent.slurm.sacct import sacct_cycle
from jobledger_agent.slurm.slurmrestd import Slurmrestd
from jobledger_agent.slurm.slurmrestd_http import Caller, Server
from jobledger_agent.source import Source, SourceError
from jobledger_agent.sources.folder import FolderSource

LOCK_NAME: Final = "slurm.lock"
"""Beside the spool: whoever asks Slurm anything holds it."""


class Feed(NamedTuple):
    """A source under the name that its position is kept by.

    A live one repeats itself, so that what it said before is left out;
    ``tells_lag`` if its ``complete_through`` is a promise about a cluster.
    """

    name: str
    source: Source
    poll_interval_s: int
    is_live: bool
    tells_lag: bool = True


def feeds(config: AgentConfig) -> tuple[Feed, ...]:
    """Build the configured sources. Raises ConfigError for those that exclude each other."""
    built = tuple(_feed(section, config) for section in config.sources)
    for name, times in Counter(feed.name for feed in built).items():
        if times > 1:
            raise ConfigError(f"the source {name} is configured twice: remove one [[source]]")
    _refuse_two_truths(config)
    return built


def clusters(config: AgentConfig) -> tuple[str, ...]:
    """Return the clusters that the sources are known to report for, sorted.

    A dump names its own clusters: those of its first records are known here.
    """
    named: set[str] = set()
    for section in config.sources:
        if isinstance(section, FileSection):
            named.update(new for _, new in section.rename)
            named.add(section.cluster)
            named.update(_file(section).clusters())
        else:
            named.update(section.clusters)
    return tuple(sorted(named - {""}))


def accountings(config: AgentConfig) -> tuple[tuple[LiveSection, Accounting], ...]:
    """Return whom each live source asks, for questions of its own. Raises ConfigError."""
    return tuple(
        (section, feed.source.accounting)
        for section in config.sources
        if isinstance(section, LiveSection)
        and isinstance((feed := _feed(section, config)).source, Cycle)
    )


def _refuse_two_truths(config: AgentConfig) -> None:
    """Raise ConfigError where two sources that know different details would revise each other."""
    live = (section for section in config.sources if isinstance(section, LiveSection))
    for cluster, times in Counter(name for section in live for name in section.clusters).items():
        if times > 1:
            raise ConfigError(
                f"cluster {cluster} is read by two sources of kind sacct or slurmrestd, which know"
                " different details of a run and would correct each other for ever: keep one"
            )


def _feed(section: SourceSection, config: AgentConfig) -> Feed:
    try:
        return next(_made(section, config))
    except SourceError as error:
        raise ConfigError(str(error)) from error
    except StopIteration:
        raise ConfigError(f"this agent has no source of kind {type(section).__name__}") from None


def _made(section: SourceSection, config: AgentConfig) -> Iterator[Feed]:
    for kind, make in _MAKERS:
        if isinstance(section, kind):
            yield make(section, config)


def _file(section: FileSection) -> FolderSource:
    return FolderSource(
        section.path,
        default_cluster=section.cluster,
        cluster_rename=dict(section.rename),
        timezone=section.timezone,
    )


def _file_feed(section: FileSection, _config: AgentConfig) -> Feed:
    source = _file(section)
    renames = ",".join(f"{old}:{new}" for old, new in section.rename)
    name = "?".join(part for part in (source.name, section.cluster, renames) if part)
    return Feed(name, source, section.poll_interval_s, is_live=False, tells_lag=False)


def cycle_settings(section: LiveSection) -> CycleSettings:
    """How a live source reads, from its section."""
    return CycleSettings(
        overlap_s=section.overlap_s,
        lookback_s=section.lookback_s,
        sweep_days=section.sweep_days,
        dbd_queue_max=section.dbd_queue_max,
    )


def _sacct_feed(section: SacctSection, config: AgentConfig) -> Feed:
    source = sacct_cycle(
        section.clusters,
        cycle_settings(section),
        now=clock.now_s,
        sacct=str(section.sacct),
        slurm_conf=str(section.slurm_conf),
        sdiag=str(section.sdiag),
        sacctmgr=str(section.sacctmgr),
        scontrol=str(section.scontrol),
        timeout_s=section.timeout_s,
        lock_path=config.spool.path.with_name(LOCK_NAME),
    )
    return Feed(source.name, source, section.poll_interval_s, is_live=True, tells_lag=True)


def slurmrestd_accounting(section: SlurmrestdSection, lock_path: Path | None) -> Slurmrestd:
    """Build what asks slurmrestd. Raises SourceError."""
    server = Server(
        section.address,
        Caller(section.user, section.token_file),
        timeout_s=section.timeout_s,
        ca_file=section.ca_file,
        lock_path=lock_path,
    )
    return Slurmrestd(section.clusters, server, data_parser=section.data_parser)


def _slurmrestd_feed(section: SlurmrestdSection, config: AgentConfig) -> Feed:
    accounting = slurmrestd_accounting(section, config.spool.path.with_name(LOCK_NAME))
    source = Cycle(accounting, cycle_settings(section))
    return Feed(source.name, source, section.poll_interval_s, is_live=True, tells_lag=True)


def _pyslurm_feed(section: PyslurmSection, config: AgentConfig) -> Feed:
    source = PyslurmSource(section, lock_path=config.spool.path.with_name(LOCK_NAME))
    return Feed(source.name, source, section.poll_interval_s, is_live=True, tells_lag=False)


def _other_feed(section: OtherSection, _config: AgentConfig) -> Feed:
    source = schedulers.build(section)
    return Feed(source.name, source, section.poll_interval_s, is_live=True, tells_lag=True)


_MAKERS: Final[tuple[tuple[type, Callable[..., Feed]], ...]] = (
    (SacctSection, _sacct_feed),
    (SlurmrestdSection, _slurmrestd_feed),
    (PyslurmSection, _pyslurm_feed),
    (FileSection, _file_feed),
    (OtherSection, _other_feed),
)
