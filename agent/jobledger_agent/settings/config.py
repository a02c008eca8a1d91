"""Settings: one TOML file, overridden by the environment, parsed once into frozen types.

The only module of the agent that reads ``os.environ``. Secrets never stand in
the file: it names a file that holds them, or the environment does.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final, NamedTuple, get_type_hints

from jobledger_agent.errors import AgentError
from jobledger_agent.settings import schedulers
from jobledger_agent.settings.sections import (
    AgentConfig,
    FileSection,
    LiveSection,
    PyslurmSection,
    SacctSection,
    SlurmrestdSection,
    SourceSection,
)

DEFAULT_PATH: Final = Path("/etc/jobledger/agent.toml")
ENVIRONMENT_PREFIX: Final = "JOBLEDGER_AGENT_"
ENVIRONMENT_CONFIG: Final = "JOBLEDGER_AGENT_CONFIG"
"""Names the settings file; not a setting itself."""
TOKEN_VARIABLE: Final = "JOBLEDGER_AGENT_COLLECTOR_TOKEN"  # noqa: S105  a name, not a secret
SOURCES_MAX: Final = 64
NAME_CHARS_MAX: Final = 128
_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._@-]{{0,{NAME_CHARS_MAX - 1}}}")
"""What the collector takes for the name of an agent or a cluster."""
_GOOD_NAME: Final = f"up to {NAME_CHARS_MAX} letters, digits and ._@-, a letter or digit first"


class ConfigError(AgentError):
    """A setting is missing, unknown or wrong; says which, where and what would be right."""


class Supervisor(NamedTuple):
    """What systemd says through the environment; empty and 0 without it."""

    notify_socket: str
    watchdog_usec: int
    journal: bool


_SECTIONS: Final = ("agent", "collector", "spool", "metrics", "kick")
_KINDS: Final[Mapping[str, type[SourceSection]]] = {
    "sacct": SacctSection,
    "slurmrestd": SlurmrestdSection,
    "pyslurm": PyslurmSection,
    "file": FileSection,
}
_LIMITS: Final = {
    "max_bytes": (16 << 20, 1 << 42),
    "poll_interval_s": (1, 86_400),
    "overlap_s": (0, 31 * 86_400),
    "lookback_s": (0, 3660 * 86_400),
    "reserve_bytes": (1 << 20, 1 << 40),
    "sweep_days": (0, 3660),
    "dbd_queue_max": (1, 1 << 31),
    "timeout_s": (5, 3_600),
}
"""Lowest and highest value of each number, in the unit that its name says."""
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_EXPECTED: Final[Mapping[object, str]] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    Path: "a path",
    Path | None: "a path",
    tuple[str, ...]: "a list of texts, not empty",
    tuple[tuple[str, str], ...]: 'a table of OLD = "NEW"',
}


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> AgentConfig:
    """Read the settings file and the environment over it.

    Without ``path``: the file that JOBLEDGER_AGENT_CONFIG names, else DEFAULT_PATH. Raises
    ConfigError.
    """
    variables = os.environ if environment is None else environment
    path = path or Path(variables.get(ENVIRONMENT_CONFIG) or DEFAULT_PATH)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no settings file {path}: copy packaging/agent.example.toml there, or name "
            "another one with --config"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the settings file {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return parse(document, variables, str(path))


def from_environment(environment: Mapping[str, str] | None = None) -> AgentConfig:
    """Settings without a file: the defaults and the environment. Raises ConfigError."""
    return parse({}, os.environ if environment is None else environment, "the environment")


def parse(document: Mapping[str, Any], environment: Mapping[str, str], where: str) -> AgentConfig:
    """Build the settings from a parsed TOML document. Raises ConfigError."""
    _refuse_unknown(document, (*_SECTIONS, "source"), where)
    overrides = _overrides(environment)
    sections: dict[str, Any] = {
        name: _section(name, document.get(name, {}), overrides.get(name, {}), where)
        for name in _SECTIONS
    }
    config = AgentConfig(**sections, sources=_sources(document.get("source", []), where))
    return checked(config)


def checked(config: AgentConfig) -> AgentConfig:
    """Return the settings if they fit together. Raises ConfigError."""
    collector, name = config.collector, config.agent.name
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"agent.name {name[:NAME_CHARS_MAX]!r} cannot be an agent's name: {_GOOD_NAME}"
        )
    for cluster in filter(None, _clusters(config.sources)):
        if not _NAME.fullmatch(cluster):
            raise ConfigError(
                f"{cluster[:NAME_CHARS_MAX]!r} of a source cannot be a cluster's name: {_GOOD_NAME}"
            )
    split_address(collector.address)
    if config.metrics.listen:
        split_address(config.metrics.listen)
    if bool(collector.cert_file) != bool(collector.key_file):
        raise ConfigError("collector.cert_file and collector.key_file belong together: set both")
    if collector.token and collector.token_file:
        raise ConfigError(f"set collector.token_file or {TOKEN_VARIABLE}, not both")
    _check_that_all_is_completed(config.sources)
    return config


def _check_that_all_is_completed(sources: Iterable[SourceSection]) -> None:
    """Raise ConfigError for a cluster that only pyslurm reads, for that hides duplicates."""
    sources = tuple(sources)
    complete = {name for each in sources if isinstance(each, LiveSection) for name in each.clusters}
    for section in sources:
        alone = set(section.clusters) - complete if isinstance(section, PyslurmSection) else set()
        if alone:
            raise ConfigError(
                f"cluster {min(alone)} has only a source of kind pyslurm, which does not see runs"
                " that were requeued or resized: add one of kind sacct or slurmrestd"
            )


def _clusters(sources: Iterable[SourceSection]) -> Iterator[str]:
    """Every name under which the sources may report."""
    for section in sources:
        if isinstance(section, FileSection):
            yield section.cluster
            yield from (new for _, new in section.rename)
        else:
            yield from section.clusters


def supervisor(environment: Mapping[str, str] | None = None) -> Supervisor:
    """Read what systemd set for this process."""
    variables = os.environ if environment is None else environment
    usec = variables.get("WATCHDOG_USEC", "")
    return Supervisor(
        notify_socket=variables.get("NOTIFY_SOCKET", ""),
        watchdog_usec=int(usec) if usec.isdecimal() else 0,
        journal="JOURNAL_STREAM" in variables,
    )


def hush_grpc() -> None:
    """Keep gRPC's own notes out of the log; must be called before grpc is imported."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def split_address(address: str) -> tuple[str, int]:
    """Split "host:port" or "[::1]:port". Raises ConfigError."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 <= int(port) < 1 << 16:
        raise ConfigError(f"{address!r} is not an address: write HOST:PORT, as in 127.0.0.1:7610")
    return host, int(port)


def _overrides(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Sort JOBLEDGER_AGENT_<SECTION>_<KEY> into sections."""
    known = {
        f"{ENVIRONMENT_PREFIX}{section}_{key}".upper(): (section, key)
        for section in _SECTIONS
        for key in _keys(_type_of(section))
    }
    found: dict[str, dict[str, str]] = {}
    for variable, value in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and variable != ENVIRONMENT_CONFIG:
            _refuse_unknown([variable], known, "the environment")
            section, key = known[variable]
            found.setdefault(section, {})[key] = value
    return found


