"""Columns of a batch to records: every index, length and range is checked here.

A row that cannot be a job run becomes a Quarantined with its raw form, and its
neighbours go on. When nothing is wrong, which is nearly always, whole columns
are checked at once and no row is looked at twice.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

from jobledger_collector.core.record import (
    CACHED_TRES,
    CONTENT_FORMAT,
    UNKNOWN,
    JobRecord,
    Quarantined,
    Tres,
    escaped,
    tres_text,
)
from jobledger_collector.core.usage import MAX_COUNT, MAX_EPOCH_S

MAX_TEXT_CHARS: Final = 65_536
"""Longest text of a record; node lists of large jobs are the long ones."""
MAX_KEY_CHARS: Final = 256
CLUSTER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,127}")
"""The name of a cluster: slurmdbd makes names of tables of it. One that only looks like
another, with a space or an invisible letter, would be billed beside it.
"""
"""Longest name of a cluster, user, account, partition or TRES."""
MAX_RAW_BYTES: Final = 64 * 1024
"""How much of an unreadable record is kept."""
MAX_TRES: Final = 256
"""Kinds of resources that one run may hold."""
NOT_IN_TRES: Final = frozenset(",= \n\t\r\0")
MAX_BIGINT: Final = 2**63 - 1
MAX_UINT64: Final = 2**64 - 1

FIELDS: Final = JobRecord._fields
TEXT_FIELDS: Final = frozenset({
    "cluster", "state", "node_list", "user", "account", "partition", "qos", "wckey", "reservation",
})  # fmt: skip
TRES_FIELDS: Final = frozenset({"alloc_tres", "req_tres"})
LONG_TEXTS: Final = frozenset({"node_list"})
LIMITS: Final[dict[str, tuple[int, int]]] = {
    "job_id": (1, MAX_BIGINT),
    "submit": (1, MAX_EPOCH_S),
    "eligible": (0, MAX_EPOCH_S),
    "start": (0, MAX_EPOCH_S),
    "end": (0, MAX_EPOCH_S),
    "observed": (1, MAX_EPOCH_S),
    "suspended_s": (0, MAX_EPOCH_S),
    "assoc_id": (0, MAX_BIGINT),
    "reservation_id": (0, MAX_BIGINT),
    "array_job_id": (0, MAX_BIGINT),
    "array_task": (-2, MAX_BIGINT),
    "het_job_id": (0, MAX_BIGINT),
    "sluid": (0, MAX_UINT64),
    "energy_j": (UNKNOWN, MAX_COUNT),
    **dict.fromkeys(
        ("slurm_elapsed_s", "cancelled_by_uid", "alloc_cpus", "uid", "het_offset", "restarts",
         "timelimit_s", "total_cpu_ms", "max_rss_bytes"),
        (UNKNOWN, MAX_BIGINT),
    ),
    **dict.fromkeys(("exit_code", "exit_signal", "nodes", "steps"), (0, 2**32 - 1)),
}  # fmt: skip
"""Least and greatest value of each number, both allowed."""

UNSIGNED_64: Final = frozenset({
    "job_id", "suspended_s", "assoc_id", "reservation_id", "array_job_id", "het_job_id", "sluid",
})  # fmt: skip
UNSIGNED_32: Final = frozenset({"exit_code", "exit_signal", "nodes", "steps"})
_TEXT_PLACES: Final = tuple(i for i, name in enumerate(FIELDS) if name in TEXT_FIELDS)
_TRES_PLACES: Final = tuple(i for i, name in enumerate(FIELDS) if name in TRES_FIELDS)
_LEAST: Final = tuple(
    (place, LIMITS[name][0])
    for place, name in enumerate(FIELDS)
    if name in LIMITS and not (LIMITS[name][0] == 0 and name in UNSIGNED_64 | UNSIGNED_32)
)
_MOST: Final = tuple(
    (place, LIMITS[name][1])
    for place, name in enumerate(FIELDS)
    if name in LIMITS
    and name not in UNSIGNED_32
    and (name in UNSIGNED_64 or LIMITS[name][1] < MAX_BIGINT)
    and LIMITS[name][1] < MAX_UINT64
)

_new_record: Callable[[Iterable[Any]], JobRecord] = partial(tuple.__new__, JobRecord)
_Columns = Sequence[Sequence[Any]]


class Row(NamedTuple):
    """One readable record and its content as text (see ``content_text``)."""

    record: JobRecord
    content: str


_new_row: Callable[[Iterable[Any]], Row] = partial(tuple.__new__, Row)


class _Texts(NamedTuple):
    """A batch's dictionary: the texts, the same escaped, and what is wrong with some."""

    plain: Sequence[str]
    safe: Sequence[str]
    faults: dict[int, str]
    long: frozenset[int]


