"""How long to wait before the next attempt to reconnect."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from runtime.errors import ConfigError


@dataclass(frozen=True)
class Backoff:
    """Waits that grow by a factor up to a cap, each a little off, so that not all robots knock at once.

    Attributes:
        first_s: seconds before the first attempt.
        factor: by which each wait exceeds the one before.
        cap_s: seconds that no wait exceeds.
        jitter: share of a wait, up to which it is shortened at random.
        seed: of the jitter; None takes another one each time.

    >>> waits = Backoff(first_s=1, cap_s=5, jitter=0).waits_s()
    >>> [next(waits) for _ in range(5)]
    [1.0, 2.0, 4.0, 5.0, 5.0]
    """

    first_s: float = 0.5
    factor: float = 2.0
    cap_s: float = 30.0
    jitter: float = 0.25
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        numbers = (self.first_s, self.factor, self.cap_s, self.jitter)
        fits = 0 < self.first_s <= self.cap_s and self.factor >= 1 and 0 <= self.jitter < 1
        if not (all(map(math.isfinite, numbers)) and fits):
            raise ConfigError(
                "backoff: expected 0 < first_s <= cap_s, a factor of at least 1 and a jitter from 0 to below "
                f"1, got {self.first_s}, {self.cap_s}, {self.factor} and {self.jitter}"
            )

    def waits_s(self) -> Iterator[float]:
        """Yield the seconds before each attempt, for ever."""
        dice = random.Random(self.seed)
        wait_s = float(self.first_s)
        while True:
            yield wait_s * (1 - self.jitter * dice.random()) if self.jitter else wait_s
            wait_s = min(wait_s * self.factor, float(self.cap_s))
