"""What the server proves and asks with certificates; read again when files change."""

import ssl
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from jobledger_collector.config import TlsSection
from jobledger_collector.core.errors import ConfigInvalid

MAX_PEM_BYTES: Final = 1024 * 1024


class Certificates:
    """The server's certificate files, watched: a renewed one needs no restart."""

    def __init__(self, section: TlsSection) -> None:
        """Read the files once; raises ConfigInvalid when one cannot be."""
        self._section = section
        self._stamp = self._current_stamp()
        self._first = self._configuration()

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files for as long as the server runs."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self.renewed,  # type: ignore[arg-type]  # None is "unchanged"; the stubs miss it
            require_client_authentication=bool(self._section.client_ca_file),
        )

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new configuration, None while the files are as they were."""
        try:
            stamp = self._current_stamp()
            if stamp == self._stamp:
                return None
            renewed = self._configuration()
        except ConfigInvalid:
            return None  # half-renewed files: the last whole pair still serves
        self._stamp = stamp
        return renewed

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        section = self._section
        pair = (_read(section.key_file, "key_file"), _read(section.certificate_file, "certificate"))
        ca = _read(section.client_ca_file, "client_ca_file") if section.client_ca_file else None
        _check_that_they_fit(section)
        return grpc.ssl_server_certificate_configuration([pair], ca)

    def _current_stamp(self) -> tuple[int, ...]:
        section = self._section
        names = (section.certificate_file, section.key_file, section.client_ca_file)
        try:
            return tuple(Path(name).stat().st_mtime_ns for name in names if name)
        except OSError as error:
            raise ConfigInvalid(f"[tls] {error.filename}: {error.strerror}.") from error


def peer_certificate(pem: bytes) -> tuple[frozenset[str], int]:
    """Return the names in a certificate and when it expires (epoch seconds).

    Names are its URIs (SPIFFE ids), DNS names and common name. The handshake has
    verified it; one that cannot be read has no names and has expired.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = {str(name.value) for name in _common_names(certificate)}
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        alternatives = found.value
        if isinstance(alternatives, x509.SubjectAlternativeName):
            names |= set(alternatives.get_values_for_type(x509.UniformResourceIdentifier))
            names |= set(alternatives.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        pass
    except ValueError:
        return frozenset(), 1
    return frozenset(filter(None, names)), expiry(certificate)


def expiry(certificate: x509.Certificate) -> int:
    """Return when a certificate expires, in epoch seconds."""
    return int(certificate.not_valid_after_utc.timestamp())


def _common_names(certificate: x509.Certificate) -> list[x509.NameAttribute[str | bytes]]:
    return certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)


def _check_that_they_fit(section: TlsSection) -> None:
    """Raise ConfigInvalid for files that gRPC would refuse without saying why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key with a passphrase must fail here, not ask for it on the terminal.
        context.load_cert_chain(section.certificate_file, section.key_file, password="")
    except (ssl.SSLError, OSError) as error:
        raise ConfigInvalid(
            f"[tls] certificate_file {section.certificate_file} and key_file {section.key_file} do"
            f" not fit together ({_reason(error)}): give the key, without a passphrase, that the"
            " certificate was made for."
        ) from error
    try:
        if section.client_ca_file:
            context.load_verify_locations(section.client_ca_file)
    except (ssl.SSLError, OSError) as error:
        raise ConfigInvalid(
            f"[tls] client_ca_file {section.client_ca_file} holds no certificate of an authority"
            f" ({_reason(error)})."
        ) from error


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", "") or error.strerror or error)


def _read(name: str, key: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            pem = file.read(MAX_PEM_BYTES)
    except OSError as error:
        raise ConfigInvalid(f"Cannot read {name} ([tls] {key}): {error.strerror}.") from error
    if b"-----BEGIN " not in pem:
        raise ConfigInvalid(f"{name} ([tls] {key}) is not a PEM file.")
    return pem
