"""Room for one frame, the freshest; and the forecast of which frames are worth decoding."""

from __future__ import annotations

from collections import deque

from runtime.frame import Frame

_MEMORY = 4


class FreshestSlot:
    """Holds the freshest frame of a capture until the caller takes it.

    Decoding a picture costs milliseconds that the network could use. A grabbed picture is worth decoding
    only if the caller may take it, which it does not where the next picture comes before the caller is
    back. Both times are foretold from the last few, on the safe side: the longest wait for a picture,
    and the caller's shortest absence. So the caller never waits for a picture that was passed over.

    Not safe for threads on its own; `LiveSource` holds its lock around every call.

    Attributes:
        dropped: frames since the caller first asked that were replaced by a fresher one or passed over.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.dropped = 0
        self._frame: Frame | None = None
        self._is_asked = self._was_asked = False
        self._taken_ns: int | None = None
        self._grabbed_ns: int | None = None
        self._absences_ns: deque[int] = deque(maxlen=_MEMORY)
        self._periods_ns: deque[int] = deque(maxlen=_MEMORY)

    def grabbed(self, now_ns: int) -> bool:
        """Note a picture that came just now; return whether to decode it, else count it as dropped."""
        if self._grabbed_ns is not None:
            self._periods_ns.append(now_ns - self._grabbed_ns)
        self._grabbed_ns = now_ns
        if self._is_asked or self._taken_ns is None:
            return True
        if len(self._absences_ns) < _MEMORY or len(self._periods_ns) < _MEMORY:
            return True
        if now_ns + max(self._periods_ns) < self._taken_ns + min(self._absences_ns):
            self.dropped += 1
            return False
        return True

    def put(self, frame: Frame) -> None:
        """Put a frame in, over one that nobody took."""
        if self._frame is not None and self._was_asked:
            self.dropped += 1
        self._frame = frame

    def take(self, now_ns: int) -> Frame | None:
        """Give the frame to the caller, once; None where there is none, which makes the next one wanted."""
        self._was_asked = True
        if not self._is_asked and self._taken_ns is not None:
            self._absences_ns.append(now_ns - self._taken_ns)
        frame, self._frame = self._frame, None
        self._is_asked = frame is None
        if frame is not None:
            self._taken_ns = now_ns
        return frame

    def forget_pace(self) -> None:
        """Forget how often pictures come: the capture is opened again."""
        self._grabbed_ns = None
        self._periods_ns.clear()
