"""How a command ends: 0, or one of these, each one sentence on stderr.

``CommandFailed`` (exit 1) is the root::

    CommandFailed      1  it could not be done
    ├── BadUsage       2  the command line is not valid
    ├── BadConfig      3  jobledger.toml or the environment is not valid
    ├── BadDatabase    4  the database cannot be used
    └── BadInput       5  a file that was given is not valid
"""

from typing import ClassVar


class CommandFailed(Exception):
    """The command could not do what was asked; the message says what to do."""

    exit_code: ClassVar[int] = 1


class BadUsage(CommandFailed):
    """The command line is not valid."""

    exit_code: ClassVar[int] = 2


class BadConfig(CommandFailed):
    """A setting is not valid."""

    exit_code: ClassVar[int] = 3


class BadDatabase(CommandFailed):
    """The database cannot be used."""

    exit_code: ClassVar[int] = 4


class BadInput(CommandFailed):
    """A file that was given is not valid."""

    exit_code: ClassVar[int] = 5
