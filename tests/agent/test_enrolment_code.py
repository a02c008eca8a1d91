"""The code: both sides agree on it, and nothing else is taken for one."""

import base64
import hashlib
import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.operating.enrolment_code import (
    CODE_CHARS_MAX,
    Code,
    CodeError,
    decode,
    is_whole,
)
from jobledger_collector.core import enrolment_code as collector_s

CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY: Final = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,40}", fullmatch=True)


@given(
    names,
    st.lists(names, min_size=1, max_size=20),
    st.booleans(),
    st.from_regex(r"[A-Za-z0-9_-]{32,64}", fullmatch=True) | st.just(""),
    st.booleans(),
)
def test_what_the_collector_writes_the_agent_reads(
    agent: str, clusters: list[str], tls: bool, token: str, with_certificate: bool
) -> None:
    pair = (CERTIFICATE, KEY) if with_certificate else ("", "")
    given_code = collector_s.Code(
        agent, tuple(clusters), "[::1]:7610", tls, token, CERTIFICATE if tls else "", *pair
    )
    text = collector_s.encode(given_code)
    assert decode(text) == Code(*given_code)
    assert decode(f"  {text}\r\n\r\n") == Code(*given_code)
    assert is_whole(text)
    assert not is_whole(text[:-1])


def code_of(told: object, prefix: str = "jobledger1") -> str:
    body = base64.urlsafe_b64encode(json.dumps(told).encode()).decode()
    return f"{prefix}.{body}.{hashlib.sha256(body.encode()).hexdigest()[:12]}"


GOOD: Final[dict[str, Any]] = {
    "agent": "slurm-1", "clusters": ["alpha"], "address": "db:7610", "token": "t" * 43,
}  # fmt: skip
BAD: list[tuple[str, object, str]] = [
    ("no settings", [1], "holds no settings"),
    ("no clusters", {**GOOD, "clusters": []}, "names no clusters"),
    ("clusters that are none", {**GOOD, "clusters": "alpha"}, "names no clusters"),
    ("a cluster that forges", {**GOOD, "clusters": ['a"\nb']}, "no agent and no cluster"),
    ("a name that forges", {**GOOD, "agent": 'x"\n[[source]]'}, "no agent and no cluster"),
    ("no address", {**GOOD, "address": ""}, "address cannot be used"),
    ("an address that is none", {**GOOD, "address": "db"}, "address cannot be used"),
    ("a short token", {**GOOD, "token": "t"}, "token is none"),
    ("a token with a line", {**GOOD, "token": "t" * 40 + "\nx"}, "token is none"),
    ("a number for a text", {**GOOD, "token": 7}, "token is not a text"),
    ("a key alone", {**GOOD, "key": KEY}, "without its key"),
    ("no certificate", {**GOOD, "ca": "x"}, "no certificate"),
    ("no key", {**GOOD, "certificate": CERTIFICATE, "key": "x"}, "no key"),
]


@pytest.mark.parametrize(("what", "told", "says"), BAD)
def test_a_code_that_says_something_impossible_is_refused(
    what: str, told: object, says: str
) -> None:
    with pytest.raises(CodeError, match=says):
        decode(code_of(told))
    assert decode(code_of(GOOD)).agent == "slurm-1", what


def test_a_code_of_another_form_or_without_end_is_refused() -> None:
    with pytest.raises(CodeError, match="form 2, this agent knows form 1"):
        decode(code_of(GOOD, "jobledger2"))
    with pytest.raises(CodeError, match="longer than"):
        decode("x" * (CODE_CHARS_MAX + 1))
    with pytest.raises(CodeError, match="missing or changed"):
        decode(changed(GOOD))


def changed(told: object) -> str:
    text = code_of(told)
    return text[:-1] + ("0" if text[-1] != "0" else "1")


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: f"jobledger1.{raw!r}.0"))
def test_anything_else_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(CodeError, match=r"\w"):
        decode(text)
