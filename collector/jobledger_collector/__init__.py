"""The collector: receives job runs, keeps them once, prices them and bills them."""

from importlib.metadata import version
from typing import Final

VERSION: Final = version("jobledger")
"""Version of the installed software, as ``--version`` and Welcome say it."""
