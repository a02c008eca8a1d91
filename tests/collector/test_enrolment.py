"""Who may report: the decision as a table, what is kept of it, and each batch's own look."""

from collections.abc import Sequence
from typing import Any, Final

import pytest

from jobledger_collector.admission import Admission
from jobledger_collector.core.enrolment import (
    NEVER,
    Enrolment,
    Known,
    Listener,
    Refused,
    Scope,
    Shown,
    Token,
    Why,
    admit,
    sha256_of,
)
from jobledger_collector.core.errors import NotAdmitted
from jobledger_collector.core.record import Verdict
from jobledger_collector.core.tree import TreeEntry, TreeKind
from jobledger_collector.ingest import Ingest
from jobledger_collector.store import enrolments, tree
from jobledger_collector.store.engine import open_engine, reading, transaction
from jobledger_collector.store.enrolments import Enrolled
from jobledger_collector.store.handles import Engine
from jobledger_collector.wire import Decoded, decode
from jobledger_proto.v1 import usage_pb2
from tests.collector.ingesting import Collector
from tests.factories import a_job, a_row, columns_of, decoded

NOW: Final = 1_000
MINE: Final = sha256_of("m" * 43)
OLD: Final = sha256_of("o" * 43)
SHARED: Final = sha256_of("s" * 43)
NOBODY_S: Final = sha256_of("n" * 43)
URI: Final = "spiffe://jobledger/agent/slurm-1"


def shown(token: str = "", *names: str, ends: int = NEVER) -> Shown:
    return Shown(token, frozenset(names), ends)


def enrolment(**over: Any) -> Enrolment:  # noqa: ANN401 - any field
    usual: dict[str, Any] = {
        "agent": "slurm-1", "clusters": frozenset({"alpha"}), "asks_token": True,
        "certificate_name": "", "revoked_at": 0, "tokens": (Token(MINE, NEVER),),
    }  # fmt: skip
    return Enrolment(**{**usual, **over})


def known(own: Enrolment | None, shown_owner: str = "") -> Known:
    return Known(7, own, shown_owner, {"alpha": "slurm-1"})


BOTH: Final = enrolment(certificate_name=URI)
ONLY_CERTIFICATE: Final = enrolment(certificate_name=URI, asks_token=False, tokens=())
ROTATED: Final = enrolment(tokens=(Token(OLD, NOW + 5), Token(MINE, NEVER)))
OPEN: Final = Listener("", open_to_all=True)
CLOSED: Final = Listener("", open_to_all=False)
WITH_TOKEN: Final = Listener(SHARED, open_to_all=False)
IN, UNPROVED, DENIED = None, Why.NOT_PROVED, Why.NOT_ALLOWED

ENROLLED: list[tuple[str, Enrolment, Shown, Sequence[str], Why | None, str]] = [
    ("its token", enrolment(), shown(MINE), ["alpha"], IN, ""),
    ("no clusters told yet", enrolment(), shown(MINE), [], IN, ""),
    ("no token", enrolment(), shown(), ["alpha"], UNPROVED, "set token_file"),
    ("another token", enrolment(), shown(NOBODY_S), ["alpha"], UNPROVED, "none of its own"),
    ("the shared token", enrolment(), shown(SHARED), ["alpha"], UNPROVED, "none of its own"),
    ("a cluster of others", enrolment(), shown(MINE), ["alpha", "beta"], DENIED, "not for beta"),
    ("revoked", enrolment(revoked_at=60), shown(MINE), ["alpha"], DENIED, "revoked on 1970-01-01"),
    ("both shown", BOTH, shown(MINE, URI, "x"), ["alpha"], IN, ""),
    ("only the token of both", BOTH, shown(MINE), ["alpha"], UNPROVED, "shows none"),
    ("only the certificate of both", BOTH, shown("", URI), ["alpha"], UNPROVED, "with a token"),
    ("another certificate", BOTH, shown(MINE, "evil"), ["alpha"], UNPROVED, "shows evil"),
    ("only a certificate", ONLY_CERTIFICATE, shown("", URI), ["alpha"], IN, ""),
    ("without it", ONLY_CERTIFICATE, shown(MINE), ["alpha"], UNPROVED, "cert_file"),
    ("an expired one", BOTH, shown(MINE, URI, ends=NOW), [], UNPROVED, "expired on 1970-01-01"),
    ("a replaced token in time", ROTATED, shown(OLD), [], IN, ""),
    ("the new token", ROTATED, shown(MINE), [], IN, ""),
    (
        "a replaced token too late",
        enrolment(tokens=(Token(OLD, NOW),)), shown(OLD), [], UNPROVED, "was replaced",
    ),
]  # fmt: skip


@pytest.mark.parametrize("listener", [OPEN, CLOSED, WITH_TOKEN])
@pytest.mark.parametrize(("what", "own", "given", "clusters", "wanted", "says"), ENROLLED)
def test_an_enrolled_agent_shows_all_that_its_enrolment_holds_wherever_it_calls(
    what: str,
    own: Enrolment,
    given: Shown,
    clusters: Sequence[str],
    wanted: Why | None,
    says: str,
    listener: Listener,
) -> None:
    found = admit("slurm-1", clusters, given, known(own), listener, NOW)
    check(what, found, wanted, says)


