"""What is built: version, moment, Python; and how the tools are run."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Final, NamedTuple

REPOSITORY: Final = Path(__file__).parents[2]
DIST: Final = REPOSITORY / "dist"
NAME: Final = "jobledger-agent"
MAINTAINER: Final = "Jobledger developers <packages@jobledger.invalid>"
PRIVATE: Final = f"usr/lib/{NAME}"
"""Where all that is only the agent's lies below the root of a system."""
REVISION: Final = "1"
"""Counts the packages that were made of one version."""
TOOL_TIMEOUT_S: Final = 600


class BuildError(Exception):
    """Something needed for building is missing or failed; says what and how to mend it."""


class Plan(NamedTuple):
    """One build. ``epoch_s`` is the moment that every file in it bears (Unix time)."""

    out: Path
    version: str
    python: str
    epoch_s: int
    source: Path = REPOSITORY
    """Where agent, proto, packaging, systemd and docs lie."""

    @property
    def abi(self) -> str:
        """The tag of wheels, as in cp311."""
        return f"cp{self.python.replace('.', '')}"

    @property
    def environment(self) -> dict[str, str]:
        """What tools see: one language, one zone, the same moment each time."""
        kept = {key: os.environ[key] for key in os.environ if key.startswith(("PIP_", "SSL_"))}
        return kept | {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": os.environ.get("HOME", "/"),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "SOURCE_DATE_EPOCH": str(self.epoch_s),
        }

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Run a tool and return its output. Raises BuildError with its last lines."""
        try:
            done = subprocess.run(
                command, cwd=cwd, env=self.environment, capture_output=True, text=True,
                timeout=TOOL_TIMEOUT_S, check=False,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise BuildError(f"{command[0]} is not installed: run make install") from error
        if done.returncode != 0:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            raise BuildError(f"{' '.join(map(str, command[:4]))} … failed:\n{said}")
        return done.stdout


def plan(out: Path, python: str) -> Plan:
    """Look up the version, and the moment of the last commit. Raises BuildError."""
    if not re.fullmatch(r"3\.1[1-3]", python):
        raise BuildError(f"packaging/agent.lock has no wheels for Python {python}: 3.11 to 3.13")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return Plan(out, project["version"], python, _epoch_s())


def _epoch_s() -> int:
    """SOURCE_DATE_EPOCH, else when the last change was committed."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given.isdecimal():
        return int(given)
    command = ("git", "log", "-1", "--format=%ct")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError("this is no git checkout: set SOURCE_DATE_EPOCH to its release's time")
    return int(done.stdout)
