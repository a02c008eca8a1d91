"""Every fault has its test, and docs/reliability.md says which."""

import ast
import re
from pathlib import Path

from tests.faults.nursery import ROOT

FAULTS = range(1, 37)
ROW = re.compile(r"^\| (\d+) \|[^|]+\| (`test_fault_\d\d_\w+`(?:, `test_fault_\d\d_\w+`)*) \|$")
NUMBER = re.compile(r"test_fault_(\d\d)_\w+")


def there_are() -> dict[str, int]:
    """Each test of a fault, with the fault's number."""
    found = {}
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and (named := NUMBER.fullmatch(node.name)):
                found[node.name] = int(named[1])
    return found


def told_of() -> dict[str, int]:
    """What the table says, the same way."""
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [ROW.match(line) for line in page.splitlines()]
    return {name: int(row[1]) for row in rows if row for name in re.findall(r"`(\w+)`", row[2])}


def test_each_of_the_36_faults_has_its_test() -> None:
    assert set(there_are().values()) == set(FAULTS)


def test_the_page_names_exactly_the_tests_that_there_are() -> None:
    assert told_of() == there_are()
