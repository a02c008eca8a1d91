"""One line an event on stderr; with a priority before it when the journal reads."""

import logging
import sys
from collections.abc import Mapping
from typing import Final

_PRIORITIES: Final = {
    logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2,
}  # fmt: skip
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class _OneLine(logging.Formatter):
    """Keeps what came from outside from forging a line of its own; tracebacks stay readable."""

    def __init__(self, *, journal: bool) -> None:
        prefix = "" if journal else "%(asctime)s %(levelname)s "
        super().__init__(f"{prefix}%(name)s: %(message)s")
        self._journal = journal

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = record.message.translate(_CONTROLS)
        line = super().formatMessage(record)
        return f"<{_PRIORITIES.get(record.levelno, 5)}>{line}" if self._journal else line


def start(level: str, environ: Mapping[str, str]) -> None:
    """Send the log from ``level`` on ("debug" to "error") to stderr."""
    out = logging.StreamHandler(sys.stderr)
    # systemd sets this where the journal reads stderr; it knows the time itself.
    out.setFormatter(_OneLine(journal="JOURNAL_STREAM" in environ))
    logging.basicConfig(level=level.upper(), handlers=[out])
    logging.getLogger("alembic").setLevel(logging.WARNING)
