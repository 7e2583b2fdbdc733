"""The time and the waiting of sources, in one place, so that tests can have their own."""

from __future__ import annotations

import threading
import time


class Clock:
    """The real one."""

    def now_ns(self) -> int:
        """Return the monotonic time."""
        return time.monotonic_ns()

    def wait(self, news: threading.Condition, timeout_s: float | None) -> None:
        """Wait for news, whose lock is held, but not longer than the timeout."""
        news.wait(timeout_s)
