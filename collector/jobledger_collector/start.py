"""Where the installed programs start: what they need may not be installed.

One wheel carries all programs and an agent's machine installs no extra, so a
program that lacks its packages says which extra brings them.
"""

import importlib
import sys
from typing import Final

MISSING: Final = 1
"""Exit status when an extra is not installed: it could not be done."""


def admin() -> int:
    """Start ``jobledger``."""
    return start("jobledger", "jobledger_collector.admin.cli", "collector")


def collector() -> int:
    """Start ``jobledger-collector``."""
    return start("jobledger-collector", "jobledger_collector.cli", "collector")


def web() -> int:
    """Start ``jobledger-web``."""
    return start("jobledger-web", "jobledger_web.cli", "web")


def start(program: str, module: str, extra: str) -> int:
    """Run a program's ``main``; where a package is missing, name its extra."""
    try:
        return int(importlib.import_module(module).main())
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jobledger"):
            raise
        sys.stderr.write(
            f"{program}: the Python package {error.name} is not installed: only the agent runs"
            f" without extras; pip install 'jobledger[{extra}]'\n"
        )
        return MISSING
