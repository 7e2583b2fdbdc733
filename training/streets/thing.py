"""What all things on the street share: a class of CamVid, draws that repeat, and what each can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from runtime.contract import CAMVID_CLASSES
from training.streets.camera import Points
from training.streets.canvas import Canvas, Shot
from training.streets.light import Light

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(
    len(CAMVID_CLASSES)
)


T = TypeVar("T")
_BLOCK = 64
_MASK = 0xFFFFFFFFFFFFFFFF  # seeds are unsigned, places are not


class Dice:
    """Draws that depend on a key alone.

    numpy's scalar draws cost microseconds each, and a street needs thousands of them.
    """

    def __init__(self, *key: int) -> None:
        """Start from a key of integers."""
        self._rng = np.random.default_rng([part & _MASK for part in key])
        self._block: list[float] = []

    def between(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number from `low` to `high`."""
        if not self._block:
            self._block = self._rng.random(_BLOCK).tolist()
        return low + (high - low) * self._block.pop()

    def chance(self, share: float) -> bool:
        """Return true in this share of cases."""
        return self.between() < share

    def pick(self, count: int) -> int:
        """Return an integer from 0 to count - 1."""
        return int(self.between(0, count))

    def one_of(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.pick(len(options))]

    def around(self, mean: float, deviation: float) -> float:
        """Return a number near `mean`: a bell of this deviation that ends at three of them."""
        return mean + deviation * 2.0 * (self.between() + self.between() + self.between() - 1.5)


class Thing(Protocol):
    """Anything on the street that throws a shadow and is painted in its turn."""

    @property
    def s(self) -> float:
        """Metres along the street."""

    @property
    def x(self) -> float:
        """Metres right of the centre line."""

    def shadows(self, light: Light) -> list[tuple[Points, float]]:
        """Return polygons on the ground, and the share of light left on each."""

    def outline(self) -> Points:
        """Return its world points (N, 3)."""

    def paint(self, canvas: Canvas, shot: Shot) -> None:
        """Paint colour and label, given its points as seen."""


def placed(local: Points, s: float, x: float, base_m: float, heading: float) -> Points:
    """Return world points of (forward, right, up) points of a thing that stands at (s, x) and looks ahead."""
    cos, sin = np.cos(heading), np.sin(heading)
    world = np.empty_like(local)
    world[:, 0] = s + local[:, 0] * cos - local[:, 1] * sin
    world[:, 1] = x + local[:, 0] * sin + local[:, 1] * cos
    world[:, 2] = base_m + local[:, 2]
    return world
