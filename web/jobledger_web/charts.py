"""Bars for the pages: plain numbers in, rectangles out; the template draws them.

A coordinate is a picture of a figure, never the figure: everything exact stays
in the labels. Coordinates are whole, on a grid fine enough for any screen.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

WIDTH: Final = 1_000
HEIGHT: Final = 120
BAR_OF_SLOT_PERCENT: Final = 72
LEAST_BAR: Final = 1
"""What is not nothing is seen."""


class Bar(NamedTuple):
    """One rectangle on a WIDTH x HEIGHT ground, ``y`` from the top, and its label."""

    x: int
    y: int
    width: int
    height: int
    label: str


def columns(values: Sequence[int], labels: Sequence[str]) -> list[Bar]:
    """Upright bars of ``values`` (at least 0) side by side, the largest full height."""
    most = max(values, default=0)
    bars = []
    for index, (value, label) in enumerate(zip(values, labels, strict=True)):
        left, right = WIDTH * index // len(values), WIDTH * (index + 1) // len(values)
        width = max(LEAST_BAR, (right - left) * BAR_OF_SLOT_PERCENT // 100)
        height = _part(value, most, HEIGHT)
        bars.append(Bar(left + (right - left - width) // 2, HEIGHT - height, width, height, label))
    return bars


def share(value: int, most: int) -> int:
    """The width of a lying bar on a WIDTH ground, ``most`` filling it."""
    return _part(value, most, WIDTH)


def _part(value: int, most: int, full: int) -> int:
    if value <= 0 or most <= 0:
        return 0
    return max(LEAST_BAR, full * value // most)