STRANGERS: list[tuple[str, Listener, Shown, str, Sequence[str], Why | None, str]] = [
    ("loopback", OPEN, shown(), "", ["beta"], IN, ""),
    ("loopback, some token", OPEN, shown(NOBODY_S), "", ["beta"], IN, ""),
    ("an owned cluster", OPEN, shown(), "", ["alpha"], DENIED, "belongs to the enrolled agent"),
    ("from elsewhere", CLOSED, shown(), "", ["beta"], UNPROVED, "is not enrolled here"),
    ("a certificate alone", CLOSED, shown("", "x"), "", ["beta"], UNPROVED, "not enrolled"),
    ("the shared token", WITH_TOKEN, shown(SHARED), "", ["beta"], IN, ""),
    ("the shared token, owned", WITH_TOKEN, shown(SHARED), "", ["alpha"], DENIED, "belongs"),
    ("a wrong token", WITH_TOKEN, shown(NOBODY_S), "", ["beta"], UNPROVED, "asks agents"),
    ("no token", WITH_TOKEN, shown(), "", [], UNPROVED, "set token_file"),
    ("another's token", OPEN, shown(MINE), "slurm-1", ["beta"], DENIED, 'name = "slurm-1"'),
]


@pytest.mark.parametrize(
    ("what", "listener", "given", "owner", "clusters", "wanted", "says"), STRANGERS
)
def test_who_is_not_enrolled_speaks_only_for_what_nobody_owns(
    what: str,
    listener: Listener,
    given: Shown,
    owner: str,
    clusters: Sequence[str],
    wanted: Why | None,
    says: str,
) -> None:
    found = admit("other", clusters, given, known(None, owner), listener, NOW)
    check(what, found, wanted, says)


def check(what: str, found: Scope | Refused, wanted: Why | None, says: str) -> None:
    if wanted is None:
        assert isinstance(found, Scope), (what, found)
        assert found.permits("alpha") is (found.own is not None), what
    else:
        assert isinstance(found, Refused), what
        assert found.why is wanted, what
        assert says in found.sentence, what


def test_a_scope_lasts_as_long_as_the_first_of_its_proofs() -> None:
    rotated = enrolment(certificate_name=URI, tokens=(Token(OLD, NOW + 5),))
    for ends, until in ((NOW + 3, NOW + 3), (NOW + 9, NOW + 5), (NEVER, NOW + 5)):
        found = admit("slurm-1", [], shown(OLD, URI, ends=ends), known(rotated), CLOSED, NOW)
        assert isinstance(found, Scope)
        assert found.until == until
        assert found.lasts(until - 1)
        assert not found.lasts(until)


def add(engine: Engine, agent: str = "slurm-1", token: str = MINE, **over: Any) -> None:  # noqa: ANN401
    usual: dict[str, Any] = {
        "agent": agent, "clusters": ("alpha",), "asks_token": True, "certificate_name": "",
        "enrolled_at": 5, "enrolled_by": "root", "revoked_at": 0, "revoked_by": "", "tokens": (),
    }  # fmt: skip
    with transaction(engine) as conn:
        enrolments.enrol(conn, Enrolled(**{**usual, **over}))
        enrolments.add_token(conn, agent, token, 5, "root")


def test_what_is_enrolled_is_kept_and_counted(database_url: str) -> None:
    engine = open_engine(database_url)
    add(engine, clusters=("alpha", "beta"))
    with reading(engine) as conn:
        found = enrolments.find(conn, "slurm-1")
        before = enrolments.generation(conn)
        assert enrolments.owners_of(conn, ["Alpha", "gamma"]) == {"alpha": "slurm-1"}
        assert enrolments.owner_of(conn, shown(MINE)) == "slurm-1"
        assert enrolments.owner_of(conn, shown(OLD)) == ""
    assert found
    assert (found.clusters, found.tokens) == (("alpha", "beta"), (Token(MINE, NEVER),))
    with transaction(engine) as conn:
        assert enrolments.revoke(conn, "slurm-1", 70, "root")
        assert not enrolments.revoke(conn, "slurm-1", 80, "root")
        assert enrolments.remove(conn, "slurm-1")
        assert not enrolments.remove(conn, "slurm-1")
        assert enrolments.generation(conn) > before
        assert enrolments.list_enrolled(conn) == []


def test_tokens_end_after_their_grace_and_are_few(database_url: str) -> None:
    engine = open_engine(database_url)
    add(engine, token=sha256_of("0"))
    for number in range(1, 12):
        with transaction(engine) as conn:
            enrolments.end_tokens(conn, "slurm-1", 1_000 - number)
            enrolments.add_token(conn, "slurm-1", sha256_of(str(number)), 10 + number, "root")
    with reading(engine) as conn:
        (found,) = enrolments.list_enrolled(conn)
    assert len(found.tokens) == enrolments.MAX_TOKENS
    assert found.tokens[-1] == Token(sha256_of("11"), NEVER)
    assert {token.expires_at for token in found.tokens[:-1]} == {989}


