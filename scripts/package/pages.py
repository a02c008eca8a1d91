"""Man pages: the words from packaging/man and the example settings, the facts from the programs.

jobledger-agent(1) lists what the parser takes; jobledger-agent.toml(5) is the
example settings file, whose comments explain every key.
"""

import argparse
import re
import tomllib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from jobledger_agent.cli import build_parser
from scripts.package.plan import NAME, BuildError, Plan

PROGRAM_TEMPLATE: Final = "packaging/man/jobledger-agent.1.in"
SETTINGS_TEMPLATE: Final = "packaging/man/jobledger-agent.toml.5.in"
EXAMPLE: Final = "packaging/agent.example.toml"
_SECTION: Final = re.compile(r"^(?:# )?(?P<name>\[\[?[a-z]+\]\]?)$")
_KEY: Final = re.compile(r"^(?:# )?(?P<key>[a-z][a-z0-9_]*) = (?P<value>.+)$")
_EMPHASIS: Final = re.compile(r"`([^`]+)`")


class Key(NamedTuple):
    """One key of the settings: its section as written, its value there, what is said of it.

    Without a key, what is said of the section itself.
    """

    section: str
    key: str
    value: str
    words: str


def build(plan: Plan) -> Path:
    """Write the pages below OUT/man and return that folder."""
    folder = plan.out / "man"
    write(plan, folder)
    return folder


def write(plan: Plan, folder: Path) -> tuple[Path, ...]:
    """Write both pages into FOLDER/man1 and FOLDER/man5 and return their paths."""
    made = {
        folder / f"man1/{NAME}.1": program_page(plan),
        folder / f"man5/{NAME}.toml.5": settings_page(plan),
    }
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tuple(made)


def program_page(plan: Plan) -> str:
    """Return jobledger-agent(1) as roff."""
    commands = "\n".join(_commands(build_parser()))
    return _filled(PROGRAM_TEMPLATE, plan, {"@COMMANDS@": commands})


def settings_page(plan: Plan) -> str:
    """Return jobledger-agent.toml(5) as roff."""
    return _filled(
        SETTINGS_TEMPLATE, plan, {"@KEYS@": "\n".join(_settings(keys(plan.source / EXAMPLE)))}
    )


def keys(example: Path) -> tuple[Key, ...]:
    """Read the example: every key, also those that it shows as a comment."""
    found: list[Key] = []
    section, words = "", list[str]()
    for line in (each.rstrip() for each in example.read_text().splitlines()):
        if match := _SECTION.match(line):
            section = match["name"]
            found.append(Key(section, "", "", " ".join(words)))
            words = []
        elif match := _a_key(line):
            if section == "[[source]]" and match["key"] == "kind":
                kind = tomllib.loads(line.removeprefix("# "))["kind"]
                section = f'{section} of kind "{kind}"'
                found[-1] = found[-1]._replace(section=section)
            else:
                found.append(Key(section, match["key"], match["value"], " ".join(words)))
            words = []
        elif line.startswith("#"):
            words.append(line.removeprefix("#").strip())
        else:
            words = []
    return tuple(found)


def _a_key(line: str) -> re.Match[str] | None:
    """A line that sets a key; a sentence with "=" in it is none."""
    match = _KEY.match(line)
    if match is None:
        return None
    try:
        tomllib.loads(line.removeprefix("# "))
    except tomllib.TOMLDecodeError:
        return None
    return match


def _settings(found: Iterable[Key]) -> Iterator[str]:
    for key in found:
        if key.key:
            yield ".TP"
            yield rf"\fB{escaped(key.key)}\fR = {escaped(key.value)}"
            yield prose(key.words) if key.words else "As above."
        else:
            yield f".SS {escaped(key.section)}"
            if key.words:
                yield prose(key.words)


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    (choices,) = (
        action
        for action in parser._actions  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
    )
    summaries = {each.dest: each.help or "" for each in choices._choices_actions}  # noqa: SLF001
    for name, command in choices.choices.items():
        yield f".SS {escaped(name)}"
        yield prose(_sentence(command.description or summaries.get(name, "")))
        for action in command._actions:  # noqa: SLF001
            if action.help != argparse.SUPPRESS and "--help" not in action.option_strings:
                yield from _option(command, action)


def _option(command: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    names = ", ".join(rf"\fB{escaped(name)}\fR" for name in action.option_strings)
    value = ""
    if action.nargs != 0:
        value = command._get_formatter()._format_args(  # noqa: SLF001
            action, action.dest.upper() if action.option_strings else action.dest
        )
    yield ".TP"
    yield " ".join(filter(None, (names, rf"\fI{escaped(value)}\fR" if value else "")))
    words = command._get_formatter()._expand_help(action) if action.help else ""  # noqa: SLF001
    yield prose(_sentence(words))


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!")) else f"{text}."


def prose(text: str) -> str:
    """Roff of running text: each sentence on its line, nothing taken for a request."""
    text = re.sub(r"(?<=[.:]) +(?=[A-Z0-9\"])", "\n", " ".join(text.split()))
    lines = (_EMPHASIS.sub(r"\\fB\1\\fR", escaped(line)) for line in text.splitlines())
    return "\n".join(rf"\&{line}" if line.startswith((".", "'")) else line for line in lines)


def escaped(text: str) -> str:
    """Roff that prints ``text`` as it is."""
    return text.replace("\\", r"\e").replace("-", r"\-").replace("~", r"\(ti").replace("^", r"\(ha")


def _filled(template: str, plan: Plan, holes: dict[str, str]) -> str:
    date = datetime.fromtimestamp(plan.epoch_s, UTC).date().isoformat()
    text = (plan.source / template).read_text()
    for hole, filling in (holes | {"@DATE@": date, "@VERSION@": plan.version}).items():
        if hole not in text:
            raise BuildError(f"{template} has no {hole}")
        text = text.replace(hole, filling)
    return text
