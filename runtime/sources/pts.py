"""From presentation time stamps to capture times on this machine's clock.

A stream says when a picture was taken on the sender's clock (PTS), and this machine sees when it arrives. The
smallest (arrival − PTS) seen lately is the way of the fastest picture, so

    captured = PTS + min(arrival − PTS)

and a picture that waited in a buffer is known to be old. What stays unknown is the delay of that fastest
picture itself: exposure, encoder and network with empty queues, tens of milliseconds for a USB camera, 100 to
300 ms for an IP camera. A minimum is kept for a while only, since two clocks drift apart; NTP's clock filter
(RFC 5905, section 10) chooses the sample of least delay in the same way.
"""

from __future__ import annotations

from collections import deque

WINDOW_NS = 60_000_000_000
# A PTS that goes back by more than pictures are reordered comes from a sender that started anew.
BACK_NS = 1_000_000_000
_LONGEST_WAIT_NS = 1_000_000_000


class ArrivalClock:
    """Tells when pictures were captured, from their PTS and their arrival.

    >>> clock = ArrivalClock()
    >>> clock.captured_ns(pts_ns=0, arrived_ns=1_000)
    1000
    >>> clock.captured_ns(pts_ns=40, arrived_ns=1_500)  # 460 ns late
    1040
    >>> clock.captured_ns(pts_ns=80, arrived_ns=1_070)  # the fastest so far
    1070
    """

    def __init__(self, window_ns: int = WINDOW_NS) -> None:
        """Start without a sample.

        Args:
            window_ns: how long a smallest offset counts, in nanoseconds.
        """
        self._window_ns = window_ns
        self._latest_pts_ns: int | None = None
        self._latest_arrived_ns: int | None = None
        self._watched_ns = 0  # time with pictures in it, since an outage says nothing about the clocks
        # (watched_ns, offset_ns) whose offsets rise: the first is the smallest of the window.
        self._smallest: deque[tuple[int, int]] = deque()

    def captured_ns(self, pts_ns: int | None, arrived_ns: int) -> int:
        """Return when a picture was captured, never later than it arrived.

        Args:
            pts_ns: on the sender's clock; None where the stream states none, which counts as captured on
                arrival.
            arrived_ns: on this machine's clock, `time.monotonic_ns()`.
        """
        if pts_ns is None:
            return arrived_ns
        latest = self._latest_pts_ns
        if latest is not None and pts_ns < latest - BACK_NS:
            self.forget()
        if self._latest_arrived_ns is not None:
            self._watched_ns += min(arrived_ns - self._latest_arrived_ns, _LONGEST_WAIT_NS)
        self._latest_pts_ns, self._latest_arrived_ns = pts_ns, arrived_ns
        offset_ns = arrived_ns - pts_ns
        while self._smallest and self._smallest[-1][1] >= offset_ns:
            self._smallest.pop()
        self._smallest.append((self._watched_ns, offset_ns))
        while self._smallest[0][0] < self._watched_ns - self._window_ns:
            self._smallest.popleft()
        return min(arrived_ns, pts_ns + self._smallest[0][1])

    def forget(self) -> None:
        """Start anew: the capture was opened again."""
        self._latest_pts_ns = self._latest_arrived_ns = None
        self._smallest.clear()
