"""When certificates end: read from their PEM files without a library of cryptography.

Only the dates are read here, for people and metrics; whether a certificate is
to be trusted is OpenSSL's to say, with each handshake.
"""

import base64
import binascii
import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from jobledger_agent.errors import AgentError
from jobledger_agent.settings.sections import CollectorSection

PEM_BYTES_MAX: Final = 1 << 20
CERTIFICATES_MAX: Final = 512
"""In one file: a bundle of all public authorities has about 150."""
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_PEM: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----\s*([A-Za-z0-9+/=\s]+?)\s*-----END CERTIFICATE-----"
)


class CertificateError(AgentError):
    """A certificate's dates cannot be read; says of which file and why."""


class _Piece(NamedTuple):
    """One DER element: tag, content, and where the next one begins."""

    tag: int
    content: bytes
    end: int


def expiry(path: Path) -> int:
    """Return when the first of a PEM file's certificates to end does (epoch s).

    Raises CertificateError.
    """
    try:
        with path.open("rb") as file:
            text = file.read(PEM_BYTES_MAX)
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from error
    try:
        ends = [der_expiry(der) for der in _ders(text)]
    except (ValueError, IndexError, binascii.Error) as error:
        raise CertificateError(f"{path} holds a certificate that cannot be read") from error
    if not ends:
        raise CertificateError(f"{path} holds no certificate in PEM form")
    return min(ends)


def expiries(collector: CollectorSection) -> dict[Path, int]:
    """Return when each of the link's own certificate files ends; unreadable ones are left out."""
    found: dict[Path, int] = {}
    for path in filter(None, (collector.ca_file, collector.cert_file)):
        try:
            found[path] = expiry(path)
        except CertificateError:
            continue
    return found


def der_expiry(der: bytes) -> int:
    """Return notAfter (epoch s) of one X.509 certificate. Raises ValueError, IndexError."""
    certificate = _piece(der, 0, _SEQUENCE)
    body = _piece(certificate.content, 0, _SEQUENCE).content
    first = _piece(body, 0)
    at = first.end if first.tag == _VERSION else 0
    for _ in ("serialNumber", "signature", "issuer"):
        at = _piece(body, at).end
    validity = _piece(body, at, _SEQUENCE).content
    return _time(_piece(validity, _piece(validity, 0).end))


def _ders(text: bytes) -> Iterator[bytes]:
    for number, found in enumerate(_PEM.finditer(text)):
        if number == CERTIFICATES_MAX:
            return
        yield base64.b64decode(b"".join(found[1].split()), validate=True)


def _piece(der: bytes, at: int, tag: int | None = None) -> _Piece:
    """Read the element at an offset, as DER (X.690) lays it out."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(der[start : start + size]), start + size
    if start + length > len(der) or tag not in (None, der[at]):
        raise ValueError("no certificate")
    return _Piece(der[at], der[start : start + length], start + length)


def _time(piece: _Piece) -> int:
    """Read UTCTime (years 1950 to 2049, RFC 5280) or GeneralizedTime."""
    text = piece.content.decode("ascii")
    if piece.tag == _UTC_TIME:
        text = ("20" if int(text[:2]) < 50 else "19") + text  # noqa: PLR2004  RFC 5280's pivot
    parsed = dt.datetime.strptime(text, "%Y%m%d%H%M%SZ")  # noqa: DTZ007  "Z" is UTC
    return int(parsed.replace(tzinfo=dt.UTC).timestamp())
