"""What the documentation says is there, is there; what must not be said, is not."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.docs.pages import (
    PROGRAMS,
    REPOSITORY,
    anchors,
    command_of,
    commands,
    files,
    links,
    pages,
    relative,
    texts,
)

# Put together here, or this file would be the first finding.
WORKPLACE = re.compile(
    "|".join(
        (
            r"(?<![\w.])/work" + "/",
            "shared" + "/(facts|data|hooks|reference|slurm-lab)",
            "/tm" + "p/brief",
            r"\bissues" + " show\b",
            r"\bissue" + r" \d",
        )
    )
)
TOP = "|".join(
    sorted({relative(path).partition("/")[0] for path in files() if "/" in relative(path)})
)
PATH_NAMED = re.compile(rf"`((?:{TOP.replace('.', '[.]')})/[\w./*-]+)`")
PAGE_NAMED = re.compile(r"(?<![\w/.*-])([\w./-]+\.md)\b")


def test_pages_are_found() -> None:
    assert {"README.md", "docs/design.md", "docs/development.md"} <= {path for path, _ in pages()}


def test_links_lead_somewhere() -> None:
    by_path = dict(pages())
    lost = []
    for path, text in pages():
        for link in links(text):
            target, _, anchor = link.partition("#")
            file = (REPOSITORY / path).parent / target if target else REPOSITORY / path
            known = by_path.get(relative(file.resolve())) if file.is_file() else None
            if not file.exists() or (anchor and known is not None and anchor not in anchors(known)):
                lost.append(f"{path}: {link}")
    assert not lost, "\n" + "\n".join(lost)


def spellings(named: str) -> tuple[str, str]:
    """As written, and with the package folder that prose leaves out: agent/link.py."""
    top, _, rest = named.partition("/")
    return named, f"{top}/jobledger_{top}/{rest}"


def test_paths_in_pages_exist() -> None:
    lost = [
        f"{path}: {named}"
        for path, text in pages()
        for named in PATH_NAMED.findall(text)
        if not any(list(REPOSITORY.glob(way)) for way in spellings(named.rstrip("/")))
    ]
    assert not lost, "\n" + "\n".join(lost)


def test_every_page_that_is_named_exists() -> None:
    names = {Path(path).name for path, _ in pages()}
    lost = [
        f"{path}: {named}"
        for path, text in texts()
        for named in PAGE_NAMED.findall(text)
        if Path(named).name not in names and not path.startswith("tests/docs/")
    ]
    assert not lost, "\n" + "\n".join(lost)


def test_nothing_speaks_of_the_place_it_was_written_in() -> None:
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if WORKPLACE.search(line)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "see /work" + "/main",
        "../shared" + "/facts/x",
        "# for issue" + " 2",
        "cat /tm" + "p/brief/x",
    ],
)
def test_a_planted_mention_is_seen(line: str) -> None:
    assert WORKPLACE.search(line)


# ------------------------------------------------------------------- commands


def documented_commands() -> list[tuple[str, tuple[str, ...]]]:
    found = {
        (path, tuple(command))
        for path, text in pages()
        for words in commands(text)
        if (command := command_of(words))
    }
    return sorted(found)


def make_targets() -> set[str]:
    makefile = (REPOSITORY / "Makefile").read_text()
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


def test_make_targets_in_pages_exist() -> None:
    lost = [
        f"{path}: make {' '.join(words)}"
        for path, (program, *words) in documented_commands()
        if program == "make"
        for target in words
        if re.fullmatch(r"[a-z-]+", target) and target not in make_targets()
    ]
    assert not lost, "\n" + "\n".join(lost)


@cache
def help_of(program: str, *subcommands: str) -> str | None:
    """What ``--help`` prints; None when there is no such sub-command."""
    path = Path(sys.executable).parent / program
    done = subprocess.run(
        [path, *subcommands, "--help"], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout if done.returncode == 0 else None


def complaint(program: str, words: tuple[str, ...]) -> str:
    """Why a documented command line would be refused; "" when it would not."""
    names = [word for word in words if re.fullmatch(r"[a-z][a-z-]+", word)]
    usage = help_of(program)
    depth = 0
    # Sub-commands come before their arguments; a group holds further ones.
    for name in names[:2]:
        deeper = help_of(program, *names[:depth], name) if usage and name in usage else None
        if deeper is None:
            break
        usage, depth = deeper, depth + 1
    if usage is None or (names and depth == 0):
        return f"{program} has no sub-command {names[0] if names else ''}"
    known = usage + (help_of(program) or "")
    flags = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
    unknown = sorted(flag for flag in flags if not re.search(rf"{flag}\b", known))
    return f"{program} {' '.join(names[:depth])} does not take {unknown}" if unknown else ""


def test_command_lines_in_pages_are_understood() -> None:
    refused = [
        f"{path}: {program} {' '.join(words)}: {why}"
        for path, (program, *words) in documented_commands()
        if program in PROGRAMS and (why := complaint(program, tuple(words)))
    ]
    assert not refused, "\n" + "\n".join(refused)
