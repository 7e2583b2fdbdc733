"""From values to pixels, with ticks at round numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Axis:
    """One direction of a plot.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: pixel.
        end: pixel; before `start` for an axis that goes up.
        log: whether equal distances are equal ratios.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return a value's pixel.

        >>> Axis(0, 10, 100, 200)(5)
        150.0
        >>> Axis(1, 100, 0, 200, log=True)(10)
        100.0
        """
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        share = ((math.log(value) if self.log else value) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values within the axis, at most so many.

        >>> Axis(0, 11, 0, 1).ticks()
        [0, 2, 4, 6, 8, 10]
        >>> Axis(2.2, 60, 0, 1, log=True).ticks()
        [3, 5, 10, 20, 30, 50]
        """
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1,)):
                values = [
                    digit * 10**power if power >= 0 else digit / 10**-power
                    for power in powers
                    for digit in digits
                ]
                inside = [value for value in values if self.low <= value <= self.high]
                if len(inside) <= most:
                    return inside
            return inside[:: -(-len(inside) // most)]
        raw = (self.high - self.low) / most
        power = 10 ** math.floor(math.log10(raw))
        step = next(factor * power for factor in _STEPS if factor * power >= raw * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(index * step, 10) for index in range(first, last + 1)]


def padded(low: float, high: float, share: float = 0.12, least: float = 0.0) -> tuple[float, float]:
    """Return a range with some room at both ends, and at least so wide."""
    room = max((high - low) * share, (least - (high - low)) / 2, 1e-9)
    return low - room, high + room
