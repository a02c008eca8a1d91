"""Who is at the door: a call's token and certificate, checked at Hello and with every batch.

What is enrolled has a number that goes up with each change. A batch reads that
number in its own transaction, one row, and only when it moved is everything
looked at again: revocation takes effect with the next batch.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

from jobledger_collector import clock
from jobledger_collector.core.enrolment import (
    NEVER,
    Known,
    Listener,
    Refused,
    Scope,
    Shown,
    Why,
    admit,
    sha256_of,
)
from jobledger_collector.core.errors import NotAdmitted
from jobledger_collector.store import enrolments
from jobledger_collector.store.engine import reading
from jobledger_collector.store.handles import Connection, Engine
from jobledger_collector.tls import peer_certificate

LOOK_EVERY_S: Final = 2
"""How soon an open stream on which nothing comes notices that it may not stay."""
MAX_TOKEN_CHARS: Final = 4_096


def shown_by(context: Any) -> Shown:  # noqa: ANN401 - gRPC's own
    """Return what a call shows: its bearer token's hash, and its verified certificate."""
    told = dict(context.invocation_metadata()).get("authorization", "")
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else told
    token = text.removeprefix("Bearer ") if text.startswith("Bearer ") else ""
    sha256 = sha256_of(token) if 0 < len(token) <= MAX_TOKEN_CHARS else ""
    pems = context.auth_context().get("x509_pem_cert", ())
    if not pems:
        return Shown(sha256, frozenset(), NEVER)
    names, expires_at = peer_certificate(pems[0])
    return Shown(sha256, names, expires_at)


class Admission:
    """The door of one server."""

    def __init__(self, engine: Engine, listener: Listener) -> None:
        """Ask nothing of the database yet."""
        self._engine = engine
        self._listener = listener
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._generation = 0

    def knock(self, shown: Shown) -> None:
        """Turn away, before it says anything, who shows nothing that anybody here may show.

        Raises NotAdmitted, DatabaseFailed.
        """
        if self._listener.open_to_all and not self._listener.shared_sha256:
            return
        with reading(self._engine) as conn:
            owner = enrolments.owner_of(conn, shown)
        if owner:
            return
        nobody = Known(0, None, "", {})
        _raise_if_refused(admit("(unnamed)", (), shown, nobody, self._listener, clock.now_s()))

    def admit(
        self, conn: Connection, agent: str, clusters: tuple[str, ...], shown: Shown
    ) -> "Pass":
        """Return the pass of an agent that said Hello; raises NotAdmitted."""
        made = Pass(agent, clusters, shown, self._listener)
        made.confirm(conn)
        return made

    def has_moved(self, held: "Pass") -> bool:
        """Whether a pass must be confirmed again; the database is asked at most so often.

        Raises DatabaseFailed.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._looked_at >= LOOK_EVERY_S:
                self._looked_at = now
                with reading(self._engine) as conn:
                    self._generation = enrolments.generation(conn)
            return self._generation > held.generation or not held.scope.lasts(clock.now_s())


@dataclass
class Pass:
    """What lets one stream in, for as long as nothing changed that it rests on."""

    agent: str
    clusters: tuple[str, ...]
    shown: Shown
    listener: Listener
    generation: int = -1
    scope: Scope = field(init=False)

    def __post_init__(self) -> None:
        """Permit nothing before it is confirmed."""
        self.scope = Scope(self.agent, frozenset(), {}, NEVER)

    def confirm(self, conn: Connection) -> Scope:
        """Return for what the agent may speak, in this transaction; raises NotAdmitted."""
        now_s = clock.now_s()
        if enrolments.generation(conn) == self.generation and self.scope.lasts(now_s):
            return self.scope
        known = enrolments.read_known(conn, self.agent, self.shown)
        found = _raise_if_refused(
            admit(self.agent, self.clusters, self.shown, known, self.listener, now_s)
        )
        self.generation, self.scope = known.generation, found
        return found


def _raise_if_refused(found: Scope | Refused) -> Scope:
    if isinstance(found, Refused):
        raise NotAdmitted(found.sentence, proved=found.why is not Why.NOT_PROVED)
    return found
