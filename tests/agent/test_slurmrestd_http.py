"""slurmrestd over HTTP: sockets, TLS, tokens, limits, and peers that misbehave."""

import json
import re
import ssl
import subprocess
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from jobledger_agent.reading.accounting import TooMuch
from jobledger_agent.slurm import slurmrestd_http
from jobledger_agent.slurm.slurmrestd import Slurmrestd
from jobledger_agent.slurm.slurmrestd_http import Caller, Server, address_of
from jobledger_agent.slurm.turn import alone
from jobledger_agent.source import SourceError
from tests.agent.restpeer import (
    NOBODY,
    NOW,
    all_of,
    asking,
    jobs_of,
    recording,
    serving,
    speaking,
)

# -------------------------------------------------------------------- the wire


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"", "cut off or no HTTP"),
        (b"SSH-2.0-OpenSSH_9\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}", "cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", "cut off"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", "no HTTP"),
    ],
    ids=["nothing", "ssh", "short", "chunk", "long header"],
)
def test_what_is_no_http_is_a_complaint(reply: bytes, message: str) -> None:
    with speaking(reply) as address:
        rest = Slurmrestd(("alpha",), Server(address, NOBODY, timeout_s=5))
        with pytest.raises(SourceError, match=message):
            rest.negotiate()


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"])
def test_one_that_is_silent_is_given_up(reply: bytes) -> None:
    with speaking(reply, hold_s=20) as address:
        rest = Slurmrestd(("alpha",), Server(address, NOBODY, timeout_s=1))
        with pytest.raises(TooMuch, match="no answer in 1 s"):
            rest.negotiate()


def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurmrestd_http, "MAX_ANSWER_BYTES", 10_000)
    with (
        asking(recording("v0.0.44")) as (rest, _),
        pytest.raises(TooMuch, match="larger than"),
    ):
        all_of(rest.open("alpha"))


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    for address in ("http://127.0.0.1:1", f"unix:{tmp_path}/none"):
        rest = Slurmrestd(("alpha",), Server(address, NOBODY, timeout_s=5))
        with pytest.raises(SourceError, match=re.escape(f"{address} cannot be asked")):
            rest.negotiate()


def test_a_socket_file_is_spoken_to(tmp_path: Path) -> None:
    with serving(recording("v0.0.44"), tmp_path / "rest.sock") as (address, _):
        rest = Slurmrestd(("alpha",), Server(address, NOBODY, timeout_s=5))
        assert jobs_of(rest.open("alpha"))


def test_one_question_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "slurm.lock"
    with alone(lock, 5, "the test"), serving(recording("v0.0.44")) as (address, asked):
        rest = Slurmrestd(("alpha",), Server(address, NOBODY, timeout_s=1, lock_path=lock))
        with pytest.raises(SourceError, match="another jobledger-agent has been asking Slurm"):
            rest.negotiate()
    assert asked == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key", "-out", "cert"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def test_by_tls_only_a_certificate_that_fits_is_trusted(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert", certificate / "key")
    with serving(recording("v0.0.44"), tls=context) as (address, _):
        ca_file = certificate / "cert"
        Slurmrestd(("alpha",), Server(address, NOBODY, timeout_s=5, ca_file=ca_file)).negotiate()
        by_number = address.replace("localhost", "127.0.0.1")
        for bad, ca, message in [
            (address, None, "cannot be trusted .*check ca_file"),
            (by_number, ca_file, "cannot be trusted .*check ca_file"),
            (address, certificate / "key", "holds no certificates"),
        ]:
            rest = Slurmrestd(("alpha",), Server(bad, NOBODY, timeout_s=5, ca_file=ca))
            with pytest.raises(SourceError, match=message):
                rest.negotiate()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unix:/run/slurmrestd.sock", ("unix", "localhost", 0, "/run/slurmrestd.sock")),
        ("http://127.0.0.1:6820", ("http", "127.0.0.1", 6820, "")),
        ("http://localhost", ("http", "localhost", 6820, "")),
        ("http://[::1]:99/", ("http", "::1", 99, "")),
        ("https://slurm.example.org", ("https", "slurm.example.org", 6820, "")),
        ("https://slurm.example.org:443", ("https", "slurm.example.org", 443, "")),
    ],
)
def test_an_address_is_understood(text: str, expected: tuple[object, ...]) -> None:
    assert address_of(text)[1:] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://slurm.example.org:6820", "would send a token in plain text"),
        ("http://127.0.0.1.example.org", "would send a token in plain text"),
        ("http://10.0.0.1", "would send a token in plain text"),
        ("slurm.example.org:6820", "is no address"),
        ("ftp://127.0.0.1", "is no address"),
        ("https://", "is no address"),
        ("https://host:port", "is no address"),
        ("https://host/slurmdb", "is no address"),
        ("unix:relative", "is no address"),
        ("", "is no address"),
    ],
)
def test_an_address_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        address_of(text)


# ------------------------------------------------------------------ the token


def token(**claims: object) -> str:
    body = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{body}.c2lnbmF0dXJl"


def test_the_token_is_read_for_each_question(tmp_path: Path) -> None:
    path = tmp_path / "token"
    caller = Caller("billing", path)
    with asking(recording("v0.0.44"), caller=caller, now=lambda: NOW) as (rest, asked):
        path.write_text(token(n=1, exp=NOW + 1))
        rest.negotiate()
        path.write_text("SLURM_JWT=" + token(n=2) + "\n")  # as scontrol token prints it
        all_of(rest.open("alpha"))
    sent = [
        (each.headers["X-SLURM-USER-NAME"], each.headers["X-SLURM-USER-TOKEN"]) for each in asked
    ]
    assert sent[0] == ("billing", token(n=1, exp=NOW + 1))
    assert sent[-1] == ("billing", token(n=2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read .*scontrol token username=billing"),
        ("", "holds no JSON Web Token"),
        ("changeme", "holds no JSON Web Token"),
        (token() + "\r\nX-Evil: 1", "holds no JSON Web Token"),
        (token(exp=NOW), "expired 0 s ago; make a new one: scontrol token"),
        (token(exp=NOW - 60), "expired 60 s ago"),
        ("\xff\xfe.a.b", "holds no JSON Web Token"),
    ],
)
def test_a_token_that_cannot_serve_is_not_sent(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    caller = Caller("billing", path)
    with asking(recording("v0.0.44"), caller=caller, now=lambda: NOW) as (rest, asked):
        with pytest.raises(SourceError, match=message) as caught:
            rest.negotiate()
        assert asked == []
    assert token(exp=NOW)[:20] not in str(caught.value)
