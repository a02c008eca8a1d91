"""The installed programs on a machine that has only what the agent needs."""

import subprocess
import sys
from importlib.metadata import version

import pytest

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Missing())
sys.argv = ["program", *{arguments!r}]
from jobledger_collector import start
sys.exit(start.{program}())
"""


def run(program: str, package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(package=package, program=program, arguments=arguments)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("program", "package", "extra"),
    [
        ("admin", "sqlalchemy", "jobledger[collector]"),
        ("collector", "sqlalchemy", "jobledger[collector]"),
        ("collector", "alembic", "jobledger[collector]"),
    ],
)
def test_a_missing_extra_is_named(program: str, package: str, extra: str) -> None:
    done = run(program, package, *(("migrate",) if program == "collector" else ("jobs",)))
    assert done.returncode == 1
    (sentence,) = done.stderr.strip().splitlines()
    assert extra in sentence
    assert package in sentence


@pytest.mark.parametrize("program", ["admin", "collector", "web"])
def test_with_its_extra_a_program_starts(program: str) -> None:
    done = run(program, "nothing_of_that_name", "--version")
    assert done.returncode == 0
    assert version("jobledger") in done.stdout
