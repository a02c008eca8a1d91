"""``collector.toml``: where the database is, where to listen, whom to trust.

Precedence: the command line, the environment, the file, the defaults. Every key
can be given as ``JOBLEDGER_COLLECTOR_<SECTION>_<KEY>``; an unknown key is
refused with the nearest known one. Secrets are only ever named by a file.
"""

import dataclasses
import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, get_type_hints

from jobledger_collector.core.errors import ConfigInvalid

DEFAULT_PATH: Final = Path("/etc/jobledger/collector.toml")
MAX_CONFIG_BYTES: Final = 1024 * 1024
ENV_PREFIX: Final = "JOBLEDGER_COLLECTOR_"
ENV_CONFIG: Final = "JOBLEDGER_COLLECTOR_CONFIG"
"""Names the settings file; not a setting itself."""
MIN_TOKEN_CHARS: Final = 16
MAX_TOKEN_CHARS: Final = 4_096
DEFAULT_SECRETS: Final = frozenset({
    "changeme", "change-me", "change_me", "secret", "password", "token", "default", "example",
})  # fmt: skip
"""Words that nobody may leave in place as a token, alone or repeated."""
MAX_STREAMS: Final = 256
MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class DatabaseSection:
    """Where the books are kept: a URL, or a file that holds one with its password."""

    url: str = "sqlite:////var/lib/jobledger/jobledger.db"
    url_file: str = ""


@dataclass(frozen=True, slots=True)
class ServerSection:
    """Where agents connect, and how many at one time."""

    listen: str = "127.0.0.1:7610"
    max_streams: int = 32
    token_file: str = ""
    """Of agents that are not enrolled: these must present it, wherever they call from."""


@dataclass(frozen=True, slots=True)
class TlsSection:
    """Certificate and key of this server; with a client CA, agents must show theirs."""

    certificate_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""


@dataclass(frozen=True, slots=True)
class MetricsSection:
    """Where Prometheus reads; "" for nowhere."""

    listen: str = "127.0.0.1:7612"


@dataclass(frozen=True, slots=True)
class LogSection:
    """How much is said on stderr: debug, info, warning or error."""

    level: str = "info"


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """Settings of ``jobledger-collector``, checked."""

    database: DatabaseSection = field(default_factory=DatabaseSection)
    server: ServerSection = field(default_factory=ServerSection)
    tls: TlsSection = field(default_factory=TlsSection)
    metrics: MetricsSection = field(default_factory=MetricsSection)
    log: LogSection = field(default_factory=LogSection)


class Address(NamedTuple):
    """A host and a port to listen on; port 0 is any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        """Write it as HOST:PORT, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Settings = dict[str, dict[str, Any]]
LEVELS: Final = ("debug", "info", "warning", "error")
_SECTIONS: Final[Mapping[str, type[Any]]] = {
    item.name: get_type_hints(CollectorConfig)[item.name]
    for item in dataclasses.fields(CollectorConfig)
}
_Section = TypeVar("_Section")


def load_config(
    path: Path | None, given: Mapping[tuple[str, str], str], environ: Mapping[str, str]
) -> CollectorConfig:
    """Read and check the settings; raises ConfigInvalid with the file, the key and a hint.

    ``given`` is what the command line says, by (section, key). Without ``path``
    the default file is read when it exists.
    """
    named = path or _named(environ)
    settings = _read(named) if named else {}
    _apply_environment(settings, environ)
    for (section, key), value in given.items():
        settings.setdefault(section, {})[key] = value
        if (section, key) == ("database", "url"):
            settings[section].pop("url_file", None)
    config = CollectorConfig(
        **{name: _section(kind, name, settings.get(name, {})) for name, kind in _SECTIONS.items()}
    )
    _check(config)
    return config


def process_environment() -> Mapping[str, str]:
    """Return this process's environment: the one place that reads it."""
    return os.environ


def database_url(config: CollectorConfig) -> str:
    """Return the database's URL, from its file when there is one."""
    if not config.database.url_file:
        return config.database.url
    return _read_secret(config.database.url_file, "[database] url_file")


def agents_token(config: CollectorConfig) -> str:
    """Return the token that agents must present, "" when none is asked for."""
    name = config.server.token_file
    if not name:
        return ""
    token = _read_secret(name, "[server] token_file")
    if len(token) < MIN_TOKEN_CHARS or _is_default(token):
        raise ConfigInvalid(
            f"The token in {name} is not a secret: make one of at least {MIN_TOKEN_CHARS}"
            " characters, for example with `openssl rand -hex 32`."
        )
    return token


