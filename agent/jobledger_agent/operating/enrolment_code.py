"""The code that the collector's operator hands over: read, checked, never trusted.

``jobledger1.BODY.CHECK``: BODY is base64url of JSON, CHECK the first digits of
BODY's SHA-256. White space anywhere is passed over: codes are mailed and pasted.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from jobledger_agent.errors import AgentError
from jobledger_agent.settings.config import ConfigError, split_address

CODE_CHARS_MAX: Final = 64 * 1024
CLUSTERS_MAX: Final = 1_000
CHECK_DIGITS: Final = 12
_FORM: Final = re.compile(rf"jobledger(\d{{1,4}})\.([A-Za-z0-9_=-]+)\.([0-9a-f]{{{CHECK_DIGITS}}})")
_VERSION: Final = "1"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{32,128}")
_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"
_KEY: Final = re.compile(r"-----BEGIN (EC |RSA )?PRIVATE KEY-----")


class CodeError(AgentError):
    """What was given is no code, or not a whole one; says what to do."""


class Code(NamedTuple):
    """What this agent needs to report; "" for what it does not need, PEM for the last three."""

    agent: str
    clusters: tuple[str, ...]
    address: str
    tls: bool
    token: str
    ca: str
    certificate: str
    key: str


def is_whole(text: str) -> bool:
    """Whether text ends a code: what is read from a terminal needs no more lines."""
    found = _FORM.fullmatch("".join(text.split()))
    return bool(found) and _check(found[2]) == found[3] if found else False


def decode(text: str) -> Code:
    """Return what a code says. Raises CodeError."""
    if len(text) > CODE_CHARS_MAX:
        raise CodeError(f"that is longer than {CODE_CHARS_MAX} characters: it is no code")
    found = _FORM.fullmatch("".join(text.split()))
    if not found:
        raise CodeError(
            "that is no code of `jobledger agents add`: it begins with jobledger1. and must be "
            "given whole"
        )
    version, body, check = found.groups()
    if version != _VERSION:
        raise CodeError(
            f"the code is of form {version}, this agent knows form {_VERSION}: install the "
            "collector's version of jobledger-agent"
        )
    if _check(body) != check:
        raise CodeError("a part of the code is missing or changed: copy all of its lines again")
    try:
        told = json.loads(base64.b64decode(body, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise CodeError(f"the code cannot be read: {error}") from error
    return _checked(told)


def _check(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:CHECK_DIGITS]


def _checked(told: object) -> Code:
    if not isinstance(told, dict):
        raise CodeError("the code holds no settings")
    clusters = told.get("clusters", [])
    if not isinstance(clusters, list) or not 0 < len(clusters) <= CLUSTERS_MAX:
        raise CodeError("the code names no clusters")
    code = Code(
        agent=_text(told, "agent"),
        clusters=tuple(str(cluster) for cluster in clusters),
        address=_text(told, "address"),
        tls=told.get("tls") is True,
        token=_text(told, "token"),
        ca=_text(told, "ca"),
        certificate=_text(told, "certificate"),
        key=_text(told, "key"),
    )
    for name in (code.agent, *code.clusters):
        if not _NAME.fullmatch(name):
            raise CodeError(f"the code names {name[:128]!r}, which is no agent and no cluster")
    try:
        split_address(code.address)
    except ConfigError as error:
        raise CodeError(f"the code's address cannot be used: {error}") from error
    _check_proofs(code)
    return code


def _check_proofs(code: Code) -> None:
    if code.token and not _TOKEN.fullmatch(code.token):
        raise CodeError("the code's token is none that `jobledger agents add` makes")
    if bool(code.certificate) != bool(code.key):
        raise CodeError("the code holds a certificate without its key, or the other way round")
    for pem in filter(None, (code.ca, code.certificate)):
        if _CERTIFICATE not in pem:
            raise CodeError("the code holds something that is no certificate")
    if code.key and not _KEY.search(code.key):
        raise CodeError("the code holds something that is no key")


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name, "")
    if not isinstance(value, str) or "\0" in value:
        raise CodeError(f"the code's {name} is not a text")
    return value
