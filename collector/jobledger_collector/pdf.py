"""PDF bytes of a document, drawn in a child process: the parent's side.

The drawing library is large, loads native code and sees text that people typed.
It runs in ``jobledger_web.render``, which gets this module's allow-listed
environment, an empty scratch folder and limits on time, memory and size, and
which this package never imports. Request and answer are frames on the child's
stdin and stdout: a four-byte length, then JSON; a status byte, a four-byte
length, then the PDF or one sentence.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Literal, Self

Language = Literal["en", "th"]
"""The languages that a document is drawn in."""

TIMEOUT_S: Final = 60
"""Wall time for one document, the child's start included."""
DOCUMENT_MAX_BYTES: Final = 8 * 1024 * 1024
"""Largest document JSON that is sent to the child."""
PDF_MAX_BYTES: Final = 64 * 1024 * 1024
"""Largest PDF that is taken from the child."""
CHILDREN_MAX: Final = 2
"""Children alive at once in this process; who comes later waits."""
DOCUMENTS_PER_CHILD_MAX: Final = 100
"""Documents after which a child is replaced, so that no leak can grow."""
MODULE: Final = "jobledger_web.render"

_LENGTH_BYTES: Final = 4
_STATUS_BYTES: Final = 1
_DRAWN: Final = b"\x00"
_PASSED_ON: Final = ("PATH", "LD_LIBRARY_PATH")
_places = threading.BoundedSemaphore(CHILDREN_MAX)


class RenderFailed(Exception):
    """A document could not be drawn: one sentence that says why and what to do."""


def render_pdf(document: Mapping[str, object], language: Language) -> bytes:
    """Draw one document (the frozen JSON of an issued invoice) as PDF bytes.

    The same document and language give the same bytes. Takes about two seconds,
    most of it the child's start: for many documents use ``render_many``.
    Raises RenderFailed.
    """
    with Renderer() as renderer:
        return renderer.render(document, language)


def render_many(requests: Iterable[tuple[Mapping[str, object], Language]]) -> Iterator[bytes]:
    """Draw documents one after the other in a warm child, in the order given.

    Raises RenderFailed at the first that fails, and ends there; to go on with
    the others use ``Renderer`` and catch it for each document.
    """
    with Renderer() as renderer:
        for document, language in requests:
            yield renderer.render(document, language)


class Renderer:
    """A warm child for as long as the ``with`` block runs; for one thread.

    After a failure it can be asked for the next document: a dead child is
    replaced by a new one.
    """

    def __init__(self) -> None:
        """Take no place and start nothing yet."""
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        """Wait for a place among CHILDREN_MAX. Raises RenderFailed after TIMEOUT_S."""
        if not _places.acquire(timeout=TIMEOUT_S):
            text = (
                f"The PDF was not drawn: {CHILDREN_MAX} others are being drawn and none was done "
                f"within {TIMEOUT_S} s. Try again in a minute."
            )
            raise RenderFailed(text)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the child and give the place back."""
        try:
            self._end()
        finally:
            _places.release()

    def render(self, document: Mapping[str, object], language: Language) -> bytes:
        """Draw one document in TIMEOUT_S at most. Raises RenderFailed."""
        request = _request(document, language)
        if self._child is None:
            self._child = _Child()
        try:
            drawn, answer = self._child.exchange(request)
        except BaseException:
            self._end()
            raise
        if self._child.documents >= DOCUMENTS_PER_CHILD_MAX:
            self._end()
        if not drawn:
            raise RenderFailed(answer.decode("utf-8", "replace"))
        return answer

    def _end(self) -> None:
        """Let go of the child, whatever state it is in."""
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Child:
    """One process of MODULE with its scratch folder."""

    def __init__(self) -> None:
        self.documents = 0
        self._scratch = TemporaryDirectory(prefix="jobledger-pdf-", ignore_cleanup_errors=True)
        try:
            self._process = _spawn(self._scratch.name)
        except RenderFailed:
            self._scratch.cleanup()
            raise

    def exchange(self, request: bytes) -> tuple[bool, bytes]:
        """Send one frame, return (drawn, answer). Raises RenderFailed when no answer comes."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(TIMEOUT_S, expire)
        timer.start()
        try:
            answer = self._answer(request)
        except (OSError, EOFError) as error:
            raise RenderFailed(self._why_silent(late=expired.is_set())) from error
        finally:
            timer.cancel()
        self.documents += 1
        return answer

    def _answer(self, request: bytes) -> tuple[bool, bytes]:
        """One request, one answer. The child reads all before it writes: no deadlock."""
        if self._process.stdin is None or self._process.stdout is None:
            raise EOFError
        self._process.stdin.write(request)
        self._process.stdin.flush()
        status = self._read(_STATUS_BYTES)
        size = int.from_bytes(self._read(_LENGTH_BYTES), "big")
        if size > PDF_MAX_BYTES:
            text = f"The PDF was not taken: it has {size} bytes, more than {PDF_MAX_BYTES}."
            raise RenderFailed(text)
        return status == _DRAWN, self._read(size)

    def _read(self, size: int) -> bytes:
        """Exactly ``size`` bytes from the child, or EOFError."""
        data = self._process.stdout.read(size) if self._process.stdout else b""
        if len(data) < size:
            raise EOFError
        return data

    def _why_silent(self, *, late: bool) -> str:
        """One sentence on a child that ended without an answer."""
        if late:
            return (
                f"The PDF was not drawn within {TIMEOUT_S} s. Try again; if it happens again, "
                "the document is too long: the CSV holds the same lines."
            )
        code = self._process.wait()
        return (
            f"The PDF was not drawn: the program that draws it ({MODULE}) ended with status "
            f"{code}. Check that jobledger is installed with its web part (jobledger[web]) and the "
            "system with Pango (Debian: libpangoft2-1.0-0, libharfbuzz-subset0)."
        )

    def end(self) -> None:
        """Close the child's input, then make sure that it is gone, and its folder."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                # What was still in the buffer had a dead reader.
                continue
        self._process.wait()
        self._scratch.cleanup()


def _request(document: Mapping[str, object], language: Language) -> bytes:
    """One frame for the child. Raises RenderFailed when the document is no JSON or too long."""
    try:
        body = json.dumps(
            {"language": language, "document": document}, ensure_ascii=True, allow_nan=False
        ).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        text = f"The PDF was not drawn: its document is not JSON ({error})."
        raise RenderFailed(text) from error
    if len(body) > DOCUMENT_MAX_BYTES:
        text = (
            f"The PDF was not drawn: its document has {len(body)} bytes of JSON, more than "
            f"{DOCUMENT_MAX_BYTES}. Use the CSV for it."
        )
        raise RenderFailed(text)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def _spawn(scratch: str) -> subprocess.Popen[bytes]:
    """Start the child. Raises RenderFailed when it cannot be started."""
    try:
        return subprocess.Popen(
            # A fixed command, no shell, nothing from outside.
            # -P: a module of the same name in the current folder is not taken.
            [sys.executable, "-P", "-m", MODULE, "--frames"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=scratch,
            env=_environment(scratch),
            start_new_session=True,
        )
    except OSError as error:
        text = f"The PDF was not drawn: {sys.executable} could not be started ({error.strerror})."
        raise RenderFailed(text) from error


def _environment(scratch: str) -> dict[str, str]:
    """All that the child may know of this process: no secret is in it."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed_on | {
        "HOME": scratch,
        "TMPDIR": scratch,
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
    }
