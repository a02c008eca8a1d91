"""An agent as it describes itself; bounded and checked at the border."""

from typing import NamedTuple


class Greeting(NamedTuple):
    """What an agent says of itself when it connects.

    ``clock_skew_ms`` is how far its clock is ahead of the collector's.
    """

    name: str
    version: str
    clusters: tuple[str, ...]
    clock_skew_ms: int


class Health(NamedTuple):
    """What an agent says of itself while it runs; see Status in ``usage.proto``.

    ``dbd_queue`` are messages that slurmctld holds for slurmdbd, -1 unknown.
    """

    spool_records: int
    complete_through: int
    clock_skew_ms: int
    source_error: str
    held_records: int = 0
    dbd_queue: int = -1
