"""The account tree: what sacctmgr prints, what of it is news, and what is gone."""

import io
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.records import tree
from jobledger_agent.records.tree import Told, TreeEntry, TreeKind
from jobledger_agent.slurm import sacctmgr
from jobledger_agent.source import SourceError

NOW = 1_795_300_000
ROOT_TEXT = "default root account"


class Sacctmgr:
    """What ``sacctmgr -nP show`` prints of these; it escapes nothing."""

    def __init__(self, accounts: dict[str, tuple[str, str]]) -> None:
        self.accounts = {"root": (ROOT_TEXT, "root"), **accounts}
        self.associations = ["1|root||0|||normal|", "2|root||1|root||normal|"]
        self.users = ["root|root|Administrator"]
        self.qos = {"normal": "Normal QOS default"}
        self.asked: list[str] = []

    @contextmanager
    def __call__(self, words: Sequence[str]) -> Iterator[BinaryIO]:
        self.asked.append(" ".join(words))
        yield io.BytesIO("".join(f"{line}\n" for line in self.lines(words)).encode())

    def lines(self, words: Sequence[str]) -> list[str]:
        named = next((w[5:].split(",") for w in words if w.startswith("name=")), None)
        kind, wanted = words[0], words[-1].partition("=")[2].split(",")
        if kind == "account":
            rows = [
                {"account": name, "description": text, "organization": unit}
                for name, (text, unit) in self.accounts.items()
                if named is None or name in named
            ]
        elif kind == "qos":
            rows = [
                {"name": name, "usagefactor": "1.000000", "priority": "0", "description": text}
                for name, text in self.qos.items()
                if named is None or name in named
            ]
        else:
            return self.users if kind == "user" else self.associations
        return ["|".join(row[column] for column in wanted) for row in rows]


def read(show: Sacctmgr, *, has_lineage: bool = False) -> dict[tuple[TreeKind, str], TreeEntry]:
    found = sacctmgr.entries(show, "alpha", NOW, has_lineage=has_lineage)
    return {(entry.kind, entry.name): entry for entry in found}


def test_everything_of_a_tree() -> None:
    show = Sacctmgr({"physics": ("physics", "science")})
    show.associations.append("3|physics|root|1|||high,normal|high")
    show.associations.append("5|physics||3|alice|gpu|normal|")
    show.users.append("alice|physics|None")
    found = read(show)
    assert [(kind.name, name) for kind, name in found] == [
        ("ACCOUNT", "root"), ("ACCOUNT", "physics"), ("USER", "root"), ("USER", "alice"),
        ("ASSOCIATION", "1"), ("ASSOCIATION", "2"), ("ASSOCIATION", "3"), ("ASSOCIATION", "5"),
        ("QOS", "normal"),
    ]  # fmt: skip
    assert found[TreeKind.ASSOCIATION, "3"].attributes == (
        ("account", "physics"), ("default_qos", "high"), ("parent", "root"), ("parent_id", "1"),
        ("qos", "high,normal"),
    )  # fmt: skip
    assert dict(found[TreeKind.ASSOCIATION, "5"].attributes)["partition"] == "gpu"
    assert found[TreeKind.ACCOUNT, "physics"] == TreeEntry(
        "alpha", TreeKind.ACCOUNT, "physics",
        (("description", "physics"), ("organization", "science")), gone=False, observed=NOW,
    )  # fmt: skip
    assert found[TreeKind.USER, "root"].attributes == (
        ("admin_level", "Administrator"), ("default_account", "root"),
    )  # fmt: skip
    assert dict(found[TreeKind.QOS, "normal"].attributes)["usage_factor"] == "1.000000"


def test_lineage_where_slurm_has_it() -> None:
    show = Sacctmgr({})
    show.associations = ["1|root||0|||normal||/", "2|root||1|root||normal||/0-root/"]
    found = read(show, has_lineage=True)
    assert dict(found[TreeKind.ASSOCIATION, "2"].attributes)["lineage"] == "/0-root/"
    assert any("defaultqos,lineage" in asked for asked in show.asked)


words = st.sampled_from(["a", "b.c", "phys_1", "x-y", "bio"])
texts = st.text(alphabet="|\nabcphysbioxé. ", max_size=12)
HOSTILE = st.lists(
    st.sampled_from(["|", "\n", "bio|", "root|", "\nbio|evil", "|root\n", "x", "bio", "\n\n"]),
    max_size=5,
).map("".join)


