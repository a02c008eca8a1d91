"""One value as ``sacct`` prints it -> one typed value; ``None`` if it is not one.

Every function takes the text between two delimiters and either understands all
of it or returns None: nothing is guessed and nothing raises. Integers only.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple, TypeVar

from jobledger_agent.records.job import ARRAY_REMAINDER, UNKNOWN

T = TypeVar("T")

MAX_DIGITS = 19
"""Digits of a count: always fits 64 bits; more is not one of Slurm's figures."""
MAX_EPOCH_DIGITS = 11
"""Digits of a time in epoch seconds."""
MAX_COUNT = 2**63 - 1
"""Largest count that the ledger holds."""
NO_VAL = 4_294_967_294
"""Slurm's "no value" in 32 bits, and the first number that is no time."""
NO_VAL64 = 18_446_744_073_709_551_614
"""Slurm's "no value" in 64 bits."""
MAX_ID = 2**64 - 1
"""DBIndex and SLUID use all 64 bits."""

MAX_CACHED_CHARS = 256
"""Longer values are read each time: what a cache keeps must not grow with the input."""

NEVER = frozenset({"", "Unknown", "None", "N/A"})
"""What Slurm prints for a time that has not come."""
UNLIMITED = frozenset({"", "UNLIMITED", "Partition_Limit", "INVALID"})
"""What Slurm prints for a time limit that is none."""
KNOWN_STATES = frozenset(
    [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "COMPLETING",
        "CONFIGURING",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PENDING",
        "PREEMPTED",
        "RECONFIG_FAIL",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESIZING",
        "RESV_DEL_HOLD",
        "REVOKED",
        "RUNNING",
        "SIGNALING",
        "SPECIAL_EXIT",
        "STAGE_OUT",
        "STOPPED",
        "SUSPENDED",
        "TIMEOUT",
        "UPDATE_DB",
        "POWER_UP_NODE",
    ]
)
"""States that Slurm 20.11 to 26.05 writes; others are read all the same."""

