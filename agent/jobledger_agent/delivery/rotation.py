"""Whether the files that prove who the agent is were replaced since a stream was opened."""

import logging
from pathlib import Path
from typing import Final, NamedTuple

from jobledger_agent.delivery.tls import bearer_token, credentials
from jobledger_agent.settings.config import ConfigError
from jobledger_agent.settings.sections import CollectorSection

REPLACED: Final = "a certificate or token of this agent was replaced"

log = logging.getLogger(__name__)


class _Stamp(NamedTuple):
    """What a file looks like from outside; zeros when it is not there."""

    path: Path
    inode: int
    size: int
    changed_ns: int


class Rotation:
    """Watches the files of the [collector] section, without reading them until they change."""

    def __init__(self, collector: CollectorSection) -> None:
        self._collector = collector
        self._refused: tuple[_Stamp, ...] = ()
        self._used: tuple[_Stamp, ...] = ()
        self.use()

    def use(self) -> None:
        """A stream is opened with the files as they are now."""
        self._used = self._stamps()

    def reason(self) -> str:
        """Return why the stream should be replaced, "" while it should not.

        Files that do not work yet (a key that its certificate has still to follow)
        are no reason: the stream that stands was opened with ones that did.
        """
        stamps = self._stamps()
        if stamps in (self._used, self._refused):
            return ""
        try:
            credentials(self._collector)
            bearer_token(self._collector)
        except ConfigError as error:
            self._refused = stamps
            log.warning("the stream is kept with the certificates that it was opened with: %s",
                        error)  # fmt: skip
            return ""
        return REPLACED

    def _stamps(self) -> tuple[_Stamp, ...]:
        files = self._collector
        paths = (files.ca_file, files.cert_file, files.key_file, files.token_file)
        return tuple(_stamp(path) for path in paths if path)


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return _Stamp(path, 0, 0, 0)
    return _Stamp(path, status.st_ino, status.st_size, status.st_mtime_ns)