def _type_of(section: str) -> type[Any]:
    hint: type[Any] = get_type_hints(AgentConfig)[section]
    return hint


def _keys(section_type: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(section_type))


def _section(name: str, table: object, overrides: Mapping[str, str], where: str) -> object:
    section_type = _type_of(name)
    values = _table(section_type, table, f"[{name}] in {where}", ignore={"token"})
    hints = get_type_hints(section_type)
    for key, text in overrides.items():
        variable = f"{ENVIRONMENT_PREFIX}{name}_{key}".upper()
        values[key] = _from_text(hints[key], text, variable)
    _check_limits(values, f"[{name}] in {where}")
    return section_type(**values)


def _sources(tables: object, where: str) -> tuple[SourceSection, ...]:
    if not isinstance(tables, list) or len(tables) > SOURCES_MAX:
        raise ConfigError(f"{where}: write each source as [[source]], at most {SOURCES_MAX}")
    return tuple(
        _source(table, f"[[source]] {number} in {where}") for number, table in enumerate(tables, 1)
    )


def _source(table: object, where: str) -> SourceSection:
    kind = str(table.get("kind")) if isinstance(table, dict) else ""
    section_type = _KINDS.get(kind) or schedulers.section_type(kind)
    if not isinstance(table, dict) or section_type is None:
        kinds = ", ".join((*_KINDS, *schedulers.SCHEDULERS))
        raise ConfigError(f"{where}: kind must be one of {kinds}, not {kind!r}")
    values = _table(section_type, {k: v for k, v in table.items() if k != "kind"}, where)
    for each in fields(section_type):
        if each.name not in values and each.default is MISSING:
            raise ConfigError(f"{where}: {each.name} is missing")
    _check_limits(values, where)
    return section_type(**values)


def _table(
    section_type: type[Any], table: object, where: str, ignore: Iterable[str] = ()
) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table of settings")
    _refuse_unknown(table, [key for key in _keys(section_type) if key not in ignore], where)
    hints = get_type_hints(section_type)
    return {key: _from_toml(hints[key], value, f"{key} of {where}") for key, value in table.items()}


def _refuse_unknown(names: Iterable[str], known: Iterable[str], where: str) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"{where}: unknown setting {name!r}; {hint}")


def _from_toml(hint: object, value: object, where: str) -> object:
    if hint in (str, bool, int) and type(value) is hint:
        return value
    if hint in (Path, Path | None) and isinstance(value, str) and value:
        return Path(value)
    if hint == tuple[str, ...] and isinstance(value, list) and _all_texts(value):
        return tuple(value)
    if hint == tuple[tuple[str, str], ...] and isinstance(value, dict):
        pairs = tuple(value.items())
        if all(_all_texts(pair) for pair in pairs):
            return pairs
    raise ConfigError(f"{where}: expected {_EXPECTED[hint]}, found {value!r}")


def _all_texts(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(value, str) and value for value in values)


def _from_text(hint: object, text: str, variable: str) -> object:
    if hint is bool and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if hint is int and text.isdecimal():
        return int(text)
    if hint in (bool, int):
        raise ConfigError(f"{variable}: expected {_EXPECTED[hint]}, found {text!r}")
    if hint is str:
        return text
    return _from_toml(hint, text, variable)


def _check_limits(values: Mapping[str, Any], where: str) -> None:
    for key, (lowest, highest) in _LIMITS.items():
        if key in values and not lowest <= values[key] <= highest:
            raise ConfigError(
                f"{key} of {where}: {values[key]} is not between {lowest} and {highest}"
            )