def parse_address(text: str, where: str) -> Address:
    """Read HOST:PORT or [IPV6]:PORT; raises ConfigInvalid."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if colon and host and port.isascii() and port.isdigit() and int(port) <= MAX_PORT:
        return Address(host, int(port))
    raise ConfigInvalid(f'{where} "{text}" is not an address: write HOST:PORT, as 127.0.0.1:7610.')


def _named(environ: Mapping[str, str]) -> Path | None:
    named = environ.get(ENV_CONFIG)
    if named:
        return Path(named)
    return DEFAULT_PATH if DEFAULT_PATH.is_file() else None


def _read(path: Path) -> Settings:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise ConfigInvalid(f"{path} is larger than {MAX_CONFIG_BYTES} bytes: another file?")
        document = tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise ConfigInvalid(
            f"Cannot read the settings {path}: {error.strerror}; check --config."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path} is not valid TOML: {error}.") from error
    for name, keys in document.items():
        _known(f"{path}: section [{name}]", name, _SECTIONS)
        if not isinstance(keys, dict):
            raise ConfigInvalid(f"{path}: {name} must be a section: write [{name}].")
        for key in keys:
            _known(f"{path}: key {key} in [{name}]", key, _keys(_SECTIONS[name]))
    return document


def _apply_environment(settings: Settings, environ: Mapping[str, str]) -> None:
    known = {
        f"{ENV_PREFIX}{section}_{key}".upper(): (section, key)
        for section, kind in _SECTIONS.items()
        for key in _keys(kind)
    }
    for name, value in environ.items():
        if name.startswith(ENV_PREFIX) and name != ENV_CONFIG:
            _known(f"The environment's {name}", name, known)
            section, key = known[name]
            settings.setdefault(section, {})[key] = value


def _section(kind: type[_Section], name: str, given: Mapping[str, Any]) -> _Section:
    values = {}
    for key, value in given.items():
        wanted = _keys(kind)[key]
        if wanted is int and isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value)  # noqa: PLW2901 - the environment and options are text
        if type(value) is not wanted:
            what = "a whole number" if wanted is int else 'text in quotes: key = "…"'
            raise ConfigInvalid(f"[{name}] {key} = {value!r} must be {what}.")
        values[key] = value
    return kind(**values)


def _keys(kind: type[Any]) -> Mapping[str, type[Any]]:
    return get_type_hints(kind)


def _known(where: str, name: str, known: Mapping[str, object]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else "known are " + ", ".join(known) + "."
        raise ConfigInvalid(f"{where} is unknown; {hint}")


def _check(config: CollectorConfig) -> None:
    address = parse_address(config.server.listen, "[server] listen")
    if config.metrics.listen:
        parse_address(config.metrics.listen, "[metrics] listen")
    if not 1 <= config.server.max_streams <= MAX_STREAMS:
        raise ConfigInvalid(f"[server] max_streams must be from 1 to {MAX_STREAMS}.")
    if config.log.level not in LEVELS:
        raise ConfigInvalid(f"[log] level must be one of {', '.join(LEVELS)}.")
    tls = config.tls
    if bool(tls.certificate_file) != bool(tls.key_file) or (
        tls.client_ca_file and not tls.certificate_file
    ):
        raise ConfigInvalid("[tls] needs certificate_file and key_file together.")
    if not tls.certificate_file and not address.is_loopback:
        raise ConfigInvalid(
            f"[server] listen = {address} can be reached from other machines, but [tls] names no"
            " certificate: name certificate_file and key_file, or listen on 127.0.0.1."
        )


def _read_secret(name: str, where: str) -> str:
    try:
        with Path(name).open("rb") as file:
            text = file.read(MAX_TOKEN_CHARS + 1).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"Cannot read {name} ({where}): {error}.") from error
    if not text or len(text) > MAX_TOKEN_CHARS or len(text.split()) != 1:
        raise ConfigInvalid(f"{name} ({where}) must hold one line with one word.")
    return text


def _is_default(token: str) -> bool:
    rest = token.lower()
    for word in DEFAULT_SECRETS:
        rest = rest.replace(word, "")
    return len(set(rest)) < 4  # noqa: PLR2004 - "aaaa…" and "changemechangeme" are no secrets
