"""``jobledger.toml``: where the books are, who sells, how documents look.

Precedence: ``--db`` over environment over file. Every key can be given by the
environment as ``JOBLEDGER_<SECTION>_<KEY>``; ``JOBLEDGER_DB`` is short for
``JOBLEDGER_DATABASE_URL``. An unknown key is refused with the nearest known one.
"""

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from jobledger_collector.core.document import DocumentSettings, Seller
from jobledger_collector.core.errors import ConfigInvalid

DEFAULT_PATHS: Final = (Path("jobledger.toml"), Path("/etc/jobledger/jobledger.toml"))
MAX_CONFIG_BYTES: Final = 1_048_576
MAX_DUE_DAYS: Final = 365
SERIES_PATTERN: Final = re.compile(r"[A-Z]{1,8}")
ENV_PREFIX: Final = "JOBLEDGER_"

SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "database": ("url", "url_file"),
    "seller": tuple(field.name for field in dataclasses.fields(Seller)),
    "documents": tuple(field.name for field in dataclasses.fields(DocumentSettings)),
    "agents": ("address", "ca_directory", "ca_file"),
}
INTEGER_KEYS: Final = frozenset({("documents", "due_days")})

Settings = dict[str, dict[str, str | int]]


@dataclass(frozen=True, slots=True)
class AgentsSettings:
    """Where agents call the collector, and whom they are to trust.

    ``ca_directory`` is that of ``jobledger agents ca init``; ``ca_file`` is a
    site's own authority, which goes before it.
    """

    address: str = "127.0.0.1:7610"
    ca_directory: str = "/etc/jobledger/ca"
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """Settings of ``jobledger``, checked.

    Without a seller no document can be issued.
    """

    database_url: str
    seller: Seller | None
    documents: DocumentSettings
    agents: AgentsSettings = AgentsSettings()


def load_config(path: Path | None, db: str | None, environ: Mapping[str, str]) -> AdminConfig:
    """Read the settings; raises ConfigInvalid with the file, the key and a hint.

    ``path`` None means the first of DEFAULT_PATHS that exists, or no file.
    """
    named = path or _named_by_environment(environ)
    settings = _read(named) if named else {}
    _apply_environment(settings, environ)
    return AdminConfig(
        database_url=db or _database_url(settings.get("database", {})),
        seller=_seller(settings.get("seller", {})),
        documents=_documents(settings.get("documents", {})),
        agents=AgentsSettings(
            **{key: str(value).strip() for key, value in settings.get("agents", {}).items()}
        ),
    )


def process_environment() -> Mapping[str, str]:
    """Return this process's environment: the one place that reads it."""
    return os.environ


def _named_by_environment(environ: Mapping[str, str]) -> Path | None:
    named = environ.get("JOBLEDGER_CONFIG")
    if named:
        return Path(named)
    return next((path for path in DEFAULT_PATHS if path.is_file()), None)


def _read(path: Path) -> Settings:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigInvalid(
                f"{path} is larger than {MAX_CONFIG_BYTES} bytes; is it the right file?"
            )
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        message = f"Cannot read the configuration {path}: {error.strerror}; check --config"
        raise ConfigInvalid(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path} is not valid TOML: {error}") from error
    settings: Settings = {}
    for section, keys in document.items():
        _known(str(path), "section", section, tuple(SECTIONS))
        if not isinstance(keys, dict):
            raise ConfigInvalid(f"{path}: {section} must be a section: write [{section}]")
        settings[section] = {
            key: _value(str(path), section, key, value) for key, value in keys.items()
        }
    _refuse_password(settings.get("database", {}).get("url", ""), path)
    return settings


def _value(where: str, section: str, key: str, value: object) -> str | int:
    _known(where, f"key in [{section}]", key, SECTIONS[section])
    if (section, key) in INTEGER_KEYS:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigInvalid(f"{where}: [{section}] {key} must be a whole number")
        return value
    if not isinstance(value, str):
        raise ConfigInvalid(f'{where}: [{section}] {key} must be text in quotes: {key} = "…"')
    return value


def _known(where: str, what: str, name: str, known: tuple[str, ...]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else "known: " + ", ".join(known)
    raise ConfigInvalid(f'{where}: unknown {what} "{name}"; {hint}')


def _apply_environment(settings: Settings, environ: Mapping[str, str]) -> None:
    for section, keys in SECTIONS.items():
        for key in keys:
            name = f"{ENV_PREFIX}{section}_{key}".upper()
            if name in environ:
                settings.setdefault(section, {})[key] = _from_environment(
                    name, environ[name], whole=(section, key) in INTEGER_KEYS
                )
    short = environ.get("JOBLEDGER_DB")
    if short:
        settings.setdefault("database", {})["url"] = short


def _from_environment(name: str, text: str, *, whole: bool) -> str | int:
    if not whole:
        return text
    if not (text.isascii() and text.isdigit()):
        raise ConfigInvalid(f"{name} must be a whole number, not {text!r}")
    return int(text)


def _refuse_password(url: str | int, path: Path) -> None:
    try:
        password = urlsplit(str(url)).password
    except ValueError as error:
        raise ConfigInvalid(f"{path}: [database] url is not a URL: {error}") from error
    if password:
        message = (
            f"{path}: [database] url holds a password, which does not belong in this file:"
            " put the whole URL in a file of its own and name it with url_file,"
            " or set JOBLEDGER_DB"
        )
        raise ConfigInvalid(message)


def _database_url(database: Mapping[str, str | int]) -> str:
    url = str(database.get("url", ""))
    file = str(database.get("url_file", ""))
    if url or not file:
        return url
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"Cannot read the database URL from {file} ([database] url_file): {error}"
        raise ConfigInvalid(message) from error


def _seller(given: Mapping[str, str | int]) -> Seller | None:
    texts = {key: str(value).strip() for key, value in given.items()}
    for field in dataclasses.fields(Seller):
        if texts and field.default is dataclasses.MISSING and not texts.get(field.name):
            raise ConfigInvalid(f"[seller] {field.name} is missing: documents must print it")
    return Seller(**texts) if texts else None


def _documents(given: Mapping[str, str | int]) -> DocumentSettings:
    usual = DocumentSettings()
    settings = DocumentSettings(
        invoice_series=_series(given, "invoice_series", usual.invoice_series),
        statement_series=_series(given, "statement_series", usual.statement_series),
        due_days=_due_days(given.get("due_days", usual.due_days)),
    )
    if settings.invoice_series == settings.statement_series:
        raise ConfigInvalid("[documents] invoice_series and statement_series must differ")
    return settings


def _series(given: Mapping[str, str | int], key: str, usual: str) -> str:
    text = str(given.get(key, usual))
    if not SERIES_PATTERN.fullmatch(text):
        raise ConfigInvalid(f'[documents] {key} must be 1 to 8 capital letters, not "{text}"')
    return text


def _due_days(value: str | int) -> int:
    days = int(value)
    if not 0 <= days <= MAX_DUE_DAYS:
        raise ConfigInvalid(f"[documents] due_days must be between 0 and {MAX_DUE_DAYS}")
    return days
