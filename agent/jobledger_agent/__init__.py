"""Jobledger's agent: what Slurm's accounting says of its jobs, delivered exactly once."""

from importlib.metadata import version
from typing import Final

VERSION: Final = version("jobledger")
"""Version of the installed software, as ``--version`` and Hello say it."""
