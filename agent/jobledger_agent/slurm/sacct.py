"""The reference source: a running Slurm, asked through its own programs.

Here a question becomes a command line and its answer is validated; ``cycle``
decides what is asked, ``commands`` says what may be run, ``runner`` runs it.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jobledger_agent import clock
from jobledger_agent.reading.accounting import Controller, RowKey, SlurmdbdSettings, StepUse
from jobledger_agent.reading.cycle import Cycle, CycleSettings
from jobledger_agent.records.job import Reading
from jobledger_agent.records.tree import TreeEntry
from jobledger_agent.slurm.answers import (
    JOB_COLUMNS,
    NEWER_COLUMNS,
    STEP_COLUMNS,
    Question,
    job_readings,
    step_use,
)
from jobledger_agent.slurm.commands import (
    Programs,
    check_cluster,
    check_programs,
    slurmdbd_settings,
)
from jobledger_agent.slurm.runner import Runner
from jobledger_agent.slurm.sacctmgr import entries
from jobledger_agent.source import SourceError

FIRST_LINEAGE: Final = (23, 11)
NO_SPAN: Final = (0, 0)


class SacctAccounting:
    """Slurm as ``sacct``, ``sacctmgr`` and ``sdiag`` show it: an ``accounting.Accounting``."""

    def __init__(
        self, clusters: Sequence[str], programs: Programs, *, now: Callable[[], int]
    ) -> None:
        """``now`` gives epoch seconds. Without sdiag or sacctmgr what they tell is unknown.

        Raises SourceError for a name that is not one cluster's.
        """
        self.clusters = tuple(check_cluster(name) for name in clusters)
        self._programs = programs
        self._now = now
        self._columns: tuple[str, ...] = ()
        self._local = ""

    @property
    def name(self) -> str:
        """Unique among the agent's sources."""
        return "sacct:" + ",".join(self.clusters)

    def negotiate(self) -> None:
        """Find out, once, what this sacct can tell and whether the clusters exist."""
        if self._columns:
            return
        there = {name.lower() for name in self._programs.columns()}
        lacks = [name for name in JOB_COLUMNS if name.lower() not in there]
        if lacks:
            raise SourceError(
                f"this sacct has no {', '.join(lacks)}; it must be Slurm 20.11 or newer"
            )
        registered = self._programs.clusters()
        for cluster in self.clusters:
            if registered is not None and cluster not in registered:
                raise SourceError(
                    f"slurmdbd knows no cluster {cluster}, only {', '.join(sorted(registered))};"
                    " correct clusters in [[source]]"
                )
        newer = [name for name in NEWER_COLUMNS if name.lower() in there]
        self._columns = (*JOB_COLUMNS, *newer)

    def forget(self) -> None:
        """Something failed: Slurm may have been upgraded."""
        self._columns = ()

    def controller(self, cluster: str) -> Controller:
        """What sdiag says of slurmctld; unknown without sdiag."""
        if not self._programs.has_sdiag:
            return Controller()
        self._local = self._local or self._programs.local_cluster()
        return self._programs.controller(cluster, is_local=cluster == self._local)

    def slurmdbd(self) -> SlurmdbdSettings:
        """What sacctmgr says of slurmdbd's settings; unknown where it says nothing."""
        try:
            return slurmdbd_settings(self._programs.configuration())
        except SourceError:
            return SlurmdbdSettings()

    @contextmanager
    def ended(self, cluster: str, span: tuple[int, int]) -> Iterator[Iterator[Reading]]:
        """All runs that ended in ``span`` (epoch seconds, both ends included)."""
        question = self._question(cluster, span)
        with self._programs.ended(cluster, span, self._columns, question.nonce) as answer:
            yield job_readings(answer, question)

    @contextmanager
    def open(self, cluster: str) -> Iterator[Iterator[Reading]]:
        """All runs that run or are suspended now."""
        question = self._question(cluster)
        with self._programs.running(cluster, self._columns, question.nonce) as answer:
            yield job_readings(answer, question)

    @contextmanager
    def by_id(self, cluster: str, ids: Sequence[int]) -> Iterator[Iterator[Reading]]:
        """All runs of these jobs."""
        question = self._question(cluster)
        asked = self._programs.by_id(cluster, ids, self._columns, question.nonce, steps=False)
        with asked as answer:
            yield job_readings(answer, question)

    def step_use(self, cluster: str, ids: Sequence[int]) -> Mapping[RowKey, StepUse]:
        """What the steps of these jobs add up to."""
        nonce = secrets.token_hex(16)
        question = Question(cluster, STEP_COLUMNS, nonce, NO_SPAN, self._now())
        with self._programs.by_id(cluster, ids, STEP_COLUMNS, nonce, steps=True) as answer:
            return step_use(answer, question)

    def tree(self, cluster: str) -> Iterable[TreeEntry]:
        """The cluster's account tree; nothing without sacctmgr."""
        if not self._programs.has_sacctmgr:
            return ()
        return entries(self._programs.show, cluster, self._now(), has_lineage=self._has_lineage())

    def _has_lineage(self) -> bool:
        """Whether associations have the column Lineage: from Slurm 23.11 on."""
        version = self._programs.configuration().get("slurm_version", "")
        numbers = re.match(r"(\d+)\.(\d+)", version)
        return numbers is not None and (int(numbers[1]), int(numbers[2])) >= FIRST_LINEAGE

    def _question(self, cluster: str, span: tuple[int, int] = NO_SPAN) -> Question:
        return Question(cluster, self._columns, secrets.token_hex(16), span, self._now())


def sacct_cycle(  # noqa: PLR0913 - the settings of one [[source]]
    clusters: Sequence[str],
    settings: CycleSettings | None = None,
    *,
    now: Callable[[], int] = clock.now_s,
    sacct: str = "/usr/bin/sacct",
    sdiag: str = "/usr/bin/sdiag",
    sacctmgr: str = "/usr/bin/sacctmgr",
    scontrol: str = "/usr/bin/scontrol",
    slurm_conf: str = "/etc/slurm/slurm.conf",
    timeout_s: int = 120,
    lock_path: Path | None = None,
) -> Cycle:
    """A cycle over Slurm's programs; with ``lock_path`` one of them runs at a time.

    Raises SourceError for a name that is not one cluster's.
    """
    check_programs({"sacct": sacct, "sdiag": sdiag, "sacctmgr": sacctmgr, "scontrol": scontrol})
    run = Runner(slurm_conf, timeout_s, lock_path)
    programs = Programs(sacct, sdiag, sacctmgr, run, scontrol)
    return Cycle(SacctAccounting(clusters, programs, now=now), settings, now=now)
