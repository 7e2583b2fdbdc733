"""Cheap repeatable draws: one block of random numbers a place, handed out one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

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
