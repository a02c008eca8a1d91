"""The border: what may come in, what is set aside, what is refused as a whole."""

import contextlib
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from jobledger_collector.columns import (
    CLUSTER,
    FIELDS,
    LIMITS,
    MAX_KEY_CHARS,
    MAX_RAW_BYTES,
    MAX_TEXT_CHARS,
    MAX_TRES,
    Row,
    record_json,
)
from jobledger_collector.core.errors import BatchInvalid
from jobledger_collector.core.record import (
    JobRecord,
    Quarantined,
    Verdict,
    content_text,
    tres_of,
    tres_text,
)
from jobledger_collector.core.reporter import Greeting, Health
from jobledger_collector.core.tree import TreeEntry, TreeKind
from jobledger_collector.wire import (
    MAX_BATCH_RECORDS,
    MAX_BROKEN_BYTES,
    MAX_CLUSTERS,
    Decoded,
    Refusal,
    decode,
    encode_ack,
    read_greeting,
    read_request,
    welcome,
)
from jobledger_proto.v1 import usage_pb2
from tests.factories import NOW_S, a_batch, a_job, columns_of


def reasons(batch: usage_pb2.Batch) -> list[str]:
    """Reason for each entry of a batch, "" for one that is sound."""
    entries = decode(batch, NOW_S).entries
    return [entry.reason if isinstance(entry, Quarantined) else "" for entry in entries]


texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
tres_sets = st.dictionaries(
    st.text("abcdefghijklmnop/:_-", min_size=1, max_size=8), st.integers(0, 10**15), max_size=4
).map(lambda held: tuple(sorted(held.items())))
records = st.builds(
    a_job,
    job_id=st.integers(*LIMITS["job_id"]),
    cluster=st.from_regex(CLUSTER, fullmatch=True),
    **dict.fromkeys(("state", "node_list", "user", "account", "partition", "wckey"), texts),
    **{name: st.integers(*LIMITS[name]) for name in ("submit", "start", "end", "sluid", "nodes")},
    **{name: st.integers(*LIMITS[name]) for name in ("array_task", "uid", "energy_j")},
    alloc_tres=tres_sets,
    req_tres=tres_sets,
)


@given(st.lists(records, min_size=1, max_size=5))
def test_what_is_in_bounds_arrives_as_it_was_sent(sent: list[JobRecord]) -> None:
    batch = usage_pb2.Batch.FromString(a_batch(*sent).SerializeToString())
    decoded = decode(batch, NOW_S)
    assert decoded.entries == [Row(record, content_text(record)) for record in sent]
    assert decoded.clean


@given(tres_sets)
def test_tres_text_reads_back(tres: tuple[tuple[str, int], ...]) -> None:
    assert tres_of(tres_text(tres)) == tres


@given(records, records)
def test_only_equal_records_have_equal_content(one: JobRecord, other: JobRecord) -> None:
    other = other._replace(observed=one.observed)
    assert (content_text(one) == content_text(other)) == (one == other)


def test_when_it_was_seen_is_no_content() -> None:
    assert content_text(a_job(observed=1)) == content_text(a_job(observed=2))


def test_nothing_was_seen_in_the_future() -> None:
    batch = a_batch(a_job(1, observed=NOW_S + 86_400), a_job(2, observed=5))
    entries = decode(batch, NOW_S).entries
    assert [entry.record.observed for entry in entries if isinstance(entry, Row)] == [NOW_S, 5]


