"""The command lines of Slurm's programs that may be run, and what their answers mean.

These are all there are, and none of them can change anything in Slurm. Success
is an exit of 0 *and* no error on stderr: sacct has exited 0 after losing its
connection.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO, NamedTuple, Protocol

from jobledger_agent.source import SourceError

MAX_IDS = 200
"""Job ids in one question."""
MAX_LIST_BYTES = 65_536
"""What is read of a list of columns or clusters."""
ENDED_STATES = "BF,CA,CD,DL,F,NF,OOM,PR,RQ,RS,RV,TO"
"""The states in which a run has ended, as ``sacct -s`` wants them."""
OPEN_STATES = "R,S"
"""The states in which a run holds resources and has not ended."""

_CLUSTER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_COMPLAINT = re.compile(r"\b(?:error|fatal):", re.IGNORECASE)
_TOO_WIDE = re.compile(r"too (?:wide|large)", re.IGNORECASE)
_QUEUE = re.compile(r"DBD Agent queue size:\s*(\d+)")


class TooMuch(SourceError):
    """Slurm will not, or cannot in time, answer for so long a span."""


class Run(Protocol):
    """Runs a program to its end."""

    def __call__(self, argv: Sequence[str], what: str, /) -> AbstractContextManager[BinaryIO]:
        """Its stdout, once it has succeeded. Raises SourceError if it has not."""


class Programs(NamedTuple):
    """Where Slurm's programs are, and what runs them."""

    sacct: str
    sdiag: str
    sacctmgr: str
    run: Run

    def columns(self) -> frozenset[str]:
        """The columns that this sacct knows: an unknown one would fail the question."""
        with self.run((self.sacct, "-e"), "sacct -e") as answer:
            return frozenset(answer.read(MAX_LIST_BYTES).decode("ascii", "replace").split())

    def clusters(self) -> frozenset[str] | None:
        """The clusters that slurmdbd knows; None if sacctmgr is not here.

        For a cluster that it does not know, sacct answers with nothing and 0.
        """
        if not os.access(self.sacctmgr, os.X_OK):
            return None
        argv = (self.sacctmgr, "-nP", "show", "cluster", "format=cluster")
        with self.run(argv, "sacctmgr show cluster") as answer:
            return frozenset(answer.read(MAX_LIST_BYTES).decode("utf-8", "replace").split())

    def queue_is_empty(self, cluster: str) -> bool:
        """Whether slurmctld has sent slurmdbd all that it has to say; True without sdiag.

        False also where sdiag gives no answer: then nobody knows.
        """
        if not os.access(self.sdiag, os.X_OK):
            return True
        try:
            with self.run((self.sdiag, "-M", cluster), f"sdiag for {cluster}") as answer:
                found = _QUEUE.search(answer.read(MAX_LIST_BYTES).decode("utf-8", "replace"))
        except SourceError:
            return False
        return found is not None and int(found[1]) == 0

    @contextmanager
    def ended(
        self, cluster: str, span: tuple[int, int], columns: Sequence[str], nonce: str
    ) -> Iterator[BinaryIO]:
        """All runs that ended in ``span`` (epoch seconds, both ends included)."""
        begin, end = span
        window = ("-s", ENDED_STATES, "-S", f"uts{begin}", "-E", f"uts{end}")
        with self._ask(cluster, ("-X", *window), columns, nonce) as answer:
            yield answer

    @contextmanager
    def running(self, cluster: str, columns: Sequence[str], nonce: str) -> Iterator[BinaryIO]:
        """All runs that run or are suspended now."""
        with self._ask(cluster, ("-X", "-s", OPEN_STATES), columns, nonce) as answer:
            yield answer

    @contextmanager
    def by_id(
        self, cluster: str, ids: Sequence[int], columns: Sequence[str], nonce: str, *, steps: bool
    ) -> Iterator[BinaryIO]:
        """All runs of these jobs, with their steps or without; at most MAX_IDS."""
        which = ("-j", ",".join(map(str, ids[:MAX_IDS])))
        with self._ask(cluster, which if steps else ("-X", *which), columns, nonce) as answer:
            yield answer

    @contextmanager
    def _ask(
        self, cluster: str, which: Sequence[str], columns: Sequence[str], nonce: str
    ) -> Iterator[BinaryIO]:
        shape = ("-n", "-p", "--noconvert", f"--delimiter={nonce}", "-o", ",".join(columns))
        argv = (self.sacct, "-M", cluster, "-a", "-D", *which, *shape)
        with self.run(argv, f"sacct for cluster {cluster}") as answer:
            yield answer


def check_cluster(name: str) -> str:
    """The name, if it is one cluster's. Raises SourceError for "all" and for options."""
    if not _CLUSTER.fullmatch(name) or name.lower() == "all":
        raise SourceError(
            f"{name!r} is not the name of one cluster; correct clusters in [[source]]"
        )
    return name


def verdict(what: str, code: int, stderr: str) -> str:
    """What went wrong, in one sentence; empty if nothing did."""
    if code == 0 and not _COMPLAINT.search(stderr):
        return ""
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "no reason given")
    sentence = f"{what} failed with exit {code} ({last.strip()[:200]}); it is asked again"
    if _TOO_WIDE.search(stderr):
        raise TooMuch(sentence)
    return sentence
