"""Settings that a person wrote: the keys that are set change, every other byte stays."""

import tomllib
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.settings.settings_text import with_settings

TEXT: Final = """\
# ours, with a \u2028 in it
[agent]
name = "old" # by hand

[collector] # where
# TLS
address = "a:1"
ca_file = "/old"

[[source]]
kind = "sacct"
address = "not this one"
"""
Values = dict[str, str | bool | None]

CASES: list[tuple[str, str, Values, str, str]] = [
    ("a value", "agent", {"name": "new"}, 'name = "old" # by hand', 'name = "new"'),
    ("one of a key twice", "collector", {"address": "b:2"}, 'address = "a:1"', 'address = "b:2"'),
    ("a key less", "collector", {"ca_file": None}, 'ca_file = "/old"\n', ""),
    (
        "a key more", "collector", {"token_file": "/t"},
        'ca_file = "/old"\n', 'ca_file = "/old"\ntoken_file = "/t"\n',
    ),
    (
        "a switch", "collector", {"tls": True},
        'ca_file = "/old"\n', 'ca_file = "/old"\ntls = true\n',
    ),
    ("what is not there", "collector", {"key_file": None}, "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("what", "section", "values", "old", "new"), CASES)
def test_only_what_is_set_changes(
    what: str, section: str, values: Values, old: str, new: str
) -> None:
    assert with_settings(TEXT, section, values) == TEXT.replace(old, new, 1), what


def test_a_section_that_is_not_there_comes_to_the_end() -> None:
    assert with_settings("", "agent", {"name": "x"}) == '[agent]\nname = "x"\n'
    assert with_settings(TEXT, "spool", {"path": "/x"}) == TEXT + '\n[spool]\npath = "/x"\n'


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_comes_out_as_it_went_in(value: str) -> None:
    document = tomllib.loads(with_settings(TEXT, "agent", {"name": value}))
    assert document["agent"]["name"] == value
    assert document["source"] == tomllib.loads(TEXT)["source"]