BAD_ROWS: list[tuple[dict[str, Any], str]] = [
    ({"cluster": ""}, "cluster is empty"),
    ({"cluster": "alpha "}, "is not the name of a cluster"),
    ({"job_id": 0}, "job_id 0 is not in 1"),
    ({"job_id": 2**63}, "job_id 9223372036854775808"),
    ({"submit": 0}, "submit 0"),
    ({"submit": -5}, "submit -5"),
    ({"start": 253_402_300_800}, "start 253402300800"),
    ({"end": -1}, "end -1"),
    ({"observed": 0}, "observed 0"),
    ({"suspended_s": 2**64 - 1}, "suspended_s"),
    ({"uid": -2}, "uid -2"),
    ({"array_task": -3}, "array_task -3"),
    ({"energy_j": 2**62}, "energy_j"),
    ({"user": "a\0b"}, "user holds a NUL"),
    ({"account": "x" * (MAX_KEY_CHARS + 1)}, "account is longer than"),
    ({"node_list": "n" * (MAX_TEXT_CHARS + 1)}, "node_list is longer than"),
    ({"alloc_tres": (("cpu", 2**64 - 1),)}, "more than any cluster has"),
    ({"alloc_tres": (("", 1),)}, "not the name of a resource"),
    ({"alloc_tres": (("a=b", 1),)}, "not the name of a resource"),
    ({"req_tres": (("a,b", 1),)}, "not the name of a resource"),
    ({"alloc_tres": tuple((f"gres/{n}", 1) for n in range(MAX_TRES + 1))}, "at most 256"),
]


@pytest.mark.parametrize(("over", "says"), BAD_ROWS)
def test_a_bad_row_is_set_aside_between_good_neighbours(over: dict[str, Any], says: str) -> None:
    good, bad, last = reasons(a_batch(a_job(1), a_job(**{"job_id": 2, **over}), a_job(3)))
    assert (good, last) == ("", "")
    assert says in bad
    refused = decode(a_batch(a_job(**over)), NOW_S).entries[0]
    assert isinstance(refused, Quarantined)
    assert refused.raw.startswith(b'{"cluster": ')
    assert len(refused.raw) <= MAX_RAW_BYTES
    assert "\0" not in refused.cluster


def test_long_node_lists_are_ordinary() -> None:
    assert reasons(a_batch(a_job(1, node_list="n" * MAX_TEXT_CHARS))) == [""]


@pytest.mark.parametrize("field", ["user", "alloc_tres"])
def test_an_index_outside_its_dictionary_is_that_rows_fault(field: str) -> None:
    jobs = columns_of([a_job(1), a_job(2)])
    getattr(jobs, field)[1] = 4_000_000
    good, bad = reasons(usage_pb2.Batch(number=1, jobs=jobs))
    assert good == ""
    assert f"{field} refers to entry 4000000" in bad


def test_a_tres_set_outside_the_texts_is_that_rows_fault() -> None:
    jobs = columns_of([a_job(1)])
    jobs.tres_sets[1].name[0] = 77
    assert "not in the batch's dictionary" in reasons(usage_pb2.Batch(number=1, jobs=jobs))[0]


@pytest.mark.parametrize("field", FIELDS)
def test_columns_of_unequal_length_quarantine_the_batch_as_one(field: str) -> None:
    batch = usage_pb2.Batch(number=7, jobs=columns_of([a_job(1), a_job(2)]))
    batch.unreadable.add(cluster="alpha", origin="f:1", reason="cut", raw=b"1|2", raw_size=3)
    getattr(batch.jobs, field).pop()
    found = decode(batch, NOW_S)
    assert len(found.entries) == 3
    assert len(set(found.entries)) == 1
    (kept,) = set(found.entries)
    assert isinstance(kept, Quarantined)
    assert f"column {field} has 1" in kept.reason
    again = usage_pb2.Batch.FromString(kept.raw)
    batch.ClearField("number")
    assert again == batch, "the same batch is the same record under any number"


def test_a_dictionary_without_its_empty_entry_quarantines_the_batch() -> None:
    for spoil in ("texts", "tres_sets"):
        jobs = columns_of([a_job(1)])
        del getattr(jobs, spoil)[0]
        (kept,) = decode(usage_pb2.Batch(number=1, jobs=jobs), NOW_S).entries
        assert isinstance(kept, Quarantined)
        assert "empty first entry" in kept.reason


def test_of_a_large_broken_batch_its_beginning_is_kept() -> None:
    jobs = columns_of([a_job(1)])
    jobs.texts.append("x" * (MAX_BROKEN_BYTES + 1))
    jobs.uid.append(1)
    (kept,) = decode(usage_pb2.Batch(jobs=jobs), NOW_S).entries
    assert isinstance(kept, Quarantined)
    assert len(kept.raw) == MAX_BROKEN_BYTES < kept.raw_size


