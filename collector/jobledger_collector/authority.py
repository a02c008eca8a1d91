"""A small certificate authority, for sites without one of their own.

Elliptic keys (P-256), which every TLS 1.2 speaks. An agent's certificate names
it by a URI, ``agent_uri``; the collector's names the hosts that agents call.
"""

import ipaddress
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jobledger_collector.core.errors import ConfigInvalid
from jobledger_collector.tls import MAX_PEM_BYTES

CA_DAYS: Final = 3_650
DAYS: Final = 397
"""How long a certificate for a program is valid: what public authorities give at most."""
BACKDATED: Final = timedelta(hours=1)
"""A clock that is behind must not find a new certificate not valid yet."""
CA_FILE: Final = "ca.pem"
CA_KEY_FILE: Final = "ca.key"
SECRET_MODE: Final = 0o600
PUBLIC_MODE: Final = 0o644


class Pair(NamedTuple):
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Authority(NamedTuple):
    """An authority that can issue."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """Its certificate, PEM: what others trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def agent_uri(agent: str) -> str:
    """Return the name that an agent's certificate carries."""
    return f"spiffe://jobledger/agent/{quote(agent, safe='')}"


def new_authority(name: str, now_s: int, days: int = CA_DAYS) -> tuple[Authority, Pair]:
    """Make an authority; the pair is what its folder keeps."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(name)
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        _builder(subject, subject, key, now_s, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key), Pair(
        certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)
    )


def for_server(authority: Authority, hosts: Iterable[str], now_s: int, days: int = DAYS) -> Pair:
    """Issue the collector's certificate, for the hosts and addresses that agents call."""
    names = tuple(hosts)
    alternatives = [_host(name) for name in names]
    return _issue(authority, names[0], alternatives, ExtendedKeyUsageOID.SERVER_AUTH, now_s, days)


def for_agent(authority: Authority, agent: str, now_s: int, days: int = DAYS) -> Pair:
    """Issue an agent's certificate."""
    uri = x509.UniformResourceIdentifier(agent_uri(agent))
    return _issue(authority, agent, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, now_s, days)


def load_authority(folder: Path) -> Authority:
    """Read an authority's folder; raises ConfigInvalid."""
    try:
        certificate = x509.load_pem_x509_certificate(_read(folder / CA_FILE))
        key = serialization.load_pem_private_key(_read(folder / CA_KEY_FILE), None)
    except (ValueError, TypeError) as error:
        raise ConfigInvalid(f"{folder} does not hold an authority of ours: {error}.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigInvalid(f"{folder / CA_KEY_FILE} is not a key of `jobledger agents ca init`.")
    return Authority(certificate, key)


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Put a file in place whole, with its mode from the start; raises ConfigInvalid."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise ConfigInvalid(f"Cannot write {path}: {error.strerror}.") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_PEM_BYTES)
    except OSError as error:
        raise ConfigInvalid(
            f"Cannot read {path}: {error.strerror}; `jobledger agents ca init` makes an authority."
        ) from error


def _issue(
    authority: Authority,
    name: str,
    alternatives: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    now_s: int,
    days: int,
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_named(name), authority.certificate.subject, key, now_s, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now_s: int, days: int
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(now_s, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _named(name: str) -> x509.Name:
    most = 64  # X.520 ub-common-name
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:most])])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
