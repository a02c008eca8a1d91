"""Certificates: wrong ones are named before anything listens, renewed ones are taken."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from jobledger_collector.config import TlsSection
from jobledger_collector.core.errors import ConfigInvalid
from jobledger_collector.tls import Certificates

Section = Callable[..., TlsSection]


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


@pytest.mark.parametrize(
    ("certificate", "key", "ca", "says"),
    [
        ("one.pem", "two.key", "", "do not fit together"),
        ("one.pem", "one.pem", "", "do not fit together"),
        ("one.key", "one.key", "", "do not fit together"),
        ("one.pem", "closed.key", "", "without a passphrase"),
        ("one.pem", "one.key", "two.key", "no certificate of an authority"),
        ("one.pem", "nowhere.key", "", "Cannot read .*nowhere.key|nowhere.key: No such file"),
    ],
)
def test_files_that_do_not_fit_are_named(
    made: Path, certificate: str, key: str, ca: str, says: str
) -> None:
    section = TlsSection(str(made / certificate), str(made / key), str(made / ca) if ca else "")
    with pytest.raises(ConfigInvalid, match=says):
        Certificates(section)


def test_whole_renewals_are_taken_and_halves_are_not(made: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("cert", "key", "ca")}

    def install(later_s: int, **names: str) -> None:
        for target, name in names.items():
            files[target].write_bytes((made / name).read_bytes())
            os.utime(files[target], ns=(0, later_s * 10**9))

    install(1, cert="one.pem", key="one.key", ca="one.pem")
    certificates = Certificates(TlsSection(*(str(path) for path in files.values())))
    assert certificates.renewed() is None
    install(2, cert="two.pem")
    assert certificates.renewed() is None, "a key that is still to come"
    install(3, key="two.key")
    assert certificates.renewed() is not None
    assert certificates.renewed() is None
    install(4, ca="two.pem")
    assert certificates.renewed() is not None, "another authority counts, too"
