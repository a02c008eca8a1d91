"""The web of Jobledger: what it cost, who pays, and how it runs, read from the store."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("jobledger")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0"
