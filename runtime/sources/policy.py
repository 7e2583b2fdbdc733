"""When a live source worries, tries again and gives up, and the clock that it goes by."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from runtime.base.flags import check_fields, flag, nested
from runtime.errors import ConfigError


class Clock:
    """The time and the waiting of sources, in one place, so that tests can have their own."""

    def now_ns(self) -> int:
        """Return the monotonic time."""
        return time.monotonic_ns()

    def wait(self, news: threading.Condition, timeout_s: float | None) -> None:
        """Wait for news, whose lock is held, but not longer than the timeout."""
        news.wait(timeout_s)


@dataclass(frozen=True)
class Backoff:
    """Waits that grow by a factor up to a cap, each a little off, so that not all robots knock at once.

    >>> waits = Backoff(first_s=1, cap_s=5, jitter=0).waits_s()
    >>> [next(waits) for _ in range(5)]
    [1.0, 2.0, 4.0, 5.0, 5.0]
    """

    first_s: float = flag("wait before the first attempt", default=0.5, above=0, unit="seconds")
    factor: float = flag("by which each wait exceeds the one before", default=2.0, at_least=1)
    cap_s: float = flag("wait that is never exceeded", default=30.0, above=0, unit="seconds")
    jitter: float = flag("share by which a wait is shortened at random", default=0.25, at_least=0, below=1)
    seed: int | None = flag("of the jitter", default=None, unset="another one each time")

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)
        if self.first_s > self.cap_s:
            raise ConfigError(f"backoff: expected first_s <= cap_s, got {self.first_s} and {self.cap_s}")

    def waits_s(self) -> Iterator[float]:
        """Yield the seconds before each attempt, for ever."""
        dice = random.Random(self.seed)
        wait_s = float(self.first_s)
        while True:
            yield wait_s * (1 - self.jitter * dice.random()) if self.jitter else wait_s
            wait_s = min(wait_s * self.factor, float(self.cap_s))


@dataclass(frozen=True)
class LivePolicy:
    """When a live source worries, tries again and gives up.

    A read that takes longer than `reopen_s` is left behind. OpenCV's own limits on reads (10 s) are shorter,
    so that normally it returns.
    """

    open_s: float = flag(
        "wait for the first opening before the run goes on without", default=5.0, above=0, unit="seconds"
    )
    stall_s: float = flag("without a frame it counts as stalled", default=3.0, above=0, unit="seconds")
    reopen_s: float = flag("without a frame it is opened again", default=15.0, above=0, unit="seconds")
    give_up_s: float | None = flag(
        "fail after this long without a frame of a camera or stream",
        default=None,
        unset="retry for ever",
        above=0,
        unit="seconds",
    )
    decoder_threads: int = flag(
        "threads that decode a stream; each beyond the first makes its pictures one frame older",
        default=1,
        at_least=1,
        at_most=64,
    )
    bad_in_a_row: int = flag("empty or damaged pictures that are too many", default=60, at_least=1)
    most_hanging: int = flag("reads that never returned, each of which holds a thread", default=4, at_least=1)
    backoff: Backoff = nested(Backoff)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)
        if self.stall_s > self.reopen_s:
            raise ConfigError(
                f"live source: expected stall_s <= reopen_s, got {self.stall_s} and {self.reopen_s}"
            )
