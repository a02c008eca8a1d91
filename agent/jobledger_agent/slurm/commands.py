"""The command lines of Slurm's programs that may be run, and what their answers mean.

These are all there are, and none of them can change anything in Slurm: each
passes ``allowed`` before it runs. Success is an exit of 0 *and* no error on
stderr: sacct has exited 0 after losing its connection.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO, NamedTuple, Protocol

from jobledger_agent.reading.accounting import Controller, SlurmdbdSettings, TooMuch
from jobledger_agent.records.job import UNKNOWN
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
_RUNNING = re.compile(r"^Jobs running:\s*(\d+)", re.MULTILINE)
_SECONDS = {"hour": 3_600, "day": 86_400, "month": 28 * 86_400}
_AGE = re.compile(r"(\d+)\s*(hour|day|month)s?\*?", re.IGNORECASE)


class Forbidden(ValueError):
    """A command line that is not known to leave Slurm as it is: a defect of ours."""


_SACCT_ALONE = frozenset({"-e", "-a", "-D", "-X", "-n", "-p", "--noconvert"})
_SACCT_VALUES = {
    "-M": _CLUSTER,
    "-s": re.compile(r"[A-Z]{1,3}(,[A-Z]{1,3})*"),
    "-S": re.compile(r"uts\d{1,10}"),
    "-E": re.compile(r"uts\d{1,10}"),
    "-j": re.compile(r"\d{1,10}(,\d{1,10})*"),
    "-o": re.compile(r"[A-Za-z]+(,[A-Za-z]+)*"),
}
_DELIMITER = re.compile(r"--delimiter=[0-9a-f]{32}")
_SHOWN = frozenset({"account", "assoc", "cluster", "configuration", "qos", "user"})
"""What ``sacctmgr show`` may show; never runawayjobs, which asks whether to repair."""
_SHOW_WORD = re.compile(r"where|(?:format|cluster|name)=[A-Za-z0-9_.@,-]+")


def allowed(argv: Sequence[str]) -> Sequence[str]:
    """The command line, if it is one that can only read. Raises Forbidden for any other.

    It names the program, by its file's name, and every option of it: an unknown
    option is refused, so that nobody has to know which ones change something.
    """
    program, words = argv[0].rpartition("/")[2], tuple(argv[1:])
    check = _CHECKS.get(program)
    if check is None or not check(words):
        raise Forbidden(f"{' '.join(argv)[:200]!r} is not a command line that may be run")
    return argv


def _is_sacct(words: tuple[str, ...]) -> bool:
    rest = iter(words)
    for word in rest:
        value = _SACCT_VALUES.get(word)
        if value is not None:
            if not value.fullmatch(next(rest, "")):
                return False
        elif word not in _SACCT_ALONE and not _DELIMITER.fullmatch(word):
            return False
    return True


def _is_sacctmgr(words: tuple[str, ...]) -> bool:
    asks, shown, rest = words[:2], words[2:3], words[3:]
    is_known = asks == ("-nP", "show") and len(shown) == 1 and _SHOWN.issuperset(shown)
    return is_known and all(map(_SHOW_WORD.fullmatch, rest))


def _is_sdiag(words: tuple[str, ...]) -> bool:
    return not words or (words[:1] == ("-M",) and bool(_CLUSTER.fullmatch(" ".join(words[1:]))))


def _is_scontrol(words: tuple[str, ...]) -> bool:
    return words == ("show", "config")


_CHECKS: Mapping[str, Callable[[tuple[str, ...]], bool]] = {
    "sacct": _is_sacct,
    "sacctmgr": _is_sacctmgr,
    "sdiag": _is_sdiag,
    "scontrol": _is_scontrol,
}


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
    scontrol: str = ""

    @property
    def has_sacctmgr(self) -> bool:
        """Whether sacctmgr can be asked at all."""
        return os.access(self.sacctmgr, os.X_OK)

    @property
    def has_sdiag(self) -> bool:
        """Whether sdiag can be asked at all."""
        return os.access(self.sdiag, os.X_OK)

    def columns(self) -> frozenset[str]:
        """The columns that this sacct knows: an unknown one would fail the question."""
        with self.run((self.sacct, "-e"), "sacct -e") as answer:
            return frozenset(answer.read(MAX_LIST_BYTES).decode("ascii", "replace").split())

    def clusters(self) -> frozenset[str] | None:
        """The clusters that slurmdbd knows; None if sacctmgr is not here.

        For a cluster that it does not know, sacct answers with nothing and 0.
        """
        if not self.has_sacctmgr:
            return None
        argv = (self.sacctmgr, "-nP", "show", "cluster", "format=cluster")
        with self.run(argv, "sacctmgr show cluster") as answer:
            return frozenset(answer.read(MAX_LIST_BYTES).decode("utf-8", "replace").split())

    def local_cluster(self) -> str:
        """The cluster of this host's slurm.conf; empty if nobody says."""
        if not os.access(self.scontrol, os.X_OK):
            return ""
        try:
            with self.run((self.scontrol, "show", "config"), "scontrol show config") as answer:
                text = answer.read(MAX_LIST_BYTES).decode("utf-8", "replace")
        except SourceError:
            return ""
        return settings_of(text).get("clustername", "")

    def controller(self, cluster: str, *, is_local: bool) -> Controller:
        """What sdiag says. Raises SourceError where it has no answer.

        For another cluster slurmdbd must tell where its controller is; the local
        one answers also while slurmdbd is away, when its queue matters most.
        """
        which = () if is_local else ("-M", cluster)
        with self.run((self.sdiag, *which), f"sdiag for {cluster}") as answer:
            text = answer.read(MAX_LIST_BYTES).decode("utf-8", "replace")
        queue, running = _QUEUE.search(text), _RUNNING.search(text)
        if queue is None:
            raise SourceError(f"sdiag for {cluster} says nothing of slurmdbd's queue")
        return Controller(int(queue[1]), int(running[1]) if running else UNKNOWN)

    def configuration(self) -> Mapping[str, str]:
        """The settings of slurmdbd (and of this host's slurm.conf about it), by lower-case key.

        Empty without sacctmgr. Raises SourceError.
        """
        if not self.has_sacctmgr:
            return {}
        argv = (self.sacctmgr, "-nP", "show", "configuration")
        with self.run(argv, "sacctmgr show configuration") as answer:
            return settings_of(answer.read(MAX_LIST_BYTES).decode("utf-8", "replace"))

    def show(self, words: Sequence[str]) -> AbstractContextManager[BinaryIO]:
        """What ``sacctmgr show`` prints for these words."""
        return self.run((self.sacctmgr, "-nP", "show", *words), f"sacctmgr show {words[0]}")

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


