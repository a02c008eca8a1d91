"""How a command of ``jobledger`` fails, beside what fails below it.

Each is a ``CollectorError``: one sentence on stderr and its own exit code. The
others are in ``core.errors`` (ConfigInvalid 3, DatabaseFailed 4) and
``core.node`` (InvalidDocument 5).
"""

from typing import ClassVar

from jobledger_collector.core.errors import CollectorError


class CommandFailed(CollectorError):
    """The command could not do what was asked; the message says what to do."""


class BadUsage(CollectorError):
    """The command line is not valid."""

    exit_code: ClassVar[int] = 2


class BadInput(CollectorError):
    """A file that was given cannot be read."""

    exit_code: ClassVar[int] = 5
