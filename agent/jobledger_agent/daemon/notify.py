"""Telling systemd how the agent is, by a plain datagram (sd_notify(3))."""

import logging
import socket
from typing import Final

from jobledger_agent.settings.config import Supervisor

USEC_PER_MS: Final = 1000

log = logging.getLogger(__name__)


class Notifier:
    """Speaks to systemd; says nothing when systemd did not ask."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._address = supervisor.notify_socket
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]  # Linux's abstract namespace
        self.watchdog_ms = supervisor.watchdog_usec // USEC_PER_MS

    def ready(self) -> None:
        """The agent is up: its spool is open and its metrics are served."""
        self._say("READY=1")

    def stopping(self) -> None:
        """The agent was told to stop."""
        self._say("STOPPING=1")

    def alive(self) -> None:
        """Every thread is well."""
        if self.watchdog_ms:
            self._say("WATCHDOG=1")

    def _say(self, what: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
                datagram.sendto(what.encode(), self._address)
        except OSError as error:
            log.warning("systemd's notify socket does not answer: %s", error)
