"""``jobledger-agent enroll``: a code becomes files, settings and a first greeting.

The code is proved to the collector before any file of a working enrolment is
touched. Files are put in place whole; doing it again changes nothing.
"""

import argparse
import os
import pwd
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from jobledger_agent import VERSION, clock
from jobledger_agent.errors import AgentError
from jobledger_agent.operating.enrolment_code import (
    CODE_CHARS_MAX,
    Code,
    CodeError,
    decode,
    is_whole,
)
from jobledger_agent.operating.placing import Owner, give, put
from jobledger_agent.settings import settings_text
from jobledger_agent.settings.config import DEFAULT_PATH, ConfigError, parse
from jobledger_agent.settings.sections import CollectorSection

DIRECTORY: Final = Path("/etc/jobledger/agent")
USER: Final = "jobledger-agent"
"""Whose the files shall be, when root enrols: the user of the packages' unit."""
GREETING_TIMEOUT_S: Final = 15
SECRET_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
SETTINGS_MODE: Final = 0o644
DESCRIPTION: Final = (
    "Enrol this machine with a code of `jobledger agents add`: check it, greet the collector,"
    " write the token, certificates and settings."
)
EPILOG: Final = """\
examples:
  jobledger-agent enroll                    paste the code, or pipe it in
  jobledger-agent enroll --file code
  jobledger-agent enroll --file code --write     also change an agent.toml that is there

The code is a secret: others see what stands on a command line, so it is read from
standard input or a file. Enrolling again, with a code of `jobledger agents rotate`,
replaces the token and certificates; a running agent takes them up by itself.
"""


class EnrollError(AgentError):
    """The machine could not be enrolled; says what to do."""


_Document = dict[str, Any] | None
_Settings = dict[str, dict[str, str | bool | None]]


class Files(NamedTuple):
    """Where what the code holds is put; None for what it does not hold."""

    token_file: Path | None
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``jobledger-agent enroll`` takes."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("code", nargs="?", default="-", metavar="CODE", help='"-": standard input')
    parser.add_argument("--file", type=Path, metavar="FILE", help="read the code here")
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_PATH,
        metavar="FILE",
        help=f"settings ({DEFAULT_PATH})",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=DIRECTORY,
        metavar="DIR",
        help=f"for secrets ({DIRECTORY})",
    )
    parser.add_argument(
        "--user", default="", metavar="NAME", help=f"who shall own them ({USER}, if root enrols)"
    )
    parser.add_argument(
        "--write", action="store_true", help="change settings that are there, not only say how"
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="do not greet the collector: it cannot be reached yet",
    )
    parser.add_argument("--dry-run", action="store_true", help="check and greet, write nothing")


def run(args: argparse.Namespace) -> int:
    """Enrol; returns 0. Raises EnrollError, CodeError, ConfigError, LinkError."""
    code = decode(_given(args))
    owner = _owner(args.user)
    old = _read_settings(args.config)
    files = _places(code, args.directory)
    settings = _settings(code, files, old, args.directory)
    _say(f"agent {code.agent}, clusters {', '.join(code.clusters)}")
    if args.offline:
        _say(f"not greeted: {code.address} (--offline)")
    else:
        version = _proved(code, old)
        _say(f"the collector at {code.address} admits it (version {version})")
    if args.dry_run:
        for path in filter(None, files):
            _say(f"would write {path}")
        for line in _as_lines(settings):
            _say(f"would set in {args.config}: {line}" if line else "")
        return 0
    _install(code, files, args.directory, owner)
    _configure(args, code, old, settings)
    from jobledger_agent.operating.enrolled import left_to_do  # noqa: PLC0415 - it needs grpc

    for sentence in left_to_do(code, args.config):
        _say(sentence)
    _say("next: `jobledger-agent doctor`, then `systemctl enable --now jobledger-agent`")
    return 0


def _given(args: argparse.Namespace) -> str:
    if args.file:
        try:
            with args.file.open(encoding="ascii") as file:
                return str(file.read(CODE_CHARS_MAX + 1))
        except (OSError, UnicodeDecodeError) as error:
            raise CodeError(f"cannot read a code from {args.file}: {error}") from error
    if args.code != "-":
        return str(args.code)
    if sys.stdin.isatty():
        sys.stderr.write("paste the code, all of its lines:\n")
    text = ""
    for line in sys.stdin:
        text += line
        if is_whole(text) or len(text) > CODE_CHARS_MAX:
            break
    return text


def _proved(code: Code, old: _Document) -> str:
    """Greet the collector with what the code holds; returns its version.

    From a folder of its own: what a working enrolment uses is not touched yet. A
    certificate that a site's own authority gave is taken from the settings.
    """
    from jobledger_agent.delivery.call import greet  # noqa: PLC0415 - grpc is only needed here
    from jobledger_agent.protocol.wire import hello  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="jobledger-enroll-") as folder:
        files = _places(code, Path(folder))
        _write_files(code, files, None)
        known = {key: Path(value) for key, value in _collector_files(old).items()}
        given = {key: path for key, path in files._asdict().items() if path is not None}
        if not (code.tls or given.keys() & {"ca_file", "cert_file"}):
            known = {}  # in the clear, to this machine
        collector = CollectorSection(
            address=code.address, tls=code.tls, **{**known, "token_file": None, **given}
        )
        greeting = hello(code.agent, VERSION, code.clusters, clock.now_ms())
        return greet(collector, greeting, GREETING_TIMEOUT_S).version


