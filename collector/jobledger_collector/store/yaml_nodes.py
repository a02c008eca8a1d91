"""Read YAML into Nodes: a small, strict part of YAML, with line numbers.

Only mappings, lists and scalars. What YAML would guess about is refused: an
unquoted 0.50 (a binary fraction), ``no`` (false), 1:30 (ninety). So are aliases,
duplicate keys and anything large enough to be an attack.
"""

import hashlib
import json
import re
from typing import Final

import yaml

from jobledger_collector.core.node import InvalidDocument, Node

MAX_DOCUMENT_CHARACTERS: Final = 1_048_576
MAX_DEPTH: Final = 12
INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})")
TAG: Final = "tag:yaml.org,2002:"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_nodes(text: str, file: str) -> Node:
    """Return a document as Nodes; raises InvalidDocument with file, line and hint."""
    if len(text) > MAX_DOCUMENT_CHARACTERS:
        limit = MAX_DOCUMENT_CHARACTERS
        raise InvalidDocument(f"{file} is longer than {limit} characters; is it the right file?")
    try:
        top = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InvalidDocument(f"{file}, line {line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        said = " ".join(str(error).split())[:200]
        raise InvalidDocument(f"{file} is not valid YAML: {said}") from error
    if top is None:
        raise InvalidDocument(f"{file} is empty")
    return _Reader(file).node(top, "", 1)


def content_sha256(document: Node) -> str:
    """Return the hex SHA-256 of a document's content: layout and comments do not count."""
    canonical = json.dumps(
        _plain(document), ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(node: Node) -> object:
    if isinstance(node.value, dict):
        return {key: _plain(value) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(value) for value in node.value]
    return node.value


class _Reader:
    """One pass over the composed tree, refusing what is not plain data."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._seen: set[int] = set()

    def node(self, source: yaml.Node, key: str, depth: int) -> Node:
        """Return one value and all that it holds."""
        at = Node(None, self._file, source.start_mark.line + 1, key)
        if isinstance(source, yaml.ScalarNode):
            return Node(_scalar(source, at), at.file, at.line, key)
        if id(source) in self._seen:
            at.refuse("YAML aliases (*name) are not taken; write the values out")
        self._seen.add(id(source))
        if depth > MAX_DEPTH:
            at.refuse(f"is nested more than {MAX_DEPTH} levels deep")
        if isinstance(source, yaml.SequenceNode):
            items = [
                self.node(item, f"{key}[{index}]", depth + 1)
                for index, item in enumerate(source.value, start=1)
            ]
            return Node(items, at.file, at.line, key)
        return Node(self._mapping(source, key, depth), at.file, at.line, key)

    def _mapping(self, source: yaml.Node, path: str, depth: int) -> dict[str, Node]:
        fields: dict[str, Node] = {}
        for key, value in source.value:
            at = Node(None, self._file, key.start_mark.line + 1, path)
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{TAG}merge":
                at.refuse("keys must be plain words")
            name = str(key.value)
            if name in fields:
                at.refuse(f'the key "{name}" is there twice')
            node = self.node(value, f"{path}.{name}" if path else name, depth + 1)
            # A key's own line is where a person looks, also for a block below it.
            fields[name] = Node(node.value, node.file, at.line, node.key)
        return fields


def _scalar(source: yaml.ScalarNode, at: Node) -> str | int | bool | None:
    """Return a plain value; what YAML would make something else of is refused."""
    text = str(source.value)
    kind = str(source.tag).removeprefix(TAG)
    value: str | int | bool | None = None
    if kind in {"str", "timestamp"}:
        value = text
    elif kind == "bool" and text in {"true", "false"}:
        value = text == "true"
    elif kind == "int" and INTEGER.fullmatch(text):
        value = int(text)
    elif kind != "null":
        at.refuse(_misread(kind, text))
    return value


def _misread(kind: str, text: str) -> str:
    quoted = f'write "{text}" with the quotes'
    if kind == "bool":
        return f"YAML reads {text} as a yes or no; {quoted}"
    if kind == "float":
        return f"decimals are written as text, to stay exact: {quoted}"
    if kind == "int":
        return f"{text} is not a plain whole number; {quoted}"
    return f"values of the YAML kind {kind} are not taken; {quoted}"
