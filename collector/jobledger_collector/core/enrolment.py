"""Who may report for which clusters: one decision, made of what is known and what was shown.

An agent is enrolled by name. What its enrolment holds, a token, the name of a
certificate or both, must all be shown; nobody else speaks for its clusters. An
agent without an enrolment speaks only for clusters that nobody owns, and only
where the listener lets strangers in.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Final, NamedTuple

NEVER: Final = 0
"""Expiry of what does not expire."""


class Token(NamedTuple):
    """A token that was given out: what it hashes to, and when it ends (epoch s, NEVER)."""

    sha256: str
    expires_at: int


class Enrolment(NamedTuple):
    """One agent that may report; ``revoked_at`` in epoch seconds, 0 while it stands."""

    agent: str
    clusters: frozenset[str]
    asks_token: bool
    certificate_name: str
    revoked_at: int
    tokens: tuple[Token, ...]


class Shown(NamedTuple):
    """What came with a call: SHA-256 of its token ("" none) and its certificate.

    ``names`` are those in the certificate that the handshake verified (URI, DNS,
    common name), ``expires_at`` is when that ends (epoch seconds, NEVER without).
    """

    token_sha256: str
    names: frozenset[str]
    expires_at: int


class Listener(NamedTuple):
    """How strangers are met: SHA-256 of the token that all share ("" none), or openly.

    ``open_to_all`` is only ever true on loopback.
    """

    shared_sha256: str
    open_to_all: bool


class Known(NamedTuple):
    """What is enrolled, of one generation, as far as one agent is concerned.

    ``enrolment`` is the agent's own, ``shown_owner`` is whose token or
    certificate was shown ("" nobody's), ``owners`` names an owner of each
    cluster that has one.
    """

    generation: int
    enrolment: Enrolment | None
    shown_owner: str
    owners: Mapping[str, str]


class Scope(NamedTuple):
    """For which clusters an agent may speak, as long as its proof lasts.

    ``own`` None: not enrolled, any cluster but those of ``owners``. ``until`` is
    when the proof expires (epoch seconds, NEVER).
    """

    agent: str
    own: frozenset[str] | None
    owners: Mapping[str, str]
    until: int

    def permits(self, cluster: str) -> bool:
        """Whether the agent may speak for a cluster."""
        return cluster in self.own if self.own is not None else not _owner(cluster, self.owners)

    def lasts(self, now_s: int) -> bool:
        """Whether what was shown is still valid."""
        return self.until == NEVER or now_s < self.until


class Why(Enum):
    """What kind of refusal it is: who you are is not proved, or you may not."""

    NOT_PROVED = "not proved"
    NOT_ALLOWED = "not allowed"


class Refused(NamedTuple):
    """Why an agent may not report, in one sentence for its operator."""

    why: Why
    sentence: str


def sha256_of(token: str) -> str:
    """Return what is kept of a token: it is random and long, so a plain hash will do."""
    return hashlib.sha256(token.encode()).hexdigest()


def anywhere(agent: str) -> Scope:
    """Return the scope of one who works on the database itself, as the demo does."""
    return Scope(agent, None, {}, NEVER)


def admit(
    agent: str,
    clusters: Collection[str],
    shown: Shown,
    known: Known,
    listener: Listener,
    now_s: int,
) -> Scope | Refused:
    """Decide whether an agent may report for these clusters (Hello's), and until when."""
    if shown.expires_at != NEVER and shown.expires_at <= now_s:
        return Refused(
            Why.NOT_PROVED,
            f"The certificate of agent {agent} expired on {_day(shown.expires_at)}: renew it"
            " (docs/agents.md), the agent takes the new file without a restart.",
        )
    if known.enrolment is None:
        return _stranger(agent, clusters, shown, known, listener)
    return _enrolled(known.enrolment, clusters, shown, known, now_s)


def foreign(agent: str, cluster: str) -> str:
    """Say why a record of a cluster is not taken from an agent."""
    return (
        f"Agent {agent} may not speak for cluster {cluster or '(none)'}: enrol it for that cluster"
        " (`jobledger agents add`) or correct what it reads."
    )


def _enrolled(
    enrolment: Enrolment, clusters: Collection[str], shown: Shown, known: Known, now_s: int
) -> Scope | Refused:
    agent = enrolment.agent
    if enrolment.revoked_at:
        return Refused(
            Why.NOT_ALLOWED,
            f"Agent {agent} was revoked on {_day(enrolment.revoked_at)}: `jobledger agents add`"
            " enrols it again.",
        )
    ends = [shown.expires_at]
    if enrolment.asks_token:
        token = _matching(enrolment.tokens, shown.token_sha256)
        if token is None:
            return Refused(
                Why.NOT_PROVED,
                f"Agent {agent} is enrolled with a token, and the call shows none of its own: set"
                " token_file in the agent's settings (`jobledger-agent enroll` does).",
            )
        if token.expires_at != NEVER and token.expires_at <= now_s:
            return Refused(
                Why.NOT_PROVED,
                f"The token of agent {agent} was replaced and ended on {_day(token.expires_at)}:"
                " enrol it with the code of `jobledger agents rotate`.",
            )
        ends.append(token.expires_at)
    if enrolment.certificate_name and enrolment.certificate_name not in shown.names:
        return Refused(
            Why.NOT_PROVED,
            f"Agent {agent} is enrolled with the certificate {enrolment.certificate_name}, and the"
            f" call shows {_listed(shown.names) or 'none'}: set cert_file and key_file in the"
            " agent's settings.",
        )
    others = sorted(set(clusters) - enrolment.clusters)
    if others:
        return Refused(
            Why.NOT_ALLOWED,
            f"Agent {agent} is enrolled for {_listed(enrolment.clusters)}, not for"
            f" {_listed(others)}: correct the clusters of its sources, or enrol it for them.",
        )
    until = min((end for end in ends if end != NEVER), default=NEVER)
    return Scope(agent, enrolment.clusters, known.owners, until)


def _stranger(
    agent: str, clusters: Collection[str], shown: Shown, known: Known, listener: Listener
) -> Scope | Refused:
    if known.shown_owner:
        return Refused(
            Why.NOT_ALLOWED,
            f"What this call shows is enrolled for agent {known.shown_owner}, not for {agent}: set"
            f' name = "{known.shown_owner}" under [agent] in its settings.',
        )
    if listener.shared_sha256:
        if not hmac.compare_digest(listener.shared_sha256, shown.token_sha256):
            return Refused(
                Why.NOT_PROVED,
                "This collector asks agents for a token: set token_file in the agent's settings, or"
                " enrol the agent (docs/agents.md).",
            )
    elif not listener.open_to_all:
        return Refused(
            Why.NOT_PROVED,
            f"Agent {agent} is not enrolled here: run `jobledger agents add CLUSTER` at the"
            " collector, then `jobledger-agent enroll` with the code it prints.",
        )
    for cluster in sorted(clusters):
        if owner := _owner(cluster, known.owners):
            return Refused(
                Why.NOT_ALLOWED,
                f"Cluster {cluster} belongs to the enrolled agent {owner}: agent"
                f" {agent} may not report for it.",
            )
    return Scope(agent, None, known.owners, shown.expires_at)


def _owner(cluster: str, owners: Mapping[str, str]) -> str:
    """Return who owns a cluster, "" for nobody. Slurm's names differ by more than by case."""
    folded = cluster.lower()
    return next((owner for name, owner in owners.items() if name.lower() == folded), "")


def _matching(tokens: Collection[Token], sha256: str) -> Token | None:
    """Find a token without telling by the time taken how much of it was right."""
    found = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, sha256):
            found = token
    return found


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


def _day(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
