"""A recording that plays at its own pace, as the camera did that made it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from runtime.errors import SourceError
from runtime.frame import Frame
from runtime.sources.clock import Clock
from runtime.sources.recorded import RecordedSource
from runtime.sources.source import Source
from runtime.sources.state import SourceStatus


class PacedSource(Source):
    """Gives the frame of a recording that is due now, so that a slow caller misses some, as with a camera.

    Frame n is captured n / fps seconds after the first was asked for. The caller gets the latest that has
    been captured, or waits for the next; those between are passed over and counted in `dropped`.
    """

    live = True

    def __init__(self, recording: RecordedSource, clock: Clock | None = None) -> None:
        """Take over a recording, which `close` closes.

        Raises:
            SourceError: it states no frames a second.
        """
        if recording.fps is None:
            recording.close()
            raise SourceError(
                "real time: expected a source that states its frames a second, such as a video, got one "
                "without; leave --realtime out"
            )
        self.fps: float | None = recording.fps
        self.dropped = 0
        self._period_ns = 1e9 / recording.fps
        self._recording = recording
        self._clock = clock or Clock()
        self._news = threading.Condition()
        self._is_closed = False
        self._started_ns: int | None = None
        self._next = 0

    @property
    def status(self) -> SourceStatus:
        """What the source is doing; may be asked from any thread."""
        status = self._recording.status
        return SourceStatus(status.state, status.since_ns, captured=status.captured, dropped=self.dropped)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frame that is due each time; see `Source`."""
        while not self._is_closed:
            if self._started_ns is None:
                self._started_ns = self._clock.now_ns()
            due = int((self._clock.now_ns() - self._started_ns) // self._period_ns)
            while self._next < due:
                if not self._recording.skip():
                    return
                self._next += 1
                self.dropped += 1
            captured_ns = self._started_ns + round(self._next * self._period_ns)
            if not self._wait_until(captured_ns):
                return
            frame = self._recording.read()
            if frame is None:
                return
            self._next += 1
            yield Frame(frame.image_bgr, frame.frame_id, captured_ns)

    def close(self) -> None:
        """Wake a caller who waits, and close the recording."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()
        self._recording.close()

    def _wait_until(self, when_ns: int) -> bool:
        """Wait; return False where the source was closed meanwhile."""
        with self._news:
            while not self._is_closed and (left_ns := when_ns - self._clock.now_ns()) > 0:
                self._clock.wait(self._news, left_ns / 1e9)
            return not self._is_closed