class Door:
    """A stream's pass over a real database."""

    def __init__(self, url: str, listener: Listener = CLOSED) -> None:
        self.books = Collector(url)
        self.engine = self.books.engine
        self.admission = Admission(self.engine, listener)

    def ingest(self, agent: str, token: str, *clusters: str) -> Ingest:
        with transaction(self.engine) as conn:
            held = self.admission.admit(conn, agent, clusters, shown(token))
        return Ingest(self.engine, self.books.ingest.rating, agent, held)


def test_a_revoked_agent_s_next_batch_is_refused_and_stores_nothing(database_url: str) -> None:
    door = Door(database_url)
    add(door.engine)
    ingest = door.ingest("slurm-1", MINE, "alpha")
    first = ingest.prepare(decoded(a_job(1)))
    second = ingest.prepare(decoded(a_job(2)))  # read ahead before the revocation
    assert list(ingest.apply(first).verdicts) == [Verdict.NEW]
    with transaction(door.engine) as conn:
        enrolments.revoke(conn, "slurm-1", 70, "root")
    with pytest.raises(NotAdmitted, match="was revoked") as caught:
        ingest.apply(second)
    assert caught.value.proved
    assert door.books.runs(2) == []


def test_a_record_of_another_cluster_is_kept_aside_and_its_neighbours_pass(
    database_url: str,
) -> None:
    door = Door(database_url)
    add(door.engine)
    ingest = door.ingest("slurm-1", MINE, "alpha")
    entry = TreeEntry("beta", TreeKind.ACCOUNT, "physics", "{}", gone=False, observed=5)
    rows = [a_row(a_job(1)), a_row(a_job(2, cluster="beta")), a_row(a_job(3))]
    told = Decoded(1, rows, clean=True, tree=[entry, entry._replace(cluster="alpha")])
    found = ingest.apply(ingest.prepare(told))
    assert list(found.verdicts) == [Verdict.NEW, Verdict.QUARANTINED, Verdict.NEW]
    assert "Agent slurm-1 may not speak for cluster beta" in found.refusals[0].reason
    assert found.tree_dropped == 1
    with reading(door.engine) as conn:
        assert tree.entries_at(conn, "alpha", TreeKind.ACCOUNT, 5) == {"physics": "{}"}
        assert tree.entries_at(conn, "beta", TreeKind.ACCOUNT, 5) == {}


def test_a_cluster_that_is_enrolled_meanwhile_closes_to_a_stranger_s_open_stream(
    database_url: str,
) -> None:
    door = Door(database_url, OPEN)
    ingest = door.ingest("demo", "", "beta")
    ahead = ingest.prepare(decoded(a_job(2, cluster="alpha")))
    assert list(ingest.apply(ingest.prepare(decoded(a_job(1)))).verdicts) == [Verdict.NEW]
    add(door.engine)
    assert list(ingest.apply(ahead).verdicts) == [Verdict.QUARANTINED]


@pytest.mark.parametrize(
    "cluster", ["Alpha", "ALPHA", "alpha ", "alpha\u200b", "al\npha", "\u0430lpha"]
)
def test_a_stranger_bills_nothing_under_a_name_that_looks_like_an_enrolled_cluster(
    database_url: str, cluster: str
) -> None:
    door = Door(database_url, OPEN)
    add(door.engine)
    ingest = door.ingest("demo", "", "beta")
    request = usage_pb2.Batch(number=1, jobs=columns_of([a_job(1, cluster=cluster), a_job(2)]))
    found = ingest.apply(ingest.prepare(decode(request, 5_000)))
    assert found.verdicts[0] == Verdict.QUARANTINED


def test_an_expired_proof_ends_an_open_stream(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door(database_url)
    add(door.engine)
    ingest = door.ingest("slurm-1", MINE, "alpha")
    with transaction(door.engine) as conn:
        enrolments.end_tokens(conn, "slurm-1", 2_000_000_000)
    assert list(ingest.apply(ingest.prepare(decoded(a_job(1)))).verdicts) == [Verdict.NEW]
    monkeypatch.setattr("jobledger_collector.clock.now_s", lambda: 2_000_000_000)
    with pytest.raises(NotAdmitted, match="was replaced and ended") as caught:
        ingest.apply(ingest.prepare(decoded(a_job(2))))
    assert not caught.value.proved


def test_a_knock_without_anything_is_answered_before_hello(database_url: str) -> None:
    engine = open_engine(database_url)
    add(engine, certificate_name=URI)
    for listener, given, is_let_in in (
        (CLOSED, shown(), False),
        (CLOSED, shown(NOBODY_S, "x"), False),
        (CLOSED, shown(MINE), True),
        (CLOSED, shown("", URI), True),
        (WITH_TOKEN, shown(SHARED), True),
        (WITH_TOKEN, shown(NOBODY_S), False),
        (OPEN, shown(), True),
    ):
        assert knocks(Admission(engine, listener), given) is is_let_in, (listener, given)


def knocks(admission: Admission, given: Shown) -> bool:
    try:
        admission.knock(given)
    except NotAdmitted:
        return False
    return True
