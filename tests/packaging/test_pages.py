"""Man pages and completion say what the programs take, and nothing else is needed to read them.

These run everywhere; the packages themselves are in the other files.
"""

import dataclasses
import re
import subprocess
import typing
from pathlib import Path

import pytest

from jobledger_agent.cli import build_parser
from jobledger_agent.settings.sections import AgentConfig, SourceSection
from scripts.package import completion, pages
from scripts.package.plan import Plan
from tests.packaging.options import commands, options

PLAN = Plan(Path("/nonexistent"), "1.2.3", "3.11", 1_700_000_000)
PAGES = ("jobledger-agent.1", "jobledger-agent.toml.5")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.name: path for path in pages.write(PLAN, tmp_path_factory.mktemp("man"))}


def as_text(page: Path) -> str:
    """What a person reads, on a very wide terminal."""
    done = subprocess.run(
        ["mandoc", "-T", "ascii", "-O", "width=1000", page],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return re.sub(r".\x08", "", done.stdout)


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_finds_nothing_to_say(written: dict[str, Path], name: str) -> None:
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", written[name]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = [line for line in done.stdout.splitlines() if ": STYLE: " not in line]
    assert said == []


@pytest.mark.parametrize("name", PAGES)
def test_man_finds_nothing_to_warn_of(written: dict[str, Path], name: str) -> None:
    done = subprocess.run(
        ["man", "--warnings", "--encoding=UTF-8", "--local-file", written[name]],
        capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80"},
    )  # fmt: skip
    assert done.stderr == ""
    assert "SEE ALSO" in done.stdout


def test_a_flawed_page_is_seen(written: dict[str, Path], tmp_path: Path) -> None:
    flawed = tmp_path / "flawed.1"
    flawed.write_text(written["jobledger-agent.1"].read_text().replace(".TP\n", ".TQP\n", 1))
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", flawed],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "unknown macro" in done.stdout


@pytest.mark.parametrize("command", sorted(commands(build_parser())))
def test_every_option_is_in_the_manual(written: dict[str, Path], command: str) -> None:
    text = as_text(written["jobledger-agent.1"])
    _, _, part = text.partition(f"\n   {command}\n")
    part = re.split(r"\n(?:   )?\S", part, maxsplit=1)[0]
    words = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", part))
    assert words >= options(commands(build_parser())[command]) - {"-h", "--help"}


def keys_of(section: type) -> set[str]:
    assert dataclasses.is_dataclass(section)
    return {each.name for each in dataclasses.fields(section)}


def test_every_key_is_in_the_manual(written: dict[str, Path]) -> None:
    shown = as_text(written["jobledger-agent.toml.5"])
    kinds = typing.get_args(SourceSection)
    hints = typing.get_type_hints(AgentConfig)
    sections = [hints[name] for name in keys_of(AgentConfig) if name != "sources"]
    # The token itself never stands in the file, and the kind of a source is its heading.
    keys = set().union(*map(keys_of, (*sections, *kinds))) - {"token"}
    missing = {key for key in keys if not re.search(rf"^ +{key} = ", shown, re.MULTILINE)}
    assert missing == set()


EXAMPLE = """\
# Not of a key.

[agent]
# Who it is: a `name`.
# Two lines. Default: the host.
name = "x"
# tls = "see above"

# Recorded.
# [[source]]
# kind = "file"
# The dump. Or = a folder.
# path = "/a"
"""


def test_the_example_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "example.toml"
    path.write_text(EXAMPLE)
    assert pages.keys(path) == (
        ("[agent]", "", "", ""),
        ("[agent]", "name", '"x"', "Who it is: a `name`. Two lines. Default: the host."),
        ("[agent]", "tls", '"see above"', ""),
        ('[[source]] of kind "file"', "", "", "Recorded."),
        ('[[source]] of kind "file"', "path", '"/a"', "The dump. Or = a folder."),
    )


@pytest.mark.parametrize("text", [".starts like a request", "'so does this", "back\\slash-minus"])
def test_no_text_is_taken_for_a_request(text: str, tmp_path: Path) -> None:
    page = tmp_path / "a.1"
    page.write_text(f".TH A 1 2026-01-01\n.SH NAME\na \\- b\n.SH TEXT\n{pages.prose(text)}\n")
    assert text in as_text(page)


# --------------------------------------------------------------------- completion


@pytest.fixture(scope="module")
def completer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "jobledger-agent"
    path.write_text(completion.script())
    return path


def completed(completer: Path, *words: str, cwd: Path | None = None) -> set[str]:
    """What bash offers when Tab is pressed at the end of the words."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""
        source {completer}
        complete -p jobledger-agent >/dev/null || exit 3
        function=$(complete -p jobledger-agent | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        COMP_WORDS=(jobledger-agent {quoted}) COMP_CWORD={len(words)}
        $function jobledger-agent '{words[-1]}' '{words[-2] if len(words) > 1 else ""}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, cwd=cwd
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_commands_are_completed(completer: Path) -> None:
    assert completed(completer, "") >= set(commands(build_parser()))
    assert "doctor" in completed(completer, "doc")


@pytest.mark.parametrize("command", sorted(commands(build_parser())))
def test_options_are_completed(completer: Path, command: str) -> None:
    offered = completed(completer, command, "--")
    expected = options(commands(build_parser())[command])
    assert offered >= {option for option in expected if option.startswith("--")}


def test_files_are_completed(completer: Path, tmp_path: Path) -> None:
    (tmp_path / "october.toml").touch()
    assert completed(completer, "run", "--config", "oct", cwd=tmp_path) == {"october.toml"}
