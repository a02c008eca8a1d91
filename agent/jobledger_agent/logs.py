"""One line an event on stderr; with a priority before it when the journal reads."""

import logging
import sys
from typing import Final

_PRIORITIES: Final = {
    logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2,
}  # fmt: skip
_SEVERAL_LINES: Final = str.maketrans({"\n": "\\n", "\r": "\\r", "\x1b": "\\x1b"})


class _OneLine(logging.Formatter):
    """Keeps what came from outside from forging a line of its own; tracebacks stay readable."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)s %(message)s")
        self._journal = journal

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        record.message = record.message.translate(_SEVERAL_LINES)
        line = super().formatMessage(record)
        return f"<{_PRIORITIES.get(record.levelno, 5)}>{line}" if self._journal else line


def start(*, journal: bool, quiet: bool = False) -> None:
    """Send the log to stderr; ``quiet`` leaves out what is not wrong."""
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(_OneLine(journal=journal))
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, handlers=[out])
