"""How things fail in the collector: each error is one sentence for a person.

The message says what happened, where, and what to do next::

    CollectorError                exit 1
    ├── CannotListen              exit 1   an address is taken, or not this machine's
    ├── ConfigInvalid             exit 3   the settings cannot be used
    ├── DatabaseFailed            exit 4   the database refused; will not pass by itself
    │   └── DatabaseUnavailable   exit 4   the database is away; the same call may pass later
    ├── NotAdmitted               exit 1   an agent may not report, or not for what it says
    └── BatchInvalid              exit 5   a batch breaks the contract: a fault of the agent

One bad *record* is no error: it is a ``Rejected``, and its neighbours go on.
"""

from typing import ClassVar


class CollectorError(Exception):
    """What was asked could not be done."""

    exit_code: ClassVar[int] = 1


class ConfigInvalid(CollectorError):
    """A setting is missing, unknown or impossible."""

    exit_code: ClassVar[int] = 3


class CannotListen(CollectorError):
    """An address cannot be listened on now; another program may have it."""


class DatabaseFailed(CollectorError):
    """The database cannot be used as it is."""

    exit_code: ClassVar[int] = 4


class DatabaseUnavailable(DatabaseFailed):
    """The database did not answer or could not write now; nothing was stored."""


class NotAdmitted(CollectorError):
    """An agent may not report; ``proved`` is whether at least who it is was proved."""

    def __init__(self, sentence: str, *, proved: bool) -> None:
        super().__init__(sentence)
        self.proved = proved


class BatchInvalid(CollectorError):
    """A batch is not what the contract says; none of it was stored."""

    exit_code: ClassVar[int] = 5
