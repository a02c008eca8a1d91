"""The source keeps the rules of the house, and each rule sees what it forbids."""

from collections.abc import Callable, Iterator

import pytest

from tests.tidy import rules
from tests.tidy.source import Finding, Module, modules

Rule = Callable[[Module], Iterator[Finding]]

CORE_FILE = "collector/jobledger_collector/core/pricing.py"
SERVER_FILE = "collector/jobledger_collector/server.py"
AGENT_FILE = "agent/jobledger_agent/daemon/service.py"
TEST_FILE = "tests/agent/test_service.py"


@pytest.fixture(scope="module")
def source() -> tuple[Module, ...]:
    return tuple(modules())


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: str(rule.__name__))
def test_the_source_keeps(rule: Rule, source: tuple[Module, ...]) -> None:
    findings = [finding for module in source for finding in rule(module)]
    assert not findings, "\n" + "\n".join(map(str, findings))


def test_the_whole_source_is_looked_at(source: tuple[Module, ...]) -> None:
    paths = {module.path for module in source}
    assert "agent/jobledger_agent/records/job.py" in paths
    assert "collector/jobledger_collector/core/record.py" in paths
    assert "tests/tidy/test_source.py" in paths
    assert not any("_pb2" in path for path in paths)


PLANTED: tuple[tuple[Rule, str, str], ...] = (
    (rules.short_functions, AGENT_FILE, "def f():\n" + "    x = 1\n" * 60),
    (rules.short_modules, AGENT_FILE, "x = 1\n" * 351),
    (rules.short_modules, TEST_FILE, "x = 1\n" * 601),
    (rules.no_float_near_money, CORE_FILE, "def f(cost: float): ..."),
    (rules.no_float_near_money, CORE_FILE, "RATE = 0.25"),
    (rules.no_float_near_money, CORE_FILE, "half = total / 2"),
    (rules.no_float_near_money, "agent/jobledger_agent/parsing/tres.py", "x = float('1')"),
    (rules.core_is_standard_library, CORE_FILE, "import sqlalchemy"),
    (rules.core_is_standard_library, CORE_FILE, "from jobledger_collector.store import engine"),
    (rules.imports_where_they_belong, SERVER_FILE, "import sqlalchemy as sa"),
    (rules.imports_where_they_belong, SERVER_FILE, "from sqlalchemy.engine import Engine"),
    (rules.imports_where_they_belong, AGENT_FILE, "import subprocess"),
    (rules.imports_where_they_belong, AGENT_FILE, "def f():\n    import sqlite3"),
    (rules.imports_where_they_belong, SERVER_FILE, "from flask import Flask"),
    (rules.imports_where_they_belong, "web/jobledger_web/app.py", "import weasyprint"),
    (
        rules.imports_where_they_belong,
        "collector/jobledger_collector/ingest.py",
        "from jobledger_proto.v1 import usage_pb2",
    ),
    (rules.clock_in_one_place, AGENT_FILE, "import time\nnow = time.time()"),
    (rules.clock_in_one_place, AGENT_FILE, "from time import time"),
    (rules.clock_in_one_place, SERVER_FILE, "now = datetime.now(tz=UTC)"),
    (rules.clock_in_one_place, SERVER_FILE, "clock = datetime.datetime.now"),
    (rules.no_naive_datetime, AGENT_FILE, "when = datetime(2026, 10, 1)"),
    (rules.no_naive_datetime, AGENT_FILE, "when = datetime.datetime.fromtimestamp(0)"),
    (rules.no_naive_datetime, TEST_FILE, "when = datetime.utcnow()"),
    (rules.environment_in_config, SERVER_FILE, "import os\nx = os.environ['A']"),
    (rules.environment_in_config, SERVER_FILE, "from os import getenv"),
    (rules.print_only_for_people, SERVER_FILE, "print('here')"),
    (rules.no_swallowed_exceptions, SERVER_FILE, "try:\n    f()\nexcept Exception:\n    g()"),
    (rules.no_swallowed_exceptions, SERVER_FILE, "try:\n    f()\nexcept:\n    pass"),
    (
        rules.no_swallowed_exceptions,
        SERVER_FILE,
        "try:\n    f()\nexcept Exception as error:\n    log.error(error)",
    ),
    (
        rules.no_swallowed_exceptions,
        SERVER_FILE,
        "try:\n    f()\nexcept (OSError, BaseException):\n    log()",
    ),
    (rules.sql_only_in_stores, SERVER_FILE, "q = 'select * from runs where 1'"),
    (rules.sql_only_in_stores, SERVER_FILE, "q = f'INSERT INTO {t} VALUES (1)'"),
    (rules.sql_only_in_stores, AGENT_FILE, "q = 'PRAGMA journal_mode=WAL'"),
    (rules.nothing_unfinished, AGENT_FILE, "x = 1  # " + "TO" + "DO: later"),
    (rules.public_names_are_explained, AGENT_FILE, "x = 1"),
    (rules.public_names_are_explained, AGENT_FILE, '"""D."""\ndef f(): ...'),
    (
        rules.public_names_are_explained,
        AGENT_FILE,
        '"""D."""\nclass A:\n    "D."\n    def f(): ...',
    ),
    (rules.names_say_something, "agent/jobledger_agent/utils.py", "x = 1"),
    (rules.names_say_something, AGENT_FILE, "def process(): ..."),
    (rules.names_say_something, AGENT_FILE, "class Manager: ..."),
    (rules.tests_can_fail, TEST_FILE, "def test_x():\n    run()"),
    (rules.tests_can_fail, TEST_FILE, "def test_x():\n    test_x()"),
)


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED)
def test_a_planted_violation_is_seen(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Module(path, text)))


