"""The project's text files, and what a page of documentation says one can do."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
LEFT_OUT = {
    ".git", ".venv", ".hypothesis", ".mypy_cache", ".ruff_cache", ".pytest_cache",
    ".import_linter_cache", "__pycache__", "build", "demo-out", "dist", "node_modules",
}  # fmt: skip
"""Folders that are made, not written."""
CAPTURED = "tests/data/"
"""What other programs printed, kept as it was."""
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CODE_LINE = re.compile(r"^ {4,}(\S.*)$")
PROGRAMS = ("jobledger", "jobledger-agent", "jobledger-collector", "jobledger-web")


@cache
def files() -> tuple[Path, ...]:
    """Every file that is part of the project."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPOSITORY,
            capture_output=True,
            check=True,
        ).stdout.decode()
        found = [REPOSITORY / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive has no .git
        found = [
            path
            for path in REPOSITORY.rglob("*")
            if not LEFT_OUT & set(path.relative_to(REPOSITORY).parts)
        ]
    return tuple(sorted(path for path in found if path.is_file()))


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """(path, text) of every file that a person wrote."""
    found = []
    for path in files():
        if relative(path).startswith(CAPTURED):
            continue
        try:
            found.append((relative(path), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # a picture, a font, an archive
    return tuple(found)


def pages() -> tuple[tuple[str, str], ...]:
    """(path, text) of every page of documentation."""
    return tuple((path, text) for path, text in texts() if path.endswith(".md"))


def links(text: str) -> Iterator[str]:
    """Targets of a page's links and pictures that are inside the project."""
    for match in LINK.finditer(text):
        target = match.group(1) or match.group(2)
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def anchors(text: str) -> set[str]:
    """What a heading can be linked by, as code hosts make it."""
    headings = re.findall(r"^#+\s+(.*)$", text, re.MULTILINE)
    return {
        re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings
    }


def commands(text: str) -> Iterator[list[str]]:
    """Words of each line of code in a page, continuation lines joined."""
    code: list[str] = []
    fenced = False
    for line in text.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced:
            code.append(line)
        elif match := CODE_LINE.match(line):
            code.append(match.group(1))
    for line in code:
        try:
            words = shlex.split(line.removeprefix("$ "), comments=True)
        except ValueError:
            continue  # prose or a table, not a command
        if words:
            yield words


def command_of(words: list[str]) -> list[str]:
    """The words from the program's name to the end of that one command."""
    for start, word in enumerate(words):
        name = word.rpartition("/")[2]
        if name in (*PROGRAMS, "make"):
            rest = words[start + 1 :]
            stops = [i for i, item in enumerate(rest) if item in {"|", "&&", ">", "<", ";", "&"}]
            return [name, *rest[: stops[0] if stops else None]]
        if not re.fullmatch(r"sudo|env|-u|\w+=\S*|runuser|--|jobledger[\w-]*", word):
            return []
    return []
