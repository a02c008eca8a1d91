"""The rules of the house that no linter knows, each a function over one file.

A rule yields findings; none means that the file keeps it. Paths in a rule are
fnmatch patterns from the repository's root.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch

from tests.tidy.source import Finding, Function, Module, dotted

MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 350
MAX_TEST_MODULE_LINES = 600
"""Tables of cases are long without being complicated."""

COLLECTOR = "collector/jobledger_collector"
CORE = f"{COLLECTOR}/core/*"

EXACT = (
    CORE,
    f"{COLLECTOR}/store/*",
    *(f"{COLLECTOR}/{name}.py" for name in ("wire", "ingest", "issuing", "rerating", "exports")),
    *(f"agent/jobledger_agent/{name}/*" for name in ("records", "parsing", "protocol")),
)
"""Where usage and money pass: integers, and Decimal at the border."""

CHILD_STARTERS = (
    "agent/jobledger_agent/slurm/runner.py",
    "agent/jobledger_agent/slurm/pyslurm.py",
    f"{COLLECTOR}/pdf.py",
    f"{COLLECTOR}/admin/programs.py",
)
STORES = (f"{COLLECTOR}/store/*", "agent/jobledger_agent/spooling/*")

ONLY_IN: dict[str, tuple[str, ...]] = {
    "alembic": (f"{COLLECTOR}/store/*",),
    "flask": ("web/*",),
    "jinja2": ("web/*",),
    "psycopg2": (f"{COLLECTOR}/store/*",),
    "sqlalchemy": (f"{COLLECTOR}/store/*",),
    "sqlite3": STORES,
    "subprocess": CHILD_STARTERS,
    "weasyprint": ("web/jobledger_web/render.py",),
    "jobledger_proto.v1.usage_pb2": (
        "*/wire.py",
        "agent/jobledger_agent/delivery/link.py",
        f"{COLLECTOR}/server.py",
    ),
    "jobledger_proto.v1.usage_pb2_grpc": (
        "agent/jobledger_agent/delivery/link.py",
        f"{COLLECTOR}/server.py",
    ),
}
"""A library, and the only production files that may import it."""

WALL_CLOCK = frozenset(
    {
        "time.time",
        "time.time_ns",
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "date.today",
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.date.today",
    }
)
SQL = re.compile(
    r"\s*(select\s.+\sfrom\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s"
    r"|(create|alter|drop)\s+(table|index|trigger|view)\s|pragma\s)",
    re.IGNORECASE | re.DOTALL,
)
VAGUE = frozenset(
    {"common", "data", "handle", "helper", "helpers", "manager", "misc", "process", "util", "utils"}
)
UNFINISHED = re.compile(
    r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b"
)
MAY_PRINT = ("*/cli.py", f"{COLLECTOR}/admin/*", "agent/jobledger_agent/operating/doctor.py")
KEEPS_ASIDE = ("quarantine", "reject", "refuse", "one_by_one")
"""What a handler of everything may do with a record instead of raising: keep it
aside, or apply its batch record by record to find out which one to keep aside."""
WAITS = re.compile(r"(WAIT|TIMEOUT|POLL)_S$")
"""Names of durations that a program waits: no usage, no money."""


def is_in(module: Module, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(module.path, pattern) for pattern in patterns)


def short_functions(module: Module) -> Iterator[Finding]:
    for function in module.functions:
        lines = (function.end_lineno or 0) - function.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            yield module.finding(
                function, f"{function.name} has {lines} lines, at most {MAX_FUNCTION_LINES}"
            )


def short_modules(module: Module) -> Iterator[Finding]:
    limit = MAX_TEST_MODULE_LINES if module.is_test else MAX_MODULE_LINES
    lines = len(module.text.splitlines())
    if lines > limit:
        yield Finding(module.path, lines, f"{lines} lines, at most {limit}")


def no_float_near_money(module: Module) -> Iterator[Finding]:
    if not is_in(module, EXACT):
        return
    waits = {
        id(node.value)
        for node in module.nodes
        if isinstance(node, ast.AnnAssign) and WAITS.search(dotted(node.target))
    }
    for node in module.nodes:
        if id(node) in waits:
            continue
        if isinstance(node, ast.Name) and node.id == "float":
            yield module.finding(
                node, "float near usage or money: use int, or Decimal at the border"
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield module.finding(node, f"{node.value} is a float: money and usage are integers")
        elif (
            isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and is_in(module, (CORE,))
        ):
            yield module.finding(node, "/ makes a float of integers: use // or divmod")


def core_is_standard_library(module: Module) -> Iterator[Finding]:
    if not is_in(module, (CORE,)):
        return
    for node, name in module.imports:
        if name.partition(".")[0] in sys.stdlib_module_names:
            continue
        if not name.startswith("jobledger_collector.core"):
            yield module.finding(node, f"the core imports {name}")


def imports_where_they_belong(module: Module) -> Iterator[Finding]:
    if module.is_test:
        return
    for node, name in module.imports:
        for library, places in ONLY_IN.items():
            if (name == library or name.startswith(f"{library}.")) and not is_in(module, places):
                yield module.finding(node, f"{library} may be imported only in {', '.join(places)}")


def clock_in_one_place(module: Module) -> Iterator[Finding]:
    if module.is_test or module.name == "clock":
        return
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and dotted(node) in WALL_CLOCK:
            yield module.finding(node, f"{dotted(node)}: the wall clock is read in clock.py only")
    for node, name in module.imports:
        if name in {"time.time", "time.time_ns"}:
            yield module.finding(node, f"{name}: the wall clock is read in clock.py only")


def no_naive_datetime(module: Module) -> Iterator[Finding]:
    for node in module.nodes:
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func).replace("datetime.datetime", "datetime", 1)
        zoned = any(keyword.arg in {"tz", "tzinfo"} for keyword in node.keywords)
        if name in {"datetime.utcnow", "datetime.utcfromtimestamp"}:
            yield module.finding(node, f"{name} gives a time without a zone")
        elif name == "datetime.fromtimestamp" and len(node.args) < 2 and not zoned:
            yield module.finding(node, "fromtimestamp without a zone")
        elif name == "datetime" and 3 <= len(node.args) < 8 and not zoned:
            yield module.finding(node, "datetime without tzinfo")


def environment_in_config(module: Module) -> Iterator[Finding]:
    if module.is_test or module.name == "config" or is_in(module, CHILD_STARTERS):
        return
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and dotted(node) in {"os.environ", "os.getenv"}:
            yield module.finding(node, f"{dotted(node)}: read the environment in config.py")
    for node, name in module.imports:
        if name in {"os.environ", "os.getenv"}:
            yield module.finding(node, f"{name}: read the environment in config.py")


def print_only_for_people(module: Module) -> Iterator[Finding]:
    if module.is_test or is_in(module, MAY_PRINT):
        return
    for node in module.nodes:
        if isinstance(node, ast.Call) and dotted(node.func) == "print":
            yield module.finding(node, "print outside a command line: log it")


def no_swallowed_exceptions(module: Module) -> Iterator[Finding]:
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type) and not answers(node):
            yield module.finding(node, "catches everything and neither raises nor quarantines")


def is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(is_broad(item) for item in caught.elts)
    return caught is None or dotted(caught) in {"Exception", "BaseException"}


def answers(handler: ast.ExceptHandler) -> bool:
    """Whether it raises, keeps the record aside, or hands the exception on (not to a log)."""
    for node in ast.walk(handler):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Call):
            owner, _, called = dotted(node.func).lower().rpartition(".")
            if any(word in called for word in KEEPS_ASIDE):
                return True
            handed = handler.name is not None and handler.name in [dotted(arg) for arg in node.args]
            if handed and "log" not in owner and called != "print":
                return True
    return False


def sql_only_in_stores(module: Module) -> Iterator[Finding]:
    if module.is_test or is_in(module, STORES):
        return
    for node in module.nodes:
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) not in module.docstrings and SQL.match(node.value):
            yield module.finding(node, f"SQL outside store/: {node.value.strip()[:40]!r}")


def nothing_unfinished(module: Module) -> Iterator[Finding]:
    for number, line in enumerate(module.text.splitlines(), 1):
        if UNFINISHED.search(line):
            yield Finding(module.path, number, f"unfinished: {line.strip()[:60]}")


def public_names_are_explained(module: Module) -> Iterator[Finding]:
    if module.is_test:
        return
    if not ast.get_docstring(module.tree):
        yield Finding(module.path, 1, "the module has no docstring")
    yield from undocumented(module, module.tree)


def undocumented(module: Module, parent: ast.Module | ast.ClassDef) -> Iterator[Finding]:
    for node in parent.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        overrides = any(dotted(item).endswith("override") for item in node.decorator_list)
        if not ast.get_docstring(node) and not overrides:
            yield module.finding(node, f"{node.name} has no docstring")
        if isinstance(node, ast.ClassDef):
            yield from undocumented(module, node)


def names_say_something(module: Module) -> Iterator[Finding]:
    if module.name in VAGUE:
        yield Finding(module.path, 1, f"a module named {module.name} could hold anything")
    for node in module.nodes:
        if isinstance(node, Function | ast.ClassDef) and node.name.lower() in VAGUE:
            yield module.finding(node, f"{node.name} says nothing: name what it does")


def tests_can_fail(module: Module) -> Iterator[Finding]:
    """Every test asserts, itself or through a function of its own file."""
    if not module.is_test:
        return
    asserting = {function.name for function in module.functions if asserts(function, frozenset())}
    for function in module.functions:
        if function.name.startswith("test_") and not asserts(function, frozenset(asserting)):
            yield module.finding(function, f"{function.name} asserts nothing: it cannot fail")


def asserts(function: Function, asserting: frozenset[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = dotted(node.func).rpartition(".")[2]
            if called in {"raises", "warns", "fail", "run_state_machine_as_test"}:
                return True
            if called in asserting - {function.name} or called.startswith(("assert_", "expect")):
                return True
    return False


RULES: tuple[Callable[[Module], Iterator[Finding]], ...] = (
    short_functions,
    short_modules,
    no_float_near_money,
    core_is_standard_library,
    imports_where_they_belong,
    clock_in_one_place,
    no_naive_datetime,
    environment_in_config,
    print_only_for_people,
    no_swallowed_exceptions,
    sql_only_in_stores,
    nothing_unfinished,
    public_names_are_explained,
    names_say_something,
    tests_can_fail,
)
