"""The project's own Python files, parsed, for rules to look at."""

import ast
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("agent", "collector", "proto", "web")
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Finding(NamedTuple):
    """One place where a rule is broken, printed as path:line: what."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


class Module:
    """One Python file: its path from the repository's root, its text and its tree."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self.name = path.rpartition("/")[2].removesuffix(".py")
        self.is_test = path.startswith("tests/")
        self.tree = ast.parse(text, path)
        self.nodes = tuple(ast.walk(self.tree))

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """Every function and method, nested ones too."""
        return tuple(node for node in self.nodes if isinstance(node, Function))

    @cached_property
    def docstrings(self) -> frozenset[int]:
        """Identities of the string nodes that only document (also after a name)."""
        return frozenset(
            id(node.value)
            for node in self.nodes
            if isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        )

    @cached_property
    def imports(self) -> tuple[tuple[ast.stmt, str], ...]:
        """(statement, dotted name) of everything imported, anywhere in the file."""
        found: list[tuple[ast.stmt, str]] = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [(node, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.append((node, node.module))
                found += [(node, f"{node.module}.{alias.name}") for alias in node.names]
        return tuple(found)

    def finding(self, node: ast.AST, what: str) -> Finding:
        """A finding at ``node``."""
        return Finding(self.path, getattr(node, "lineno", 1), what)


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a name or attribute; "" for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value)}.{attr}".lstrip(".")
        case _:
            return ""


def modules() -> Iterator[Module]:
    """Every Python file of the project that a person wrote."""
    for folder in (*PACKAGES, "tests"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            if "_pb2" not in path.name:
                yield Module(path.relative_to(REPOSITORY).as_posix(), path.read_text())
