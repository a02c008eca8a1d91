"""Which text belongs to which column, when a name holds the delimiter or a newline.

``sacct`` escapes nothing: a job called ``x|COMPLETED`` shifts its row, one with
a newline breaks it, and one with both can forge a row. Here all assignments of
the pieces to the columns are tried in which every typed column holds a value of
its type; only free text may swallow delimiters and newlines. The true
assignment is always among them, so if all of them say the same, that is what
Slurm said; if they differ, nobody can tell.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from jobledger_agent.parsing import fields
from jobledger_agent.parsing.tres import parse_tres

MAX_EXTRA = 128
"""Delimiters that the names of one record may hold together."""
MAX_READINGS = 64
"""Different readings of one record after which it is given up."""

Check = Callable[[str], bool]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FREE = _names(
    "jobname comment admincomment systemcomment extra workdir submitline stderr stdin stdout"
    " constraints container wckey reservation reqreservation licenses"
)
"""Columns (lower case) into which a user can write any text."""

_COUNTS = _names(
    "alloccpus allocnodes avepages associd cputimeraw elapsedraw gid maxdiskreadtask"
    " maxdiskwritetask maxpagestask maxrsstask maxvmsizetask mincputask ncpus nnodes ntasks"
    " plannedcpuraw priority qosraw reqcpus reqnodes reservationid restarts timelimitraw"
    " uid wckeyid consumedenergyraw maxpages resvcpuraw"
)
_TIMES = frozenset({"submit", "start", "end", "eligible"})
_DURATIONS = _names(
    "avecpu cputime elapsed mincpu planned plannedcpu reserved resvcpu suspended systemcpu"
    " timelimit totalcpu usercpu"
)
_SIZES = _names(
    "averss avevmsize avediskread avediskwrite maxdiskread maxdiskwrite maxrss maxvmsize reqmem"
    " avecpufreq consumedenergy"
)
_WORDS = re.compile(r"[^\n]*")
_USAGE = re.compile(r"(?:[a-z][\w/:.-]*=[^,=\n]*(?:,[a-z][\w/:.-]*=[^,=\n]*)*)?")
_TIME = re.compile(
    r"\d{1,11}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[+-]\d\d:?\d\d|Z)?|Unknown|None|N/A|"
)
_SIZED = re.compile(r"(?:-?\d+(?:\.\d+)?[KMGTPE]?[cn]?|Unknown)?")
_JOB_ID = re.compile(r"\d+(?:_(?:\d+|\[[^\]\n]*\]?[^|\n.]{0,3})|\+\d+)?(?:\.[\w+]+)?")
_RAW_ID = re.compile(r"\d+(?:\+\d+)?(?:\.[\w+]+)?")
_LAYOUT = re.compile(r"[A-Za-z,]*")
_ACCOUNT = re.compile(r"[^\n|,=]*")


def _matcher(pattern: re.Pattern[str]) -> Check:
    return lambda text: pattern.fullmatch(text) is not None


def _read_by(read: Callable[[str], object]) -> Check:
    return lambda text: read(text) is not None


def _count(text: str) -> bool:
    return text in fields.NEVER or (text.isascii() and text.isdigit())


def _duration(text: str) -> bool:
    return text in fields.UNLIMITED or fields.duration_ms(text) is not None


_CHECKS: dict[str, Check] = {
    "": lambda text: not text,
    "alloctres": _read_by(parse_tres),
    "reqtres": _read_by(parse_tres),
    "state": _read_by(fields.state),
    "exitcode": _read_by(fields.exit_code),
    "derivedexitcode": _read_by(fields.exit_code),
    "sluid": _read_by(fields.identifier),
    "originalsluid": _read_by(fields.identifier),
    "dbindex": _read_by(fields.identifier),
    "jobid": _matcher(_JOB_ID),
    "jobidraw": _matcher(_RAW_ID),
    "layout": _matcher(_LAYOUT),
    "account": _matcher(_ACCOUNT),
    "cluster": _matcher(_ACCOUNT),
    "user": _matcher(_ACCOUNT),
    "group": _matcher(_ACCOUNT),
}


def _is_list(name: str) -> bool:
    """Whether values of this column hold commas themselves."""
    low = name.lower()
    return low in {"alloctres", "reqtres", "nodelist", "flags"} or low.startswith("tresusage")


def _sorted_tres(text: str) -> bool:
    """TRES in the order in which Slurm prints them: so two lists in a row come apart."""
    entries = text.split(",")
    return entries == sorted(entries) and parse_tres(text) is not None


_CHECKS_AMONG_COMMAS: dict[str, Check] = {"alloctres": _sorted_tres, "reqtres": _sorted_tres}


def check_of(name: str) -> Check | None:
    """What a value of this column must pass; None if any text will do."""
    low = name.lower()
    if low in _CHECKS:
        return _CHECKS[low]
    if low in _TIMES:
        return _matcher(_TIME)
    if low in _COUNTS:
        return _count
    if low in _DURATIONS:
        return _duration
    if low in _SIZES:
        return _matcher(_SIZED)
    if low.startswith("tresusage"):
        return _matcher(_USAGE)
    return None if low in FREE or low not in KNOWN else _matcher(_WORDS)


KNOWN = (
    _names(
        "account admincomment allocnodes alloctres associd avecpufreq blockid cluster comment"
        " constraints container dbindex derivedexitcode exclusive exitcode extra failednode"
        " flags group jobid jobidraw jobname layout licenses maxdiskreadnode maxdiskwritenode"
        " maxpagesnode maxrssnode maxvmsizenode mcslabel mincpunode nodelist originalsluid"
        " oversubscribe partition qos qosreq reason reqcpufreq reqcpufreqgov reqcpufreqmax"
        " reqcpufreqmin reqreservation reqtres reservation segmentsize sluid state stderr"
        " stdin stdout submitline systemcomment tresusageinave tresusageinmax tresusageinmaxnode"
        " tresusageinmaxtask tresusageinmin tresusageinminnode tresusageinmintask tresusageintot"
        " tresusageoutave tresusageoutmax tresusageoutmaxnode tresusageoutmaxtask"
        " tresusageoutmin tresusageoutminnode tresusageoutmintask tresusageouttot user wckey"
        " workdir"
    )
    | _COUNTS
    | _TIMES
    | _DURATIONS
    | _SIZES
)
"""Every column (lower case) that sacct 20.11 to 26.05 knows."""


class Aligner:
    """Assigns the pieces of a record to the columns ``names``.

    ``used`` are the columns (lower case) whose values matter: two assignments
    that differ elsewhere say the same. ``splits_names`` tells whether a name
    may hold the delimiter; a delimiter of several characters is taken to be in
    no name, and only newlines are then looked for.
    """

    def __init__(self, names: Sequence[str], delimiter: str, used: Iterable[str]) -> None:
        self.delimiter = delimiter
        self.splits_names = len(delimiter) == 1
        checks = _CHECKS_AMONG_COMMAS if delimiter == "," else {}
        self._checks = [self._cached(checks.get(n.lower()) or check_of(n)) for n in names]
        known = frozenset(used)
        self._used = [name.lower() in known for name in names]
        lists = delimiter == ","
        self._swallowing = [
            self.splits_names and (check is None or (lists and _is_list(name)))
            for name, check in zip(names, self._checks, strict=True)
        ]

    @staticmethod
    def _cached(check: Check | None) -> Check | None:
        if check is None:
            return None
        cached = lru_cache(maxsize=2048)(check)
        return lambda text: (cached if len(text) <= fields.MAX_CACHED_CHARS else check)(text)

    def invalid(self, columns: Sequence[Sequence[str]], *, every: bool) -> set[int]:
        """Rows in which some typed column holds no value of its type.

        Used columns are passed over unless ``every``: who reads them checks them.
        """
        bad: set[int] = set()
        for check, used, column in zip(self._checks, self._used, columns, strict=True):
            if check is not None and (every or not used) and not all(map(check, column)):
                bad.update(i for i, text in enumerate(column) if not check(text))
        return bad

    def misfits(self, row: Sequence[str]) -> int:
        """How many columns of this row hold no value of their type."""
        pairs = zip(self._checks, row, strict=True)
        return sum(check is not None and not check(text) for check, text in pairs)

    def starts(self) -> "Progress":
        """A record of which nothing has been seen."""
        return Progress(self._checks, self.delimiter, swallows=self._swallows)

    def _swallows(self, column: int) -> bool:
        return self._swallowing[column]

    def readings(self, pieces: Sequence[str]) -> list[tuple[str, ...]]:
        """All that the pieces can say, as rows; unused columns are left empty.

        Empty if there is no valid assignment, or too many to tell.
        """
        columns = len(self._checks)
        extra = len(pieces) - columns
        if extra < 0 or extra > MAX_EXTRA or (extra and not self.splits_names):
            return []
        layer: dict[int, set[tuple[str, ...]]] = {0: {()}}
        for column in range(columns):
            layer = self._next(layer, column, pieces, extra)
            if not layer or max(map(len, layer.values())) > MAX_READINGS:
                return []
        return sorted(layer.get(len(pieces), set()))

    def _next(
        self,
        layer: dict[int, set[tuple[str, ...]]],
        column: int,
        pieces: Sequence[str],
        extra: int,
    ) -> dict[int, set[tuple[str, ...]]]:
        """What can be said once this column has taken its piece or pieces."""
        check, used = self._checks[column], self._used[column]
        last = min(len(pieces), column + 1 + extra)
        after: dict[int, set[tuple[str, ...]]] = {}
        if check is None and not used:
            said: set[tuple[str, ...]] = set()
            for end in range(column + 1, last + 1):
                said = said | layer.get(end - 1, set())
                if said:
                    after[end] = {(*values, "") for values in said}
                if not self.splits_names:
                    said = set()
            return after
        for begin, values in layer.items():
            stop = last if self._swallows(column) else begin + 1
            for end in range(begin + 1, min(stop, last) + 1):
                text = self.delimiter.join(pieces[begin:end])
                if check is None or check(text):
                    kept = text if used else ""
                    after.setdefault(end, set()).update((*value, kept) for value in values)
        return after


class Progress:
    """How far into a record the lines seen so far can reach."""

    def __init__(
        self,
        checks: Sequence[Check | None],
        delimiter: str,
        *,
        swallows: Callable[[int], bool],
    ) -> None:
        self._checks = checks
        self._delimiter = delimiter
        self._swallows = swallows
        self._open = {0}
        self._started = False

    def line(self, pieces: Sequence[str]) -> bool:
        """Take one more line; whether the record may be complete at its end.

        ``alive`` is False once no assignment can hold these lines.
        """
        inside = self._open
        if self._started:  # a newline: only free text goes on after it
            inside = {column for column in inside if self._checks[column] is None}
        for number, piece in enumerate(pieces):
            if number:
                inside = self._step(inside)
            broken = number == 0 and self._started
            whole = number < len(pieces) - 1
            inside = {c for c in inside if self._holds(c, piece, broken=broken, whole=whole)}
        self._started = True
        self._open = inside
        return len(self._checks) - 1 in inside

    @property
    def alive(self) -> bool:
        """Whether some assignment can still hold."""
        return bool(self._open)

    def _step(self, inside: set[int]) -> set[int]:
        onward = {column + 1 for column in inside if column + 1 < len(self._checks)}
        return onward | {column for column in inside if self._swallows(column)}

    def _holds(self, column: int, piece: str, *, broken: bool, whole: bool) -> bool:
        check = self._checks[column]
        if check is None or broken or self._swallows(column):
            return True
        return check(piece) if whole else True