class _TresSets(NamedTuple):
    plain: Sequence[Tres]
    safe: Sequence[str]
    faults: dict[int, str]


def read_rows(
    columns: list[list[int]],
    texts: Sequence[str],
    tres_sets: Iterable[tuple[list[int], list[int]]],
    now_s: int,
) -> list[Row] | list[Row | Quarantined]:
    """Return the rows of columns that are in the order of FIELDS and of equal length.

    ``texts`` and ``tres_sets`` (name indexes, counts) are the batch's
    dictionaries; ``now_s`` bounds what an agent's clock may claim.
    """
    words = _read_texts(texts)
    sets = _read_tres_sets(tres_sets, words)
    _bound_observed(columns, now_s)
    if _is_sound(columns, words, sets):
        return _sound_rows(columns, words, sets)
    return list(_careful_rows(columns, words, sets))


def record_json(record: JobRecord) -> bytes:
    """Return a record as one line of JSON: its raw form in the quarantine.

    Without ``observed``, so that the same record is the same whenever it comes.
    """
    fields = record._asdict()
    del fields["observed"]
    for name in TRES_FIELDS:
        fields[name] = tres_text(fields[name])
    return json.dumps(fields, ensure_ascii=False).encode()


def _bound_observed(columns: list[list[int]], now_s: int) -> None:
    """Nothing was seen later than now: an agent's fast clock must not win for ever."""
    observed = columns[-1]
    if max(observed) > now_s:
        columns[-1] = [min(seen, now_s) for seen in observed]


def _sound_rows(columns: _Columns, texts: _Texts, tres_sets: _TresSets) -> list[Row]:
    """Build all rows at once, when nothing needs a second look. The hot path."""
    plain = list(columns)
    safe = list(columns)
    for place in _TEXT_PLACES:
        plain[place] = safe[place] = [texts.plain[index] for index in columns[place]]
        if texts.safe is not texts.plain:
            safe[place] = [texts.safe[index] for index in columns[place]]
    for place in _TRES_PLACES:
        plain[place] = [tres_sets.plain[index] for index in columns[place]]
        safe[place] = [tres_sets.safe[index] for index in columns[place]]
    contents = [CONTENT_FORMAT % row for row in zip(*safe[:-1], strict=True)]
    records = map(_new_record, zip(*plain, strict=True))
    return list(map(_new_row, zip(records, contents, strict=True)))


def _is_sound(columns: _Columns, texts: _Texts, tres_sets: _TresSets) -> bool:
    """Return whether every value of every column is in bounds.

    Whole columns at a time, and only the ends that the wire's types leave open.
    """
    if texts.faults or tres_sets.faults or texts.long:
        return False
    last_text, last_set = len(texts.plain) - 1, len(tres_sets.plain) - 1
    return (
        all(max(columns[place]) <= last_text for place in _TEXT_PLACES)
        and all(CLUSTER.fullmatch(texts.plain[index]) for index in set(columns[0]))
        and all(max(columns[place]) <= last_set for place in _TRES_PLACES)
        and all(min(columns[place]) >= least for place, least in _LEAST)
        and all(max(columns[place]) <= most for place, most in _MOST)
    )


def _careful_rows(
    columns: _Columns, texts: _Texts, tres_sets: _TresSets
) -> Iterator[Row | Quarantined]:
    for values in zip(*columns, strict=True):
        row = dict(zip(FIELDS, values, strict=True))
        fault = _row_fault(row, texts, tres_sets)
        if fault:
            yield _refused(row, fault, texts, tres_sets)
        else:
            one = [[value] for value in values]
            yield _sound_rows(one, texts, tres_sets)[0]