def test_a_broken_batch_that_claims_too_much_is_refused() -> None:
    jobs = columns_of([a_job(1)])
    jobs.rows = 2**32 - 1
    with pytest.raises(BatchInvalid, match="4294967295 records; the limit is 2000"):
        decode(usage_pb2.Batch(number=1, jobs=jobs), NOW_S)


TREE: list[tuple[str, dict[str, Any], TreeEntry | None]] = [
    (
        "an account",
        {"attributes": {"description": "d", "organization": "", "secret": "x"}},
        TreeEntry("alpha", TreeKind.ACCOUNT, "physics", '{"description":"d"}', False, 900),
    ),
    ("no cluster", {"cluster": ""}, None),
    ("a cluster that forges", {"cluster": "al\npha"}, None),
    ("no name", {"name": ""}, None),
    ("a name without end", {"name": "x" * 257}, None),
    ("a kind of a newer agent", {"kind": 99}, None),
    ("no kind", {"kind": 0}, None),
    ("never seen", {"observed": 0}, None),
    (
        "seen tomorrow",
        {"observed": NOW_S + 86_400, "gone": True},
        TreeEntry("alpha", TreeKind.ACCOUNT, "physics", "{}", True, NOW_S),
    ),
    (
        "a value without end, with NUL",
        {"attributes": {"description": "\0" + "x" * 9_999}},
        TreeEntry(
            "alpha", TreeKind.ACCOUNT, "physics",
            '{"description":"\N{REPLACEMENT CHARACTER}' + "x" * 4_095 + '"}', False, 900,
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("what", "over", "wanted"), TREE)
def test_an_entry_of_an_account_tree_is_bounded_or_passed_over(
    what: str, over: dict[str, Any], wanted: TreeEntry | None
) -> None:
    usual = {"cluster": "alpha", "kind": 1, "name": "physics", "observed": 900}
    batch = usage_pb2.Batch(number=1)
    batch.tree.add(**{**usual, **over})
    found = decode(batch, NOW_S)
    assert list(found.tree) == ([wanted] if wanted else []), what
    assert list(found.entries) == []


def test_the_number_of_records_is_limited() -> None:
    unreadable = [usage_pb2.Unreadable(reason="r")] * MAX_BATCH_RECORDS
    assert len(decode(usage_pb2.Batch(unreadable=unreadable), NOW_S).entries) == MAX_BATCH_RECORDS
    with pytest.raises(BatchInvalid, match="2001 records; the limit is 2000"):
        decode(usage_pb2.Batch(unreadable=[*unreadable, unreadable[0]]), NOW_S)


def test_unreadable_records_follow_the_jobs_and_are_bounded() -> None:
    batch = a_batch(a_job(1))
    batch.unreadable.add(cluster="a\0", origin="f:1", reason="", raw=b"x" * 100_000, raw_size=9)
    decoded = decode(batch, NOW_S)
    kept = decoded.entries[1]
    assert isinstance(kept, Quarantined)
    assert kept.cluster == "a\N{REPLACEMENT CHARACTER}"
    assert kept.reason == "The agent gave no reason."
    assert (len(kept.raw), kept.raw_size) == (MAX_RAW_BYTES, MAX_RAW_BYTES)
    assert not decoded.clean


def test_the_same_bad_record_looks_the_same_whenever_it_is_seen() -> None:
    assert record_json(a_job(observed=1)) == record_json(a_job(observed=2))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_message_is_decoded_or_refused_but_never_breaks_us(data: st.DataObject) -> None:
    jobs = columns_of([a_job(1), a_job(2, cluster="beta")])
    for name in data.draw(st.sets(st.sampled_from(FIELDS), min_size=1, max_size=4)):
        column = getattr(jobs, name)
        place = data.draw(st.integers(0, 1))
        column[place] = data.draw(st.integers(0, 2**32 - 1))
    for tres_set in jobs.tres_sets[1:]:
        tres_set.name[0] = data.draw(st.integers(0, 40))
        tres_set.count.extend(data.draw(st.lists(st.integers(0, 2**64 - 1), max_size=1)))
    decoded = decode(usage_pb2.Batch(number=1, jobs=jobs), NOW_S)
    assert len(decoded.entries) == 2
    for entry in decoded.entries:
        if isinstance(entry, Row):
            assert entry.content == content_text(entry.record)
            assert all(
                least <= getattr(entry.record, name) <= most
                for name, (least, most) in LIMITS.items()
            )


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_parse_at_all_are_decoded_or_refused(noise: bytes) -> None:
    try:
        batch = usage_pb2.Batch.FromString(noise)
    except DecodeError:  # not a message: gRPC never hands it on
        return
    with contextlib.suppress(BatchInvalid):
        assert len(decode(batch, NOW_S).entries) == batch.jobs.rows + len(batch.unreadable)


def hello(**over: Any) -> usage_pb2.ReportRequest:  # noqa: ANN401 - any field
    """A proper Hello, unless said otherwise."""
    said = {"agent": "slurm-1", "version": "1.0", "clusters": ["alpha"], "clock_ms": 1_500}
    return usage_pb2.ReportRequest(hello=usage_pb2.Hello(**{**said, **over}))


def test_hello_says_who_reports_and_how_its_clock_differs() -> None:
    assert read_greeting(hello(), 1_000) == Greeting("slurm-1", "1.0", ("alpha",), 500)
    assert read_greeting(hello(clock_ms=0), 1_000).clock_skew_ms == 0


BAD_HELLOS = [
    (usage_pb2.ReportRequest(), "must be Hello"),
    (usage_pb2.ReportRequest(batch=usage_pb2.Batch(number=1)), "must be Hello"),
    (hello(agent=""), "cannot be an agent's name"),
    (hello(agent="a b"), "cannot be an agent's name"),
    (hello(agent="x" * 129), "cannot be an agent's name"),
    (hello(clusters=[""]), "impossible one"),
    (hello(clusters=["a"] * (MAX_CLUSTERS + 1)), "more than"),
]


@pytest.mark.parametrize(("request_", "says"), BAD_HELLOS)
def test_an_improper_hello_is_refused(request_: usage_pb2.ReportRequest, says: str) -> None:
    with pytest.raises(BatchInvalid, match=says):
        read_greeting(request_, 1_000)


def test_batches_are_numbered_from_one_without_gaps() -> None:
    request = usage_pb2.ReportRequest(batch=a_batch(a_job(1), number=2))
    said = read_request(request, 2, NOW_S * 1000)
    assert isinstance(said, Decoded)
    assert said.number == 2
    with pytest.raises(BatchInvalid, match="Batch 2 came where 1 was expected"):
        read_request(request, 1, NOW_S * 1000)
    with pytest.raises(BatchInvalid, match="After Hello"):
        read_request(hello(), 1, NOW_S * 1000)


def test_health_is_bounded_to_what_can_be_stored() -> None:
    status = usage_pb2.Status(
        spool_records=2**64 - 1, complete_through=5, clock_ms=2_000, source_error="down\0" * 999
    )
    said = read_request(usage_pb2.ReportRequest(status=status), 1, 1_000)
    assert isinstance(said, Health)
    assert (said.spool_records, said.complete_through, said.clock_skew_ms) == (2**63 - 1, 5, 1_000)
    assert len(said.source_error) == 2_000
    assert "\0" not in said.source_error


def test_an_acknowledgement_names_a_verdict_a_record() -> None:
    verdicts = [Verdict.NEW, Verdict.QUARANTINED, Verdict.REVISED, Verdict.KNOWN]
    ack = encode_ack(7, verdicts, [Refusal(1, "why")]).ack
    assert ack.number == 7
    assert [usage_pb2.Verdict.Name(verdict) for verdict in ack.verdicts] == [
        "VERDICT_NEW", "VERDICT_QUARANTINED", "VERDICT_REVISED", "VERDICT_KNOWN",
    ]  # fmt: skip
    assert [(refusal.index, refusal.reason) for refusal in ack.refusals] == [(1, "why")]


def test_welcome_tells_the_limits() -> None:
    said = welcome(1_234).welcome
    assert said.clock_ms == 1_234
    assert said.window_batches == 8
    assert said.max_batch_records == 2_000
    assert said.max_batch_bytes == 1024 * 1024
