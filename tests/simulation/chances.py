"""How likely each fault is in a world; drawn anew for each, or weighted towards one."""

import random
from collections.abc import Mapping
from typing import NamedTuple


class Faults(NamedTuple):
    """How often in a hundred chances each fault happens."""

    crash: int
    """The agent is killed at an effect."""
    cut: int
    nonsense: int
    late_old_stream: int
    """All or nothing: what a dropped stream still carries arrives."""
    collector_crash: int
    database: int
    half_open: int
    meanwhile: int
    """The link acts between two steps of a reading."""
    slurm_errors: int
    poison: int
    """The world has a job whose batches the collector refuses."""
    small_quota: int
    damage: int
    """Each time that something goes wrong with a disk, beside the ordinary chance."""
    long: int
    """The world goes on to the next day's sweep."""
    late_end: int
    """A run's end is told late, with an End in the past."""


def drawn(dice: random.Random, bias: Mapping[str, int]) -> Faults:
    """Draw the faults of a world; ``bias`` sets some of them."""
    faults = Faults(
        crash=dice.choice((0, 0, 1, 4)),
        cut=dice.choice((0, 3, 10)),
        nonsense=dice.choice((0, 0, 0, 5)),
        late_old_stream=dice.choice((0, 100)),
        collector_crash=dice.choice((0, 0, 3, 10)),
        database=dice.choice((0, 0, 5)),
        half_open=dice.choice((0, 0, 3)),
        meanwhile=dice.choice((0, 5)),
        slurm_errors=dice.choice((0, 0, 5, 20)),
        poison=15,
        small_quota=15,
        damage=0,
        long=12,
        late_end=6,
    )
    return faults._replace(**bias)
