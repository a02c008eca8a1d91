"""How a cycle reads: its spans and limits."""

from collections.abc import Callable
from typing import NamedTuple

from jobledger_agent.reading import canary
from jobledger_agent.reading.sweep import DAY_S
from jobledger_agent.reading.window import SLACK_S


class CycleSettings(NamedTuple):
    """How a cycle reads; spans in seconds, ``dbd_queue_max`` in messages.

    Each cycle reads again what ended in the last ``overlap_s``, the first one what
    ended in the last ``lookback_s``. What is open is asked for every
    ``open_every_s``, steps ``settle_s`` after the end of their job. Nothing is
    asked while slurmctld holds more than ``dbd_queue_max`` messages for slurmdbd.
    Once a day the last ``sweep_days`` are read again (0: never).
    """

    overlap_s: int = 600
    lookback_s: int = 31 * DAY_S
    open_every_s: int = 300
    settle_s: int = 60
    sweep_days: int = 35
    dbd_queue_max: int = 1_000

    @property
    def reach_s(self) -> int:
        """How far behind the watermark each question begins.

        At least from one look at the open runs to the next: a run that was seen by
        neither may end as of any moment between them. And at least from one proof that
        answers are true to the next.
        """
        return max(self.overlap_s, max(self.open_every_s, canary.EVERY_S) + 2 * SLACK_S)


class Clocks(NamedTuple):
    """``now`` gives epoch seconds, ``monotonic_ms`` measures how long an answer takes."""

    now: Callable[[], int]
    monotonic_ms: Callable[[], int]