ALLOWED: tuple[tuple[Rule, str, str], ...] = (
    (rules.short_functions, AGENT_FILE, "def f():\n" + "    x = 1\n" * 59),
    (rules.short_modules, AGENT_FILE, "x = 1\n" * 350),
    (rules.no_float_near_money, SERVER_FILE, "TIMEOUT_S = 0.5"),
    (rules.no_float_near_money, CORE_FILE, "half = total // 2"),
    (rules.core_is_standard_library, CORE_FILE, "from decimal import Decimal"),
    (rules.core_is_standard_library, CORE_FILE, "from jobledger_collector.core import money"),
    (
        rules.imports_where_they_belong,
        "collector/jobledger_collector/store/engine.py",
        "import sqlalchemy",
    ),
    (rules.imports_where_they_belong, "agent/jobledger_agent/slurm/runner.py", "import subprocess"),
    (rules.imports_where_they_belong, TEST_FILE, "import sqlite3"),
    (rules.clock_in_one_place, "agent/jobledger_agent/clock.py", "now = time.time()"),
    (rules.clock_in_one_place, AGENT_FILE, "began = time.monotonic()"),
    (rules.no_naive_datetime, AGENT_FILE, "when = datetime(2026, 10, 1, tzinfo=UTC)"),
    (rules.no_naive_datetime, AGENT_FILE, "when = datetime.fromtimestamp(0, tz=zone)"),
    (rules.environment_in_config, "agent/jobledger_agent/settings/config.py", "x = os.environ"),
    (rules.print_only_for_people, "agent/jobledger_agent/cli.py", "print('here')"),
    (rules.no_swallowed_exceptions, SERVER_FILE, "try:\n    f()\nexcept OSError:\n    g()"),
    (
        rules.no_swallowed_exceptions,
        SERVER_FILE,
        "try:\n    f()\nexcept Exception:\n    undo()\n    raise",
    ),
    (
        rules.no_swallowed_exceptions,
        SERVER_FILE,
        "try:\n    f()\nexcept Exception as why:\n    store.quarantine(why)",
    ),
    (
        rules.no_swallowed_exceptions,
        SERVER_FILE,
        "try:\n    f()\nexcept Exception as error:\n    other_thread.put(error)",
    ),
    (
        rules.no_float_near_money,
        "collector/jobledger_collector/ingest.py",
        "RETRY_WAIT_S: Final = 0.05",
    ),
    (rules.sql_only_in_stores, SERVER_FILE, '"""select a from b where c."""'),
    (rules.sql_only_in_stores, SERVER_FILE, "help = 'select a month'"),
    (rules.public_names_are_explained, AGENT_FILE, '"""D."""\ndef _f(): ...'),
    (rules.tests_can_fail, TEST_FILE, "def test_x():\n    with pytest.raises(E):\n        f()"),
    (
        rules.tests_can_fail,
        TEST_FILE,
        "def check(x):\n    assert x\ndef test_x():\n    check(1)",
    ),
)


@pytest.mark.parametrize(("rule", "path", "text"), ALLOWED)
def test_what_is_allowed_is_not_reported(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Module(path, text))) == []


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, _, _ in PLANTED} == set(rules.RULES)