def _row_fault(row: dict[str, int], texts: _Texts, tres_sets: _TresSets) -> str:
    """Return what is wrong with a row, "" when nothing is."""
    for name, value in row.items():
        if name in TEXT_FIELDS:
            fault = _index_fault(value, len(texts.plain), texts.faults)
            if not fault and value in texts.long and name not in LONG_TEXTS:
                fault = f"is longer than {MAX_KEY_CHARS} characters"
            if not fault and name == "cluster" and not texts.plain[value]:
                fault = "is empty; the run cannot be identified"
            elif not fault and name == "cluster" and not CLUSTER.fullmatch(texts.plain[value]):
                fault = f"{texts.plain[value]!r} is not the name of a cluster"
        elif name in TRES_FIELDS:
            fault = _index_fault(value, len(tres_sets.plain), tres_sets.faults)
        else:
            least, most = LIMITS[name]
            fault = "" if least <= value <= most else f"{value} is not in {least} … {most}"
        if fault:
            return f"The record's {name} {fault}. Compare it with Slurm's own record."
    return ""


def _index_fault(index: int, size: int, faults: dict[int, str]) -> str:
    if index >= size:
        return f"refers to entry {index} of a dictionary of {size}"
    return faults.get(index, "")


def _refused(row: dict[str, int], fault: str, texts: _Texts, tres_sets: _TresSets) -> Quarantined:
    shown: dict[str, int | str] = dict(row)
    for name, value in row.items():
        if name in TEXT_FIELDS and value < len(texts.plain):
            shown[name] = texts.plain[value]
        elif name in TRES_FIELDS and value < len(tres_sets.plain):
            shown[name] = tres_text(tres_sets.plain[value])
    del shown["observed"]
    raw = json.dumps(shown, ensure_ascii=False).encode()
    cluster = clean_text(str(shown["cluster"]))[:MAX_KEY_CHARS]
    return Quarantined(cluster, "wire", fault, raw[:MAX_RAW_BYTES], len(raw))


def _read_texts(texts: Sequence[str]) -> _Texts:
    plain = list(texts)
    joined = "".join(plain)
    faults = {}
    if "\0" in joined:
        faults = {i: "holds a NUL character" for i, text in enumerate(plain) if "\0" in text}
    long = set()
    if max(map(len, plain)) > MAX_KEY_CHARS:
        long = {i for i, text in enumerate(plain) if len(text) > MAX_KEY_CHARS}
        for i in long:
            if len(plain[i]) > MAX_TEXT_CHARS:
                faults[i] = f"is longer than {MAX_TEXT_CHARS} characters"
    needs_escape = any(char in joined for char in "\\\t\n\r")
    safe = [escaped(text) for text in plain] if needs_escape else plain
    return _Texts(plain, safe, faults, frozenset(long))


def _read_tres_sets(sets: Iterable[tuple[list[int], list[int]]], texts: _Texts) -> _TresSets:
    plain: list[Tres] = []
    safe: list[str] = []
    faults = {}
    words = texts.plain
    for index, (names, counts) in enumerate(sets):
        if names and max(names) >= len(words):
            found = _Allocation((), "", "names a resource that is not in the batch's dictionary")
        else:
            found = _allocation(tuple([words[name] for name in names]), tuple(counts))
        plain.append(found.tres)
        safe.append(found.safe)
        if found.fault:
            faults[index] = found.fault
    return _TresSets(plain, safe, faults)


class _Allocation(NamedTuple):
    tres: Tres
    safe: str
    fault: str


@lru_cache(maxsize=CACHED_TRES)
def _allocation(names: tuple[str, ...], counts: tuple[int, ...]) -> _Allocation:
    """Return an allocation and its text, or what is wrong with it; clusters see few."""
    fault = _tres_fault(names, counts)
    if fault:
        return _Allocation((), "", fault)
    tres = tuple(sorted(zip(names, counts, strict=True)))
    return _Allocation(tres, escaped(tres_text(tres)), "")


def _tres_fault(names: tuple[str, ...], counts: tuple[int, ...]) -> str:
    if len(names) != len(counts) or len(names) > MAX_TRES:
        return f"has {len(names)} names for {len(counts)} counts (at most {MAX_TRES})"
    if len(set(names)) != len(names):
        return "names a resource twice"
    for name in names:
        if not name or len(name) > MAX_KEY_CHARS or not NOT_IN_TRES.isdisjoint(name):
            return f"holds {name[:MAX_KEY_CHARS]!r}, which is not the name of a resource"
    if max(counts, default=0) > MAX_COUNT:
        return f"counts {max(counts)} of a resource, more than any cluster has"
    return ""


def clean_text(text: str) -> str:
    """PostgreSQL cannot hold NUL in text; the raw form keeps what really came."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
