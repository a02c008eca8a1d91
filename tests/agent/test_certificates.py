"""When certificates end, as openssl says it too."""

import datetime as dt
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger_agent.delivery.certificates import CertificateError, der_expiry, expiries, expiry
from jobledger_agent.settings.sections import CollectorSection

DAY_S = 86_400


def make(folder: Path, name: str, days: int, *, kind: str = "rsa:2048") -> Path:
    path = folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", kind, "-nodes", "-keyout", folder / f"{name}.key",
         "-out", path, "-days", str(days), "-subj", f"/CN={name}",
         *(["-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else [])],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


def openssl_says(path: Path) -> str:
    return subprocess.run(
        ["openssl", "x509", "-in", path, "-noout", "-enddate", "-dateopt", "iso_8601"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


@pytest.mark.parametrize(("days", "kind"), [(1, "ec"), (400, "rsa:2048"), (365 * 60, "ec")])
def test_the_end_is_what_openssl_says(tmp_path: Path, days: int, kind: str) -> None:
    """Sixty years are beyond 2049, where the form of dates changes."""
    path = make(tmp_path, "one", days, kind=kind)
    end = dt.datetime.fromtimestamp(expiry(path), dt.UTC)
    assert openssl_says(path) == f"notAfter={end:%Y-%m-%d %H:%M:%SZ}"


def test_of_several_the_first_to_end_counts(tmp_path: Path) -> None:
    soon, late = make(tmp_path, "soon", 3, kind="ec"), make(tmp_path, "late", 90, kind="ec")
    both = tmp_path / "both.pem"
    both.write_bytes(late.read_bytes() + b"words between\n" + soon.read_bytes())
    assert expiry(both) == expiry(soon) < expiry(late)


@pytest.mark.parametrize("text", [
    "", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    "-----BEGIN CERTIFICATE-----\nMII=A\n-----END CERTIFICATE-----",
    "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
])  # fmt: skip
def test_what_is_no_certificate_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.pem"
    path.write_text(text)
    with pytest.raises(CertificateError, match=r"odd\.pem"):
        expiry(path)


def test_files_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    path = make(tmp_path, "agent", 30, kind="ec")
    section = CollectorSection(ca_file=tmp_path / "missing.pem", cert_file=path)
    assert expiries(section) == {path: expiry(path)}
    assert expiries(CollectorSection()) == {}


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_do_no_harm(der: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        der_expiry(der)
