"""Certificates that gRPC would only mutter about are refused in a sentence that names them."""

import subprocess
from pathlib import Path

import pytest

from jobledger_agent.delivery.tls import credentials
from jobledger_agent.settings.config import ConfigError
from jobledger_agent.settings.sections import CollectorSection


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two certificates with their keys, and one key with a passphrase."""
    folder = tmp_path_factory.mktemp("pems")
    for name in ("one", "two"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(command, check=True, cwd=folder, capture_output=True)
    command = ["openssl", "rsa", "-aes256", "-passout", "pass:abcd", "-in", "one.key"]
    subprocess.run([*command, "-out", "closed.key"], check=True, cwd=folder, capture_output=True)
    return folder


def section(made: Path, *names: str) -> CollectorSection:
    """Settings with these files: authority, certificate, key."""
    ca, certificate, key = (made / name if name else None for name in names)
    return CollectorSection("db.example.org:7610", ca_file=ca, cert_file=certificate, key_file=key)


@pytest.mark.parametrize(
    ("ca", "certificate", "key", "says"),
    [
        ("one.key", "", "", "no certificate of an authority"),
        ("one.pem", "one.pem", "two.key", "do not fit together"),
        ("one.pem", "one.pem", "closed.key", "without a passphrase"),
        ("one.pem", "one.key", "one.key", "do not fit together"),
        ("nowhere.pem", "", "", "cannot read collector.ca_file"),
    ],
)
def test_files_that_do_not_fit_are_named(
    made: Path, ca: str, certificate: str, key: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        credentials(section(made, ca, certificate, key))


def test_files_that_fit_are_taken(made: Path) -> None:
    assert credentials(section(made, "two.pem", "one.pem", "one.key")) is not None
    assert credentials(CollectorSection("db.example.org:7610", tls=True)) is not None
