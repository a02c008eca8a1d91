"""Settings: what a program takes, its example file and the reference agree.

The programs are asked themselves: they refuse an unknown key and say which ones
they know.
"""

import importlib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.pages import REPOSITORY

REFERENCE = REPOSITORY / "docs" / "configuration.md"
PACKAGING = REPOSITORY / "packaging"
UNKNOWN = "qqqq"
KNOWN = re.compile(r"\bknown(?: are)?:? ([\w ,-]+)")
REFUSED = 3
"""Exit status of a refused configuration."""


class Program(NamedTuple):
    """A program that is configured, and a command of it that only reads its settings."""

    name: str
    module: str
    example: str
    command: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    """Of [[source]] tables, each with keys of its own."""


PROGRAMS = (
    Program(
        "jobledger-agent",
        "jobledger_agent.cli",
        "agent.example.toml",
        ("check-config", "--config"),
        kinds=("sacct", "slurmrestd", "pyslurm", "file"),
    ),
    Program(
        "jobledger-collector",
        "jobledger_collector.cli",
        "collector.example.toml",
        ("check-config", "--config"),
    ),
    Program("jobledger-web", "jobledger_web.cli", "web.example.toml", ("check-config", "--config")),
    Program(
        "jobledger",
        "jobledger_collector.admin.cli",
        "jobledger.example.toml",
        ("jobs", "--config"),
    ),
)

Run = Callable[[Program, str], tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give a program a settings text; its exit status and what it said."""
    monkeypatch.chdir(tmp_path)

    def run_program(program: Program, text: str) -> tuple[int, str]:
        file = tmp_path / "settings.toml"
        file.write_text(text)
        arguments = [*program.command, str(file)]
        if program.name == "jobledger":  # its --config stands before the command
            arguments = ["--config", str(file), program.command[0]]
        status = int(importlib.import_module(program.module).main(arguments))
        return status, capsys.readouterr().err

    return run_program


def known(run: Run, program: Program, text: str) -> set[str]:
    """The names that the program says it knows where ``text`` has an unknown one."""
    status, said = run(program, text)
    match = KNOWN.search(said)
    assert status == REFUSED
    assert match, said
    return {name.strip() for name in match.group(1).split(",")}


def accepted(run: Run, program: Program) -> set[str]:
    """Every ``section.key`` that the program takes."""
    found: set[str] = set()
    for section in known(run, program, f"[{UNKNOWN}]\n") - {"source"}:
        keys = known(run, program, f"[{section}]\n{UNKNOWN} = 1\n")
        found |= {f"{section}.{key}" for key in keys}
    for kind in program.kinds:
        keys = known(run, program, f'[[source]]\nkind = "{kind}"\n{UNKNOWN} = 1\n')
        found |= {f"source.{key}" for key in keys} | {"source.kind"}
    return found


def in_example(program: Program) -> set[str]:
    """Every ``section.key`` in the example file, also where it is commented out."""
    found: set[str] = set()
    section = ""
    for line in (PACKAGING / program.example).read_text().splitlines():
        if header := re.fullmatch(r"(?:# ?)?\[+(\w+)\]+", line):
            section = header.group(1)
        elif setting := re.match(r"(?:# ?)?([a-z][a-z_]*) = ", line):
            found.add(f"{section}.{setting.group(1)}")
    return found


def in_reference(program: Program) -> set[str]:
    """Every ``section.key`` that starts a row of the program's table in the reference."""
    text = REFERENCE.read_text()
    chapter = re.search(rf"^## {program.name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert chapter, f"{REFERENCE} has no chapter {program.name}"
    return set(re.findall(r"^\| `([a-z]\w*\.\w+)` \|", chapter.group(1), re.MULTILINE))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: str(program.name))
def test_the_reference_names_every_setting_and_no_other(program: Program, run: Run) -> None:
    assert in_reference(program) == accepted(run, program)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: str(program.name))
def test_the_example_names_every_setting_and_no_other(program: Program, run: Run) -> None:
    assert in_example(program) == accepted(run, program)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: str(program.name))
def test_the_example_is_valid(program: Program) -> None:
    assert tomllib.loads((PACKAGING / program.example).read_text())
