"""web.toml and the environment -> WebConfig: read once, checked, then trusted.

Every key may be overridden by ``JOBLEDGER_WEB_<SECTION>_<KEY>``; lists are
comma-separated there. An unknown key is refused with the nearest known one.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple

from jobledger_collector.core.errors import ConfigInvalid

MAX_CONFIG_BYTES = 256 * 1024
MAX_SECONDS = 7 * 24 * 3600
MAX_THREADS = 64
MAX_PORT = 65_535
ENVIRONMENT_PREFIX = "JOBLEDGER_WEB_"

Network = IPv4Network | IPv6Network


class Listen(NamedTuple):
    """Where the server listens; port 0 lets the system choose one."""

    host: str
    port: int


DEFAULT_LISTEN = Listen("127.0.0.1", 8080)


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Everything that may be configured; the values here are the defaults."""

    database_url: str
    listen: Listen = DEFAULT_LISTEN
    threads: int = 8
    trusted_proxies: tuple[Network, ...] = ()
    idle_s: int = 30 * 60
    absolute_s: int = 12 * 3600
    metrics_allow: tuple[Network, ...] = field(
        default=(IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    )


_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "web": ("listen", "threads", "trusted_proxies"),
    "database": ("url", "url_file"),
    "sessions": ("idle_s", "absolute_s"),
    "metrics": ("allow",),
}


def load(path: Path | None, overrides: Mapping[str, str]) -> WebConfig:
    """Read ``path`` (None: no file), then the environment, then ``overrides``.

    ``overrides`` are command-line values by dotted key, such as ``web.listen``.
    Raises ConfigInvalid.
    """
    values: dict[str, object] = {}
    for layer in ({} if path is None else _read(path), _from_environment(os.environ), overrides):
        if "database.url" in layer or "database.url_file" in layer:
            values.pop("database.url", None)
            values.pop("database.url_file", None)
        values.update(layer)
    return _build(values)


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise ConfigInvalid(
                f"{path} is larger than {MAX_CONFIG_BYTES} bytes; is it the config?"
            )
        document = tomllib.loads(raw.decode())
    except OSError as error:
        raise ConfigInvalid(
            f"{path} cannot be read ({error.strerror}); give the right --config FILE."
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigInvalid(f"{path} is not TOML: {error}.") from error
    return _flatten(document, path)


def _flatten(document: Mapping[str, object], path: Path) -> dict[str, object]:
    values: dict[str, object] = {}
    for section, content in document.items():
        if section not in _SECTIONS or not isinstance(content, Mapping):
            raise ConfigInvalid(f"{path}: unknown section [{section}]{_hint(section, _SECTIONS)}")
        for key, value in content.items():
            if key not in _SECTIONS[section]:
                hint = _hint(key, _SECTIONS[section])
                raise ConfigInvalid(f"{path}: unknown key {key} in [{section}]{hint}")
            values[f"{section}.{key}"] = value
    if "@" in str(values.get("database.url", "")) and ":" in _credentials(values):
        raise ConfigInvalid(
            f"{path}: [database] url holds a password; put the URL into a file that only"
            " jobledger-web can read and name it in url_file."
        )
    return values


def _credentials(values: Mapping[str, object]) -> str:
    return str(values["database.url"]).partition("://")[2].rpartition("@")[0]


def _hint(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known are {', '.join(known)}."


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    names = {
        f"{ENVIRONMENT_PREFIX}{section}_{key}".upper(): f"{section}.{key}"
        for section, keys in _SECTIONS.items()
        for key in keys
    }
    for name, value in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        if name not in names:
            raise ConfigInvalid(f"Unknown environment variable {name}{_hint(name, names)}")
        values[names[name]] = value
    return values


def _build(values: Mapping[str, object]) -> WebConfig:
    default = {f.name: f.default for f in fields(WebConfig)}
    config = WebConfig(
        database_url=_database_url(values),
        listen=_listen(values.get("web.listen", "127.0.0.1:8080")),
        threads=_whole(values, "web.threads", default["threads"], MAX_THREADS),
        trusted_proxies=_networks(values, "web.trusted_proxies", ()),
        idle_s=_whole(values, "sessions.idle_s", default["idle_s"], MAX_SECONDS),
        absolute_s=_whole(values, "sessions.absolute_s", default["absolute_s"], MAX_SECONDS),
        metrics_allow=_networks(values, "metrics.allow", ("127.0.0.0/8", "::1/128")),
    )
    if not is_loopback(config.listen.host) and not config.trusted_proxies:
        raise ConfigInvalid(
            f"web.listen is {config.listen.host}, which others can reach, but the web speaks"
            " plain HTTP: listen on 127.0.0.1, or put a TLS proxy in front and name its"
            " address in web.trusted_proxies."
        )
    if config.idle_s > config.absolute_s:
        raise ConfigInvalid("sessions.idle_s is longer than sessions.absolute_s; make it shorter.")
    return config


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    return ip_address(host).is_loopback


def contains(networks: tuple[Network, ...], address: IPv4Address | IPv6Address) -> bool:
    """Say whether one of ``networks`` holds ``address``; IPv4 in IPv6 counts as IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    plain = mapped or address
    return any(plain in network for network in networks)


def _database_url(values: Mapping[str, object]) -> str:
    url, file = values.get("database.url", ""), values.get("database.url_file", "")
    if not isinstance(url, str) or not isinstance(file, str):
        raise ConfigInvalid("database.url and database.url_file must be text in quotes.")
    if url and file:
        raise ConfigInvalid("Give either database.url or database.url_file, not both.")
    if file:
        try:
            url = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigInvalid(f"database.url_file {file} cannot be read: {error}.") from error
    if not url:
        raise ConfigInvalid(
            "No database is named: give --db URL, database.url or database.url_file, for"
            " example sqlite:////var/lib/jobledger/jobledger.db."
        )
    return url


def _listen(value: object) -> Listen:
    host, colon, port = str(value).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if colon and _is_address(host) and port.isascii() and port.isdigit():
        number = int(port)
        if number <= MAX_PORT:
            return Listen(host, number)
    raise ConfigInvalid(f"web.listen {value!r} is not ADDRESS:PORT, for example 127.0.0.1:8080.")


def _is_address(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _whole(values: Mapping[str, object], key: str, default: object, most: int) -> int:
    value = values.get(key, default)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigInvalid(f"{key} is {value!r}; write a whole number from 1 to {most}.")
    return value


def _networks(
    values: Mapping[str, object], key: str, default: tuple[str, ...]
) -> tuple[Network, ...]:
    value = values.get(key, default)
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise ConfigInvalid(f'{key} must be a list such as ["192.0.2.1", "10.0.0.0/8"].')
    try:
        return tuple(ip_network(str(part)) for part in value)
    except ValueError as error:
        raise ConfigInvalid(f"{key}: {error}; write an address or a network.") from error
