"""A JSON value as its parts come in: bounded, whatever the document does."""

from typing import Any

import ijson

MAX_OBJECT_BYTES = 2_097_152
"""Of memory for one job's object, or for one step's: a hundred times what Slurm writes."""

_VALUE_BYTES = 64
"""What a value takes beside its text, at least."""


class Growing:
    """A JSON value as its parts come in. Once it has grown too large it is not ``is_whole``."""

    def __init__(self) -> None:
        self._builder = ijson.ObjectBuilder()
        self._room_bytes = MAX_OBJECT_BYTES

    @property
    def is_whole(self) -> bool:
        """Whether it had room for all its parts."""
        return self._room_bytes >= 0

    @property
    def value(self) -> Any:  # noqa: ANN401 - what JSON may hold
        """What has come in so far."""
        return getattr(self._builder, "value", None)

    def event(self, event: str, value: object) -> None:
        """Take one more part."""
        self._room_bytes -= _VALUE_BYTES + (len(value) if isinstance(value, str) else 0)
        if self._room_bytes >= 0:
            self._builder.event(event, value)
