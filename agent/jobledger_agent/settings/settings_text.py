"""Setting keys in a TOML file that a person wrote: every other byte stays as it was."""

import json
import re
from collections.abc import Mapping
from typing import Final

_HEADER: Final = re.compile(r"^\s*\[+\s*([A-Za-z0-9_.\"-]+)\s*\]+\s*(#.*)?$")
_SETTING: Final = re.compile(r"^\s*([A-Za-z0-9_-]+)\s*=")


def with_settings(text: str, section: str, values: Mapping[str, str | bool | None]) -> str:
    """Return the text with keys of one section set; None removes a key.

    A key that is there is replaced on its line, another one added after the
    section's last setting; a section that is not there comes to the end.
    """
    # Not splitlines: TOML's lines end with a newline, whatever else a value holds.
    lines = text.removesuffix("\n").split("\n") if text else []
    start = next((i for i, line in enumerate(lines) if _names(line) == section), None)
    if start is None:
        added = [f"{key} = {toml(value)}" for key, value in values.items() if value is not None]
        between = [""] if lines and lines[-1].strip() else []
        return "\n".join([*lines, *between, f"[{section}]", *added]) + "\n"
    end = next((i for i in range(start + 1, len(lines)) if _HEADER.match(lines[i])), len(lines))
    waiting = dict(values)
    body: list[str] = []
    for line in lines[start + 1 : end]:
        setting = _SETTING.match(line)
        if not setting or setting[1] not in waiting:
            body.append(line)
            continue
        value = waiting.pop(setting[1])
        if value is not None:
            body.append(f"{setting[1]} = {toml(value)}")
    last = max((i for i, line in enumerate(body) if _SETTING.match(line)), default=-1)
    added = [f"{key} = {toml(value)}" for key, value in waiting.items() if value is not None]
    body[last + 1 : last + 1] = added
    return "\n".join([*lines[: start + 1], *body, *lines[end:]]) + "\n"


def toml(value: str | bool) -> str:  # noqa: FBT001 - a value, not a switch
    """Write a value as TOML does: a JSON text is a TOML basic string, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _names(line: str) -> str | None:
    found = _HEADER.match(line)
    return found[1].strip('"') if found and not line.lstrip().startswith("[[") else None