def _places(code: Code, folder: Path) -> Files:
    return Files(
        token_file=folder / "token" if code.token else None,
        ca_file=folder / "ca.pem" if code.ca else None,
        cert_file=folder / "agent.pem" if code.certificate else None,
        key_file=folder / "agent.key" if code.key else None,
    )


def _install(code: Code, files: Files, folder: Path, owner: Owner | None) -> None:
    try:
        if not folder.is_dir():
            folder.mkdir(mode=FOLDER_MODE, parents=True)
            give(folder, owner)
        for path in _write_files(code, files, owner):
            _say(f"wrote {path}")
    except OSError as error:
        raise EnrollError(
            f"cannot write {error.filename or folder}: {error.strerror}; run it as root, or name "
            "a --directory"
        ) from error


def _write_files(code: Code, files: Files, owner: Owner | None) -> list[Path]:
    """Write the files that differ from the code; returns those."""
    contents = (code.token and code.token + "\n", code.ca, code.certificate, code.key)
    return [
        path
        for path, content in zip(files, contents, strict=True)
        if path is not None and put(path, content.encode(), SECRET_MODE, owner)
    ]


def _owner(user: str) -> Owner | None:
    """Return who shall own the secrets; None leaves them to who runs this. Raises EnrollError."""
    name = user or (USER if os.geteuid() == 0 else "")
    try:
        found = pwd.getpwnam(name) if name else None
    except KeyError as error:
        if not user:
            return None
        raise EnrollError(
            f"there is no user {user}: install the package, or name another"
        ) from error
    return Owner(found.pw_uid, found.pw_gid) if found else None


def _settings(code: Code, files: Files, old: _Document, folder: Path) -> _Settings:
    """Return what the settings must say, by section; None for a key that must not be there."""
    collector: dict[str, str | bool | None] = {"address": code.address}
    present = _section(old, "collector")
    for key, path in files._asdict().items():
        there = present.get(key)
        if path is not None:
            collector[key] = str(path)
        elif isinstance(there, str) and Path(there).parent == folder:
            collector[key] = None  # of an earlier enrolment
    if code.tls and not code.ca:
        collector["tls"] = True
    return {"agent": {"name": code.agent}, "collector": collector}


def _configure(args: argparse.Namespace, code: Code, old: _Document, settings: _Settings) -> None:
    if old is None:
        quoted = ", ".join(f'"{cluster}"' for cluster in code.clusters)
        lines = [*_as_lines(settings), "", "[[source]]", 'kind = "sacct"', f"clusters = [{quoted}]"]
        _save(args.config, "\n".join(lines) + "\n")
        _say(f"wrote {args.config}: it reads these clusters with sacct")
        return
    changes = _changes(old, settings)
    if not changes:
        _say(f"{args.config} says all of this already")
    elif args.write:
        text = args.config.read_text(encoding="utf-8")
        for section, values in changes.items():
            text = settings_text.with_settings(text, section, values)
        if _changes(tomllib.loads(text), settings):
            raise EnrollError(
                f"{args.config} is written in a way that cannot be changed line by line: run this "
                "again without --write and set by hand what it says"
            )
        _save(args.config, text)
        _say(f"changed {args.config}: {', '.join(_names(changes))}")
    else:
        _say(f"now set in {args.config} (or run this again with --write):")
        for line in _as_lines(changes):
            _say(f"  {line}" if line else "")


def _changes(old: _Document, settings: _Settings) -> _Settings:
    """Return the settings that differ from a document."""
    found: _Settings = {}
    for section, values in settings.items():
        present = _section(old, section)
        differing = {key: value for key, value in values.items() if present.get(key) != value}
        if differing:
            found[section] = differing
    return found


def _save(path: Path, text: str) -> None:
    """Replace the settings by a text that holds. Raises ConfigError, EnrollError."""
    parse(tomllib.loads(text), {}, str(path))
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else SETTINGS_MODE
        owner = None
        if path.exists():
            owner = Owner(path.stat().st_uid, path.stat().st_gid)
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, text.encode(), mode, owner)
    except OSError as error:
        raise EnrollError(f"cannot write {path}: {error.strerror}; run it as root") from error


def _read_settings(path: Path) -> _Document:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _collector_files(old: _Document) -> dict[str, str]:
    present = _section(old, "collector")
    return {key: value for key in Files._fields if isinstance(value := present.get(key), str)}


def _section(document: _Document, name: str) -> Mapping[str, Any]:
    found = (document or {}).get(name, {})
    return found if isinstance(found, dict) else {}


def _as_lines(settings: _Settings) -> list[str]:
    lines: list[str] = []
    for section, values in settings.items():
        lines += [""] if lines else []
        lines.append(f"[{section}]")
        for key, value in values.items():
            lines.append(
                f"# remove {key}" if value is None else f"{key} = {settings_text.toml(value)}"
            )
    return lines


def _names(settings: _Settings) -> list[str]:
    return [f"{section}.{key}" for section, values in settings.items() for key in values]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