@given(st.dictionaries(words, st.tuples(st.one_of(texts, HOSTILE), st.one_of(texts, HOSTILE))))
def test_no_description_is_taken_for_anothers(accounts: dict[str, tuple[str, str]]) -> None:
    """Whatever is written into one: each account has its own text to the letter."""
    found = read(Sacctmgr(accounts))
    assert {name for kind, name in found if kind is TreeKind.ACCOUNT} == {"root", *accounts}
    for name, (text, unit) in {"root": (ROOT_TEXT, "root"), **accounts}.items():
        said = dict(found[TreeKind.ACCOUNT, name].attributes)
        assert (said.get("description", ""), said.get("organization", "")) == (text, unit)


def test_questions_about_descriptions_have_a_limit() -> None:
    many = {f"a{number}": ("x\ny", "z") for number in range(500)}
    show = Sacctmgr(many)
    found = read(show)
    assert len(show.asked) <= 2 * sacctmgr.MAX_QUESTIONS + 6
    texts_found = {dict(e.attributes).get("description", "") for e in found.values()
                   if e.kind is TreeKind.ACCOUNT and e.name != "root"}  # fmt: skip
    assert texts_found <= {"x\ny", ""}, "what cannot be told is left out, not guessed"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda show: show.accounts.pop("root"), "no account root"),
        (lambda show: show.associations.clear(), "no root association of cluster alpha"),
        (lambda show: show.associations.append("7|x|y"), "3 columns instead of 8"),
        (lambda show: show.associations.append("x|root||0|||n|"), "with the id 'x'"),
        (lambda show: show.users.append("a|b"), "2 columns instead of 3"),
        (lambda show: show.users.append("a|b|c|d"), "4 columns instead of 3"),
    ],
)
def test_an_answer_that_is_not_whole_is_none(change: object, says: str) -> None:
    """As when PrivateData hides accounts: nothing of it may count as gone."""
    show = Sacctmgr({"physics": ("p", "q")})
    assert callable(change)
    change(show)
    with pytest.raises(SourceError, match=says):
        read(show)


def test_an_answer_that_is_cut_off() -> None:
    @contextmanager
    def show(_words: Sequence[str]) -> Iterator[BinaryIO]:
        yield io.BytesIO(b"root\nphys")

    with pytest.raises(SourceError, match="cut off"):
        list(sacctmgr.entries(show, "alpha", NOW, has_lineage=False))


# --------------------------------------------------------------------------- what is news

entries = st.builds(
    lambda kind, name, text: TreeEntry(
        "alpha", kind, name if kind is not TreeKind.ASSOCIATION else str(abs(hash(name)) % 50),
        (("description", text),), gone=False, observed=NOW,
    ),
    st.sampled_from(TreeKind), st.sampled_from(["a", "b", "root", "ü|"]), st.text(max_size=3),
)  # fmt: skip
trees = st.lists(entries, max_size=20).map(
    lambda found: list({(entry.kind, entry.name): entry for entry in found}.values())
)


@given(trees, trees, st.booleans())
def test_news_and_what_is_gone_make_the_new_tree_of_the_old(
    old: list[TreeEntry], new: list[TreeEntry], whole: bool
) -> None:
    was = Told()
    for entry in old:
        was.add(entry)
    before, after = Told.unpacked(was.packed()), Told()
    news = list(tree.news(new, before, after, whole=whole))
    gone = list(before.gone("alpha", NOW + 1))
    known = {(entry.kind, entry.name): entry for entry in old}
    unchanged = [e for e in news if e == known.get((e.kind, e.name))]
    assert whole or not unchanged, "only changes are told"
    known |= {(entry.kind, entry.name): entry for entry in news}
    for entry in gone:
        assert entry.gone
        del known[entry.kind, entry.name]
    assert known == {(entry.kind, entry.name): entry for entry in new}
    assert len(after) == len(new)
    assert Told.unpacked(after.packed()).packed() == after.packed()


@pytest.mark.parametrize("text", ["", "x", "..", "eJw=.AA==", "a.b.c", "\0", "é.é"])
def test_a_tree_that_is_not_ours_is_none(text: str) -> None:
    assert len(Told.unpacked(text)) == 0


def test_fifty_thousand_associations_are_half_a_megabyte() -> None:
    told = Told()
    numbers = list(range(1, 50_001))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        told.add(TreeEntry("alpha", TreeKind.ASSOCIATION, str(number), (), False, NOW))
    assert len(told.packed()) < 600_000
    assert len(Told.unpacked(told.packed())) == 50_000


@pytest.mark.parametrize("name", ["x", "4294967296", "-1", "007", "9" * 5000, "²"])
def test_an_association_with_another_name_than_an_id_is_kept_all_the_same(name: str) -> None:
    told = Told()
    entry = TreeEntry("alpha", TreeKind.ASSOCIATION, name, (), gone=False, observed=NOW)
    told.add(entry)
    again = Told.unpacked(told.packed())
    assert not again.is_news(entry)
    assert not list(again.gone("alpha", NOW))
