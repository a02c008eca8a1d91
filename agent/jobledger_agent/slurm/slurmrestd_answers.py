"""What slurmrestd answered: whole, without errors, and in which words. Every version from 22.05.

Slurm of 22.05 answers HTTP 200 to a bad token, and with an error to a question
that finds nothing; later versions answer with a warning there. So neither the
status nor the list of errors alone tells whether an empty answer is a true one.
"""

import re
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final, NamedTuple

import ijson

from jobledger_agent.parsing.bytestream import CleanJson
from jobledger_agent.parsing.fields import clean
from jobledger_agent.parsing.growing import Growing
from jobledger_agent.parsing.jsondump import BUFFER_BYTES, MAX_PATH_CHARS, Json
from jobledger_agent.reading.accounting import TooMuch
from jobledger_agent.slurm.slurmrestd_http import Reply
from jobledger_agent.source import SourceError

NOT_FOUND: Final = 404
UNKNOWN_USER: Final = frozenset({401, 403, 511})
OK: Final = 200
NOTHING_FOUND: Final = 9003
"""The error by which Slurm up to 22.05 says that the answer is empty."""
SAID_CHARS: Final = 200
"""Of what slurmrestd says was wrong, in our own words."""

_AUTH = re.compile(r"authentication|permission", re.IGNORECASE)
_TOO_MUCH = re.compile(r"too (?:wide|large)|exceeds size|result too", re.IGNORECASE)


class Fault(NamedTuple):
    """One of the errors of an answer."""

    number: int
    text: str


class Proof(NamedTuple):
    """What a whole answer says of itself. ``cluster`` is slurmrestd's own, "" if untold."""

    is_empty: bool
    cluster: str


def prove(reply: Reply, what: str, list_name: str) -> Proof:
    """Read an answer through. Raises SourceError unless it is whole and without errors.

    ``list_name`` is the list that it must hold ("": none); the body is wound back.
    """
    if reply.status == NOT_FOUND:
        raise SourceError(f"{what} is not served; slurmrestd may have been upgraded")
    if reply.status in UNKNOWN_USER:
        raise SourceError(
            f"{what} was refused with HTTP {reply.status}: check token_file and user, or by a"
            " socket file the agent's own user; slurmrestd takes neither root nor SlurmUser"
        )
    walk = _Envelope(list_name)
    try:
        for prefix, event, value in events(reply.body):
            walk.event(prefix, event, value)
    except (ijson.JSONError, UnicodeDecodeError, ArithmeticError) as error:
        raise SourceError(
            f"{what} was answered with HTTP {reply.status} and no whole JSON ({_line(error)});"
            " it is asked again"
        ) from error
    finally:
        reply.body.seek(0)
    return walk.proof(reply.status, what)


def events(body: BinaryIO) -> Iterator[tuple[str, str, Json]]:
    """The parser's events: path, kind, value. Raises JSONError for what is no JSON."""
    for prefix, event, value in ijson.parse(CleanJson(body), buf_size=BUFFER_BYTES):
        if len(prefix) > MAX_PATH_CHARS:
            raise ijson.JSONError("it nests deeper than anything of Slurm's")
        yield prefix, event, value


def objects(body: BinaryIO, list_name: str) -> Iterator[Mapping[str, Json]]:
    """The objects of a proved answer's list, one in memory at a time. Raises SourceError."""
    prefix, growing = f"{list_name}.item", Growing()
    for path, event, value in events(body):
        if not path.startswith(prefix):
            continue
        if path == prefix and event == "start_map":
            growing = Growing()
        growing.event(event, value)
        if path == prefix and event == "end_map":
            if not growing.is_whole:
                raise SourceError(f"slurmrestd tells an object in {list_name} that is too large")
            yield growing.value


class _Envelope:
    """Everything of an answer but its list."""

    def __init__(self, list_name: str) -> None:
        self._list = list_name
        self._has_list = False
        self._is_empty = True
        self._cluster = ""
        self._faults: list[Fault] = []

    def event(self, prefix: str, event: str, value: Json) -> None:
        """Take one event of the parser."""
        if prefix == self._list and event == "start_array":
            self._has_list = True
        elif prefix == f"{self._list}.item" and event == "start_map":
            self._is_empty = False
        elif prefix == "errors.item" and event == "start_map" and len(self._faults) < SAID_CHARS:
            self._faults.append(Fault(0, ""))
        elif prefix.startswith("errors.item.") and self._faults:
            self._fault(prefix.rpartition(".")[2], value)
        elif prefix in {"meta.slurm.cluster", "meta.Slurm.cluster"} and isinstance(value, str):
            self._cluster = value

    def _fault(self, key: str, value: Json) -> None:
        last = self._faults[-1]
        if key == "error_number" and isinstance(value, int):
            self._faults[-1] = last._replace(number=value)
        elif key in {"description", "error"} and isinstance(value, str):
            text = f"{last.text}: {value}" if last.text else value
            self._faults[-1] = last._replace(text=text[:SAID_CHARS])

    def proof(self, status: int, what: str) -> Proof:
        """Judge the whole. Raises SourceError, TooMuch."""
        faults = [fault for fault in self._faults if fault.number != NOTHING_FOUND]
        said = "; ".join(_line(fault.text) for fault in faults)[:SAID_CHARS]
        if _TOO_MUCH.search(said):
            raise TooMuch(f"{what} was refused: {said}")
        if faults or (status != OK and not self._faults):
            hint = "check token_file and user" if _AUTH.search(said) else "it is asked again"
            raise SourceError(
                f"{what} failed with HTTP {status} ({said or 'no reason given'}); {hint}"
            )
        if self._list and not self._has_list and not self._faults:
            raise SourceError(f"{what} was answered without {self._list}; it is asked again")
        if self._faults and not self._is_empty:
            raise SourceError(f"{what} found nothing and told something; it is asked again")
        return Proof(self._is_empty, self._cluster)


def _line(value: object) -> str:
    return " ".join(clean(str(value)).split())[:SAID_CHARS]