_DURATION = re.compile(r"(?:(\d{1,6})-)?(?:(\d{1,7}):)?(\d{1,9}):(\d{2})(?:\.(\d{1,6}))?", re.ASCII)
_SIZE = re.compile(r"(\d{1,19}(?:\.\d{1,6})?)([KMGTPE]?)[cn]?", re.ASCII)
_STATE = re.compile(r"([A-Z][A-Z_]{0,39})(?: by (\d{1,10}|[^\s|]{1,64}))?", re.ASCII)
_EXIT = re.compile(r"(\d{1,10}):(\d{1,10})", re.ASCII)
_JOB_ID = re.compile(r"(\d{1,19})(?:_(?:(\d{1,10})|\[[^\]]*\]?\S{0,3})|\+(\d{1,10}))?", re.ASCII)
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[+-]\d\d:?\d\d|Z)?", re.ASCII)
_SLUID = re.compile(r"s[0-9A-HJKMNP-TV-Z]{13}", re.ASCII)
_CROCKFORD = {c: i for i, c in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ")}
_POWER = {unit: 1024**power for power, unit in enumerate(["", "K", "M", "G", "T", "P", "E"])}


class State(NamedTuple):
    """A job's state and the uid of who cancelled it (UNKNOWN if nobody)."""

    name: str
    cancelled_by_uid: int


class ExitCode(NamedTuple):
    """Exit code and signal."""

    code: int
    signal: int


class JobIds(NamedTuple):
    """What the displayed JobID says beyond the raw id; fields as in SlurmJob."""

    array_job_id: int
    array_task: int
    het_job_id: int
    het_offset: int


PLAIN = JobIds(0, UNKNOWN, 0, UNKNOWN)
"""A job that is no part of an array or of a heterogeneous job."""


def count(text: str) -> int | None:
    """A whole number >= 0 that fits 63 bits."""
    if not 0 < len(text) <= MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    value = int(text)
    return value if value <= MAX_COUNT else None


def optional_count(text: str) -> int | None:
    """``count``; UNKNOWN where Slurm left it empty or printed "no value"."""
    value = UNKNOWN if text in NEVER else count(text)
    return UNKNOWN if value is not None and value >= NO_VAL else value


def identifier(text: str) -> int | None:
    """A row index or SLUID in either notation, unsigned 64 bits; 0 if empty.

    Since Slurm 24.11 both are one number: SLUID is "s" and 13 digits of
    Crockford's base 32.
    """
    if text in NEVER:
        return 0
    if _SLUID.fullmatch(text):
        value = 0
        for digit in text[1:]:
            value = value << 5 | _CROCKFORD[digit]
    elif len(text) <= MAX_DIGITS + 1 and text.isascii() and text.isdigit():
        value = int(text)
    else:
        return None
    return value if value <= MAX_ID else None


def each(read: Callable[[str], T | None], values: Sequence[str]) -> list[T | None]:
    """``read``, an lru_cache, of a whole column; long values go past the cache."""
    if max(map(len, values), default=0) <= MAX_CACHED_CHARS:
        return list(map(read, values))
    past = getattr(read, "__wrapped__", read)
    return [(read if len(value) <= MAX_CACHED_CHARS else past)(value) for value in values]


def counts(values: Sequence[str]) -> list[int | None]:
    """``count`` of a whole column; the usual case costs one pass in C."""
    joined = "".join(values)
    if (
        joined.isdigit()
        and joined.isascii()
        and "" not in values
        and max(map(len, values)) < MAX_DIGITS
    ):
        return list(map(int, values))
    return [count(value) for value in values]


@lru_cache(maxsize=8)
def time_reader(zone: tzinfo) -> Callable[[str], int | None]:
    """A function for times: epoch seconds, or local times in ``zone``.

    It returns 0 for a time that has not come (``Unknown``, ``None``, empty).
    """

    @lru_cache(maxsize=4096)
    def time(text: str) -> int | None:
        if text in NEVER:
            return 0
        if text.isascii() and text.isdigit():
            value = int(text) if len(text) <= MAX_EPOCH_DIGITS else None
            return 0 if value is not None and value >= NO_VAL else value
        if not _ISO.fullmatch(text):
            return None
        try:
            local = datetime.fromisoformat(text)
        except ValueError:
            return None
        if local.tzinfo is None:
            local = local.replace(tzinfo=zone)
        since = local - datetime(1970, 1, 1, tzinfo=UTC)
        return since.days * 86_400 + since.seconds if since.days >= 0 else None

    return time


def times(values: Sequence[str], time: Callable[[str], int | None]) -> list[int | None]:
    """``time`` of a whole column; a column of epoch seconds costs one pass in C."""
    joined = "".join(values)
    if joined.isdigit() and joined.isascii() and "" not in values:
        width = max(map(len, values))
        if width < MAX_EPOCH_DIGITS:
            column = list(map(int, values))
            if max(column) < NO_VAL:
                return list(column)
    return each(time, values)


@lru_cache(maxsize=4096)
def duration_ms(text: str) -> int | None:
    """``[D-]HH:MM:SS`` or ``MM:SS.mmm`` in milliseconds, exactly (µs cut off)."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    days, hours, minutes, seconds, fraction = found.groups(default="")
    if (days and not hours) or (hours and len(minutes) != 2):  # noqa: PLR2004 - two digits
        return None
    whole = int(days or 0) * 86_400 + int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole * 1000 + int(fraction.ljust(3, "0")[:3] or 0)


def duration_s(text: str) -> int | None:
    """A duration in whole seconds; 0 if empty."""
    value = 0 if not text else duration_ms(text)
    return None if value is None else value // 1000


def limit_s(text: str) -> int | None:
    """A Timelimit in seconds; UNKNOWN where there is none."""
    return UNKNOWN if text in UNLIMITED else duration_s(text)


def limit_minutes_s(text: str) -> int | None:
    """A TimelimitRaw (minutes) in seconds; UNKNOWN where there is none."""
    value = UNKNOWN if text in UNLIMITED else optional_count(text)
    return value * 60 if value is not None and value > 0 else value


def scaled(text: str, unit: int) -> int | None:
    """A figure with a K, M, G, T, P or E suffix, in ``unit`` bytes each, exactly.

    Without a suffix the figure is already in ``unit``. What is no whole number
    of units (only ``--units`` prints such) is rounded to the nearest.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    figure, suffix = found.groups()
    if not suffix and "." not in figure:
        return count(figure)
    exact = Decimal(figure) * (_POWER[suffix] if suffix else unit)
    value = int((exact / unit).to_integral_value())
    return value if value <= MAX_COUNT else None


@lru_cache(maxsize=4096)
def size_bytes(text: str) -> int | None:
    """A size such as MaxRSS in bytes (``162888K``); UNKNOWN if empty."""
    return UNKNOWN if not text else scaled(text, 1)


@lru_cache(maxsize=1024)
def state(text: str) -> State | None:
    """``CANCELLED by 12001`` -> CANCELLED and 12001. Unknown states are read too."""
    found = _STATE.fullmatch(text)
    if found is None:
        return None
    by = found[2] or ""
    return State(found[1], int(by) if by.isascii() and by.isdigit() else UNKNOWN)


@lru_cache(maxsize=1024)
def exit_code(text: str) -> ExitCode | None:
    """``rc:signal``; empty (a step that still runs) is 0:0."""
    if not text:
        return ExitCode(0, 0)
    found = _EXIT.fullmatch(text)
    if found is None:
        return None
    code, signal = int(found[1]), int(found[2])
    return ExitCode(code, signal) if max(code, signal) < NO_VAL else None


@lru_cache(maxsize=4096)
def job_ids(text: str) -> JobIds | None:
    """``37_10``, ``54_[3-30%2]`` (tasks not started), ``426+1``, or a plain id.

    The list of tasks not started is never expanded: Slurm leaves tasks in it
    that did run.
    """
    found = _JOB_ID.fullmatch(text)
    if found is None:
        return None
    job, task, offset = found.groups()
    if offset is not None:
        return JobIds(0, UNKNOWN, int(job), int(offset))
    if "_" in text:
        return JobIds(int(job), int(task) if task else ARRAY_REMAINDER, 0, UNKNOWN)
    return PLAIN


def clean(text: str) -> str:
    """Text that any store can hold: no lone surrogate, no NUL."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text.replace("\x00", "\ufffd")


def renamed(rename: Mapping[str, str], default: str, text: str) -> str | None:
    """The name of a cluster, or None; ``default`` for an empty one."""
    name = clean(text).strip() or default
    return rename.get(name, name) or None
