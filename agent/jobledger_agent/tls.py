"""Credentials of the link: TLS from files, and plaintext only where nobody can listen in."""

import ipaddress
from pathlib import Path
from typing import Final

import grpc

from jobledger_agent.config import CollectorSection, ConfigError, split_address

PEM_BYTES_MAX: Final = 1 << 20


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
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(collector.ca_file, "ca_file"),
        private_key=_pem(collector.key_file, "key_file"),
        certificate_chain=_pem(collector.cert_file, "cert_file"),
    )


def is_loopback(address: str) -> bool:
    """Whether "host:port" can only lead back to this machine."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
