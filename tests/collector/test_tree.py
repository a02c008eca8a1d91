"""Account trees as they were: the same sightings give the same versions, however they come."""

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_collector.admin.cli import main
from jobledger_collector.core.tree import (
    MAX_VERSIONS,
    RECENT_SIGHTINGS,
    Association,
    TreeEntry,
    TreeKind,
    Version,
    association_path,
    canonical,
    joined,
)
from jobledger_collector.store import tree
from jobledger_collector.store.engine import open_engine, reading, transaction
from jobledger_collector.store.handles import Engine
from tests.collector.ingesting import Collector
from tests.factories import a_job

DAY: Final = 86_400


def seen(observed: int, text: str = "a", gone: bool = False) -> TreeEntry:
    return TreeEntry("alpha", TreeKind.ACCOUNT, "physics", text, gone, observed)


sightings = st.lists(
    st.builds(seen, st.integers(1, 40), st.sampled_from(["a", "b", "c"]), st.booleans()),
    max_size=RECENT_SIGHTINGS,
)


@given(sightings, st.randoms(use_true_random=False))
def test_versions_do_not_depend_on_order_repetition_or_batches(
    told: list[TreeEntry], chance: random.Random
) -> None:
    wanted = joined((), told)
    shuffled = [*told, *chance.sample(told, len(told) // 2)]
    chance.shuffle(shuffled)
    versions: tuple[Version, ...] = ()
    while shuffled:
        size = chance.randint(1, len(shuffled))
        versions = joined(versions, shuffled[:size])
        del shuffled[:size]
    assert versions == wanted


@given(sightings)
def test_each_version_says_something_else_than_the_one_before(told: list[TreeEntry]) -> None:
    versions = joined((), told)
    for one, following in itertools.pairwise(versions):
        assert (one.attributes, one.gone) != (following.attributes, following.gone)
        assert one.valid_from < following.valid_from


def test_a_late_sighting_splits_what_was_thought_to_be_one() -> None:
    versions = joined((), [seen(10), seen(20), seen(30)])
    assert versions == (Version(10, False, "a", (20, 30)),)
    assert joined(versions, [seen(15, "b")]) == (
        Version(10, False, "a", ()),
        Version(15, False, "b", ()),
        Version(20, False, "a", (30,)),
    )


def test_what_is_remembered_is_bounded() -> None:
    same = joined((), [seen(n) for n in range(1, 1_000)])
    assert [len(version.seen_at) for version in same] == [RECENT_SIGHTINGS]
    flapping = joined((), [seen(n, str(n)) for n in range(1, MAX_VERSIONS + 50)])
    assert len(flapping) == MAX_VERSIONS
    assert flapping[-1].valid_from == MAX_VERSIONS + 49


PATHS: list[tuple[str, str, str, Sequence[str]]] = [
    ("a user's", "physics", "alice", ("root", "science", "physics", "alice")),
    ("without a user", "science", "", ("root", "science")),
    ("an unknown account", "arts", "bob", ()),
    ("a circle", "c1", "eve", ("c2", "c1", "eve")),
]


@pytest.mark.parametrize(("what", "account", "user", "wanted"), PATHS)
def test_the_path_to_a_run_s_account(
    what: str, account: str, user: str, wanted: Sequence[str]
) -> None:
    tree_of = {"root": "", "science": "root", "physics": "science", "c1": "c2", "c2": "c1"}
    associations = [
        Association(str(n), name, parent, "", "")
        for n, (name, parent) in enumerate(tree_of.items())
    ]
    associations.append(Association("9", "physics", "", "alice", ""))
    assert association_path(account, user, associations) == wanted, what


def association(number: int, account: str, parent: str, user: str, observed: int) -> TreeEntry:
    attributes = canonical({"account": account, "parent": parent, "user": user})
    return TreeEntry(
        "alpha", TreeKind.ASSOCIATION, str(number), attributes, gone=False, observed=observed
    )


def keep(engine: Engine, *entries: TreeEntry) -> int:
    with transaction(engine) as conn:
        return tree.keep(conn, entries)


def test_the_tree_of_a_time_comes_out_again(database_url: str) -> None:
    engine = open_engine(database_url)
    first = [
        association(1, "root", "", "", 10 * DAY),
        association(2, "physics", "root", "", 10 * DAY),
        association(3, "physics", "", "alice", 10 * DAY),
    ]
    assert keep(engine, *first) == 3
    assert keep(engine, *first) == 0, "told again, nothing changes"
    later = [entry._replace(observed=11 * DAY) for entry in first]
    keep(engine, *later)
    keep(engine, later[2]._replace(observed=20 * DAY, gone=True))
    moved = association(2, "physics", "arts", "", 20 * DAY)
    keep(engine, moved, association(4, "arts", "root", "", 20 * DAY))
    with reading(engine) as conn:
        assert tree.first_seen(conn, "alpha") == 10 * DAY
        assert tree.first_seen(conn, "beta") == 0
        then = tree.associations_at(conn, "alpha", 19 * DAY)
        now = tree.associations_at(conn, "alpha", 20 * DAY)
        assert tree.associations_at(conn, "alpha", 9 * DAY) == []
    assert association_path("physics", "alice", then) == ("root", "physics", "alice")
    assert association_path("physics", "", now) == ("root", "arts", "physics")
    assert [one.id for one in now] == ["1", "2", "4"]


def test_explain_and_accounts_tree_say_how_it_was(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    books = Collector(sqlite_url)
    books.take(
        a_job(1, submit=DAY, start=DAY, end=12 * DAY), a_job(2, submit=DAY, start=DAY, end=30 * DAY)
    )
    keep(
        books.engine,
        association(1, "root", "", "", 20 * DAY),
        association(2, "physics", "root", "", 20 * DAY),
        association(3, "physics", "", "alice", 20 * DAY),
        association(2, "physics", "arts", "", 25 * DAY),
        association(4, "arts", "root", "", 25 * DAY),
        TreeEntry("alpha", TreeKind.ACCOUNT, "arts", '{"description":"The arts"}', False, 25 * DAY),
    )

    def said(*arguments: str) -> str:
        assert main(["--db", sqlite_url, *arguments]) == 0
        return capsys.readouterr().out

    assert "root > physics > alice (first seen 1970-01-21" in said("explain", "alpha/1")
    assert "root > arts > physics > alice (as it was at 1970-01-31" in said("explain", "alpha/2")
    then = said("accounts", "tree", "--cluster", "alpha", "--at", "1970-01-22")
    assert then == "root\n  physics: alice\n"
    now = said("accounts", "tree", "--cluster", "alpha")
    assert now == "root\n  arts (The arts)\n    physics: alice\n"
    assert '"path":["root","arts","physics"]' in said(
        "accounts", "tree", "--cluster", "alpha", "--json"
    )
    assert main(["--db", sqlite_url, "accounts", "tree", "--cluster", "beta"]) == 1
    assert "was never seen" in capsys.readouterr().err
    assert main(["--db", sqlite_url, "accounts", "tree", "--cluster", "b", "--at", "soon"]) == 2
    assert tmp_path.exists()
