"""Bytes of a file, plain or gzipped, and the lines in them: bounded however large."""

import codecs
import errno
import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from jobledger_agent.records.job import MAX_RAW_BYTES
from jobledger_agent.source import SourceError

CHUNK_BYTES = 131_072
"""Read at a time."""
MAX_LINE_BYTES = 524_288
"""A longer line is no record of Slurm's: it is kept aside, cut to 64 KiB."""
MAX_STRING_BYTES = 4_194_304
"""Bytes without a quotation mark in JSON: no text of Slurm's is that long."""

_LONG_NUMBER = b"9" * 64
"""In place of a buffer of digits: still beyond every figure of Slurm's."""
_GZIP = b"\x1f\x8b"


class LongLine(NamedTuple):
    """A line of which only the beginning was kept. ``size`` is in bytes."""

    head: bytes
    size: int


class Tail(NamedTuple):
    """What follows the last newline of a file: empty if nothing was cut off."""

    text: str


class Readable(Protocol):
    """Something that bytes come from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; empty at the end."""


class Dump:
    """An open dump. A gzip stream that breaks off ends there; ``cut`` says why.

    ``taken_bytes`` counts what ``read`` has given, unzipped.
    """

    def __init__(self, path: Path, *, follow_links: bool = True) -> None:
        """Without ``follow_links`` only a plain file is opened. Raises SourceError."""
        try:
            self._file = path.open("rb") if follow_links else _plain(path)
            zipped = self._file.read(len(_GZIP)) == _GZIP
            self._file.seek(0)
        except OSError as error:
            raise SourceError(
                f"cannot read {path}: {error.strerror}; check its name and permissions"
            ) from error
        self._path = path
        self._stream = gzip.GzipFile(fileobj=self._file) if zipped else self._file
        self._head = b""
        self.cut = ""
        self.taken_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def peek(self, size: int) -> bytes:
        """The first ``size`` bytes, to be read again."""
        while len(self._head) < size:
            more = self._next(size - len(self._head))
            if not more:
                break
            self._head += more
        return self._head[:size]

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; empty at the end, also where gzip breaks off."""
        wanted = CHUNK_BYTES if size < 0 else size
        if self._head and wanted:
            chunk, self._head = self._head[:wanted], self._head[wanted:]
        else:
            chunk = self._next(wanted)
        self.taken_bytes += len(chunk)
        return chunk

    def _next(self, size: int) -> bytes:
        if self.cut:
            return b""
        try:
            # read1 and not read: what came before a break in gzip must not be lost.
            return self._stream.read1(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.cut = f"its compressed data ends or breaks ({error})"
        except OSError as error:
            raise SourceError(f"cannot read {self._path}: {error.strerror}; try again") from error
        return b""


def _plain(path: Path) -> BufferedReader:
    """Open a file that is no link, pipe or device. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no plain file")
    return os.fdopen(handle, "rb")


class CleanJson:
    """Bytes for a JSON parser: valid UTF-8 whatever Slurm wrote, nothing endless."""

    def __init__(self, dump: Readable) -> None:
        self._dump = dump
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unquoted = 0
        self._digits = False

    def read(self, size: int = -1, /) -> bytes:
        """As ``Dump.read``. Raises SourceError at a text that is too long.

        A number of thousands of digits, which would end the parser and the
        whole program with it, is shortened to one that is too large all the same.
        """
        while chunk := self._filled(size):
            digits, self._digits = self._digits, chunk.isdigit() and len(chunk) == size
            if self._digits:
                if digits:
                    continue
                chunk = _LONG_NUMBER
            last = chunk.rfind(b'"')
            self._unquoted = len(chunk) - last - 1 if last >= 0 else self._unquoted + len(chunk)
            if self._unquoted > MAX_STRING_BYTES:
                raise SourceError(
                    f"the JSON holds a text of more than {MAX_STRING_BYTES >> 20} MiB, which is"
                    " nothing of Slurm's; what came before it is kept; take the dump again"
                )
            if text := self._decoder.decode(chunk).lstrip("\ufeff"):
                return text.encode()
            if not size:
                break
        return self._decoder.decode(b"", final=True).encode()

    def _filled(self, size: int) -> bytes:
        """As many bytes as are wanted, if there are: a long number must fill a whole one."""
        chunk = self._dump.read(size)
        while 0 < len(chunk) < size and (more := self._dump.read(size - len(chunk))):
            chunk += more
        return chunk


def lines(dump: Readable) -> Iterator[list[str] | LongLine | Tail]:
    """The lines in blocks, decoded with surrogateescape; at last the Tail."""
    rest = b""
    while chunk := dump.read(CHUNK_BYTES):
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            yield _text(whole).split("\n")
        if len(rest) > MAX_LINE_BYTES:
            long, rest = _skip(dump, rest)
            yield long
    # What came with the end of a long line may be whole lines, too.
    whole, newline, rest = rest.rpartition(b"\n")
    if newline:
        yield _text(whole).split("\n")
    yield Tail(_text(rest))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _skip(dump: Readable, rest: bytes) -> tuple[LongLine, bytes]:
    """Read to the end of a line that is too long; the line, and what follows it."""
    head, size = rest[:MAX_RAW_BYTES], len(rest)
    while chunk := dump.read(CHUNK_BYTES):
        end = chunk.find(b"\n")
        if end >= 0:
            return LongLine(head, size + end), chunk[end + 1 :]
        size += len(chunk)
    return LongLine(head, size), b""