def check_programs(paths: Mapping[str, str]) -> None:
    """Raise SourceError for a path that does not end in its program's own name.

    What may be run is judged by that name: a wrapper must have it, too.
    """
    for name, path in paths.items():
        if path and path.rpartition("/")[2] != name:
            raise SourceError(
                f"{path} is not called {name}: only a program of that name may be run; give a"
                " wrapper the same name in a directory of its own"
            )


def verdict(what: str, code: int, stderr: str) -> str:
    """What went wrong, in one sentence; empty if nothing did."""
    if code == 0 and not _COMPLAINT.search(stderr):
        return ""
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "no reason given")
    sentence = f"{what} failed with exit {code} ({last.strip()[:200]}); it is asked again"
    if _TOO_WIDE.search(stderr):
        raise TooMuch(sentence)
    return sentence


def settings_of(text: str) -> dict[str, str]:
    """What ``show configuration`` prints, by lower-case key; a key that comes twice counts last.

    slurmdbd's own settings come after this host's.
    """
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def slurmdbd_settings(configuration: Mapping[str, str]) -> SlurmdbdSettings:
    """What of slurmdbd's settings the reading of it depends on."""
    delay, purge = configuration.get("commitdelay"), configuration.get("purgejobafter")
    return SlurmdbdSettings(
        UNKNOWN if delay is None else _leading_number(delay),
        UNKNOWN if purge is None else _age_s(purge),
    )


def _leading_number(text: str) -> int:
    """Seconds of "1 sec"; 0 for "No"."""
    found = re.match(r"\d{1,6}", text)
    return int(found[0]) if found else 0


def _age_s(text: str) -> int:
    """Seconds of "12 months" or "90 days*"; 0 for "NONE", UNKNOWN for what is neither."""
    found = _AGE.fullmatch(text)
    if found:
        return int(found[1]) * _SECONDS[found[2].lower()]
    return 0 if text.upper() in {"NONE", "", "(NULL)"} else UNKNOWN
