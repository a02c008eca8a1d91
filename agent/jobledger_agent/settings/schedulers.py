"""Other schedulers than Slurm: each is one new module and one line here.

docs/sources.md has a whole one as an example.
"""

import importlib
from collections.abc import MutableMapping
from typing import Final, Protocol, cast

from jobledger_agent.settings.sections import OtherSection
from jobledger_agent.source import Source

SCHEDULERS: Final[MutableMapping[str, str]] = {}
"""The kind of a [[source]] and the module that reads it, as in ``"pbs": "jobledger_agent.pbs"``."""


class Scheduler(Protocol):
    """What such a module holds."""

    SECTION: type[OtherSection]
    """The frozen dataclass of its settings: these are the keys of its [[source]]."""

    def source(self, section: OtherSection) -> Source:
        """What reads the records. Raises SourceError for settings that cannot be right."""


def section_type(kind: str) -> type[OtherSection] | None:
    """The settings of a kind of source; None if there is no such scheduler."""
    return _module(SCHEDULERS[kind]).SECTION if kind in SCHEDULERS else None


def build(section: OtherSection) -> Source:
    """The source with these settings. Raises SourceError."""
    return _module(type(section).__module__).source(section)


def _module(name: str) -> Scheduler:
    return cast("Scheduler", importlib.import_module(name))
