"""Credentials of the link: certificates and token from files, plain text only to this machine."""

import datetime as dt
import hashlib
import ipaddress
from pathlib import Path
from typing import Final

import grpc

from jobledger_agent import clock
from jobledger_agent.delivery.certificates import expiries
from jobledger_agent.settings.config import TOKEN_VARIABLE, ConfigError, split_address
from jobledger_agent.settings.sections import CollectorSection

PEM_BYTES_MAX: Final = 1 << 20
SECRET_CHARS_MIN: Final = 16
SECRET_BYTES_MAX: Final = 4096
PLACEHOLDERS: Final = frozenset(
    {"", "changeme", "change-me", "change_me", "secret", "password", "token", "default", "example"}
)


def credentials(collector: CollectorSection) -> grpc.ChannelCredentials | None:
    """Return what the channel needs, None for plaintext. Raises ConfigError.

    The files are read anew for each stream, so a rotated certificate needs no restart.
    """
    if not collector.wants_tls:
        if not is_loopback(collector.address):
            raise ConfigError(
                f"collector.address {collector.address} is not on this machine and would be sent "
                "to in plain text: set collector.ca_file (and cert_file, key_file)"
            )
        return None
    _check_that_they_fit(collector)
    _check_that_it_is_valid(collector, clock.now_s())
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(collector.ca_file, "ca_file"),
        private_key=_pem(collector.key_file, "key_file"),
        certificate_chain=_pem(collector.cert_file, "cert_file"),
    )


def bearer_token(collector: CollectorSection) -> str:
    """Return the agent's secret, "" for none. Raises ConfigError for one that is no secret."""
    if collector.token:
        return _secret(collector.token, TOKEN_VARIABLE)
    if collector.token_file is None:
        return ""
    try:
        with collector.token_file.open("rb") as file:
            text = file.read(SECRET_BYTES_MAX).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read collector.token_file: {error}") from error
    return _secret(text, str(collector.token_file))


def fingerprint(collector: CollectorSection) -> str:
    """Return what changes when any of the link's files does: their contents, hashed.

    A file that cannot be read counts as empty, so that a rotation that is half
    done is a change, and its end another one.
    """
    digest = hashlib.sha256()
    for path in (
        collector.ca_file, collector.cert_file, collector.key_file, collector.token_file,
    ):  # fmt: skip
        content = b""
        if path is not None:
            try:
                with path.open("rb") as file:
                    content = file.read(PEM_BYTES_MAX)
            except OSError:
                content = b""
        digest.update(len(content).to_bytes(8))
        digest.update(content)
    return digest.hexdigest()


def is_loopback(address: str) -> bool:
    """Whether "host:port" can only lead back to this machine."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_that_they_fit(collector: CollectorSection) -> None:
    """Raise ConfigError for files that gRPC would only complain of in its own words."""
    import ssl  # noqa: PLC0415 - two MiB that an agent without TLS does not need

    _pem(collector.ca_file, "ca_file")
    _pem(collector.cert_file, "cert_file")
    _pem(collector.key_file, "key_file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if collector.ca_file:
            context.load_verify_locations(collector.ca_file)
    except OSError as error:
        raise ConfigError(
            f"collector.ca_file {collector.ca_file} holds no certificate of an authority"
        ) from error
    try:
        if collector.cert_file:
            # A key with a passphrase must fail here, not ask for it on the terminal.
            context.load_cert_chain(collector.cert_file, collector.key_file, password="")
    except OSError as error:
        raise ConfigError(
            f"collector.cert_file {collector.cert_file} and key_file {collector.key_file} do not "
            "fit together: give the key, without a passphrase, that the certificate was made for"
        ) from error


def _check_that_it_is_valid(collector: CollectorSection, now_s: int) -> None:
    """Raise ConfigError when the agent's certificate has expired: a handshake would not say so.

    An authority's file may hold an old one beside its successor; OpenSSL chooses.
    """
    ends_s = expiries(collector).get(collector.cert_file) if collector.cert_file else None
    if ends_s is not None and ends_s <= now_s:
        day = dt.datetime.fromtimestamp(ends_s, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
        raise ConfigError(
            f"the certificate in {collector.cert_file} expired on {day}: ask the collector's "
            "operators for a new one (`jobledger agents rotate`) and run `jobledger-agent enroll`"
        )


def _secret(text: str, where: str) -> str:
    if text.lower() in PLACEHOLDERS or len(text) < SECRET_CHARS_MIN or not text.isprintable():
        raise ConfigError(
            f"{where} holds a placeholder or fewer than {SECRET_CHARS_MIN} characters, not a "
            "secret: make one with `openssl rand -hex 32`"
        )
    return text


def _pem(path: Path | None, key: str) -> bytes | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(PEM_BYTES_MAX)
    except OSError as error:
        raise ConfigError(f"cannot read collector.{key} {path}: {error.strerror}") from error
    if b"-----BEGIN" not in text:
        raise ConfigError(f"collector.{key} {path} is not a PEM file")
    return text
