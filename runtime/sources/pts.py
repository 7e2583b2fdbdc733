"""From presentation time stamps to capture times on this machine's clock.

A stream says when a picture was taken on the sender's clock (PTS), and this machine sees when it arrives. The
smallest (arrival − PTS) seen lately is the way of the fastest picture, so

    captured = PTS + min(arrival − PTS)

and a picture that waited in a buffer is known to be old. What stays unknown is the delay of that fastest
picture itself: exposure, encoder and network with empty queues, tens of milliseconds for a USB camera, 100 to
300 ms for an IP camera. A minimum is kept for a while only, since two clocks drift apart; NTP's clock filter
(RFC 5905, section 10) chooses the sample of least delay in the same way.

What each kind of source states, as OpenCV passes it on (`CAP_PROP_POS_MSEC`):

    RTSP, RTMP, HLS, MPEG-TS    the sender's PTS; age as above
    V4L2                        the kernel's monotonic time stamp, which is this machine's own clock; the age
                                is exact but for the exposure
    MJPEG over HTTP             nothing: FFmpeg counts pictures and calls it 25 a second, so the arrival
                                counts, and what waited in the server or in TCP passes for fresh

Unknown besides: a delay as old as the connection (a relay that is always 2 s behind is not noticed), and one
picture for each decoder thread beyond the first.
"""

from __future__ import annotations

import math
from collections import deque

import cv2

from runtime.sources.source import Capture

WINDOW_NS = 60_000_000_000
# A PTS that goes back by more than pictures are reordered comes from a sender that started anew.
BACK_NS = 1_000_000_000
_LONGEST_WAIT_NS = 1_000_000_000
_SAME_CLOCK_NS = 500_000_000
_SETTLED_AFTER_NS = 5_000_000_000
_INVENTED_STEP_NS = 40_000_000  # FFmpeg's 25 pictures a second
_JUDGED_AFTER_NS = 5_000_000_000
_SLOWER = 0.9


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


class StreamTimes:
    """Tells when the pictures of one live source were captured, over all its connections.

    Pictures of the first moment are told apart too: FFmpeg buffers while it finds out what a stream is, and
    servers send what they hold since the last key frame. Such pictures arrive faster than they were taken.

    >>> times = StreamTimes(is_network=True)
    >>> [times.captured_ns(pts_ns, arrived_ns) for pts_ns, arrived_ns in [(0, 900), (400, 910), (800, 1300)]]
    [None, None, 1300]

    Attributes:
        has_times: whether the time stamps are the sender's, as far as is known.
    """

    def __init__(self, *, is_network: bool = False, may_lack_times: bool = False) -> None:
        """Start before the first connection.

        Args:
            is_network: the stream may be buffered on its way.
            may_lack_times: whether it may come without time stamps, of which FFmpeg makes some up.
        """
        self._is_network = is_network
        self._may_lack_times = may_lack_times
        self._clock = ArrivalClock()
        self.connected("")

    def connected(self, codec: str) -> None:
        """Start anew: the capture was opened, and gives pictures of this four-character code."""
        self._clock.forget()
        self.has_times = not (self._may_lack_times and codec.upper() == "MJPG")
        self._is_settled = not self._is_network
        self._first_arrived_ns: int | None = None
        self._latest: tuple[int, int] | None = None  # PTS and arrival
        self._judged_from: tuple[int, int] | None = None
        self._is_judged = not self._may_lack_times

    def captured_ns(self, pts_ns: int | None, arrived_ns: int) -> int | None:
        """Return when a picture was captured; None for one that waited nobody knows how long.

        Args:
            pts_ns: as the capture states it; None for nothing.
            arrived_ns: on this machine's clock, `time.monotonic_ns()`.
        """
        latest = self._latest
        if pts_ns is None or not self.has_times or (latest is not None and pts_ns == latest[0]):
            return arrived_ns
        self._latest = pts_ns, arrived_ns
        if not self._is_network and 0 <= arrived_ns - pts_ns <= _SAME_CLOCK_NS:
            return pts_ns
        captured_ns = self._clock.captured_ns(pts_ns, arrived_ns)
        if not self._is_settled:
            self._is_settled = self._came_at_its_pace(latest, pts_ns, arrived_ns)
            return captured_ns if self._is_settled else None
        if not self._is_judged and latest is not None:
            self._judge(latest, pts_ns, arrived_ns)
        return captured_ns if self.has_times else arrived_ns

    def _came_at_its_pace(self, latest: tuple[int, int] | None, pts_ns: int, arrived_ns: int) -> bool:
        """Whether a picture came about as long after the one before as it was taken after it."""
        if latest is None or self._first_arrived_ns is None:
            self._first_arrived_ns = arrived_ns
            return False
        waited_long = arrived_ns - self._first_arrived_ns >= _SETTLED_AFTER_NS
        return waited_long or 2 * (arrived_ns - latest[1]) >= pts_ns - latest[0]

    def _judge(self, latest: tuple[int, int], pts_ns: int, arrived_ns: int) -> None:
        """Find out whether the times are FFmpeg's count of pictures, which raw streams get, and no times.

        They are where each is 40 ms after the one before, while the pictures come slower than that.
        """
        if abs(pts_ns - latest[0] - _INVENTED_STEP_NS) > 1_000_000:
            self._is_judged = True
            return
        if self._judged_from is None or arrived_ns - latest[1] > BACK_NS:
            self._judged_from = pts_ns, arrived_ns
            return
        passed_ns = arrived_ns - self._judged_from[1]
        if passed_ns >= _JUDGED_AFTER_NS:
            self._is_judged = True
            self.has_times = pts_ns - self._judged_from[0] >= _SLOWER * passed_ns


def presentation_ns(capture: Capture, latest_ns: int | None) -> int | None:
    """Return the time stamp of the picture that was grabbed last, in nanoseconds; None where there is none.

    Args:
        capture: that grabbed it.
        latest_ns: of the picture before; some versions of OpenCV state 0 for a file's last pictures.
    """
    stated_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
    if not math.isfinite(stated_ms) or stated_ms < 0 or (stated_ms == 0 and latest_ns is not None):
        return None
    return round(stated_ms * 1e6)
