"""What is recorded: every frame in order, or at its own pace; and image files."""

from __future__ import annotations

import dataclasses
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from runtime.base.images import Depth, read_image
from runtime.errors import SourceError
from runtime.frame import Frame, Image
from runtime.sources.policy import Clock
from runtime.sources.source import Lifecycle, Source, SourceState, SourceStatus

_Answer = TypeVar("_Answer")


class RecordedSource(Source):
    """What never runs away: each frame is read when it is asked for.

    Attributes:
        announced: frames that the header states, an estimate; 0 where it states none.
    """

    fps: float | None = None
    live = False
    dropped = 0
    announced = 0

    def __init__(self) -> None:
        """Start before the first frame."""
        self._count = self._skipped = 0
        self._pts_ns: int | None = None  # of the latest frame
        self._life = Lifecycle()

    @property
    def status(self) -> SourceStatus:
        """What the source is doing; may be asked from any thread."""
        return SourceStatus(
            self._life.state, self._life.since_ns, captured=self._count, skipped=self._skipped
        )

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame; see `Source`."""
        while (frame := self.read()) is not None:
            yield frame

    def read(self) -> Frame | None:
        """Return the next frame, None at the end.

        Raises:
            SourceError: what comes next cannot be read; all frames before it were given.
            FrameError: it is not uint8 (H, W, 3).
        """
        image_bgr = self._advance(self._image)
        if image_bgr is None:
            return None
        return Frame(image_bgr, self._count - 1, time.monotonic_ns(), pts_ns=self._pts_ns)

    def next_pts_ns(self) -> int | None:
        """Return the next frame's presentation time without reading it; None where it is not known.

        Raises:
            SourceError: as `read`.
        """
        try:
            return self._peek()
        except Exception:
            self._life.finish(SourceState.FAILED)
            raise

    def skip(self) -> bool:
        """Pass over the next frame, decoding nothing that need not be; return False at the end.

        Raises:
            SourceError: as `read`.
        """
        return self._advance(self._pass) is True

    def close(self) -> None:
        """Free what is open."""
        self._life.finish(SourceState.ENDED)

    @abstractmethod
    def _image(self) -> Image | None:
        """Return picture number `_count`, None at the end."""

    def _pass(self) -> bool:
        """Pass over picture number `_count`; return False at the end."""
        return self._image() is not None

    def _peek(self) -> int | None:
        """Return the presentation time of picture number `_count`, None where it is not known."""
        return None

    def _advance(self, step: Callable[[], _Answer]) -> _Answer:
        """Take a step and keep the state; a falsy answer of None or False is the end."""
        try:
            answer = step()
        except Exception:
            self._life.finish(SourceState.FAILED)
            raise
        if answer is None or answer is False:
            self._life.finish(SourceState.ENDED)
        else:
            self._count += 1
            if not self._life.is_over:
                self._life.enter(SourceState.RUNNING)
        return answer


class ImageFiles(RecordedSource):
    """Image files, one frame each, as upright colour pictures whatever they hold; see `runtime.base.images`.

    Reading raises SourceError at a file that cannot be read as an image.
    """

    def __init__(self, paths: Sequence[str | Path], depth: Depth | None = None) -> None:
        """Note the files, which are read one by one.

        Args:
            paths: of the files.
            depth: what is known of files that have more than 8 bits a channel; None for nothing.

        Raises:
            SourceError: no file at all.
        """
        super().__init__()
        if not paths:
            raise SourceError("expected image files, got an empty list; give at least one")
        self._paths = list(paths)
        self._depth = depth or Depth()

    def _image(self) -> Image | None:
        if self._count == len(self._paths):
            return None
        return read_image(self._paths[self._count], self._depth)

    def _pass(self) -> bool:
        return self._count < len(self._paths)


class PacedSource(Source):
    """Gives the frame of a recording that is due now, so that a slow caller misses some, as with a camera.

    Frames are captured as far apart as their time stamps are, or, where there are none, 1 / fps seconds; the
    first one when it is asked for. The caller gets the latest that has been captured, or waits for the next;
    those between are passed over and counted in `dropped`.

    Attributes:
        recording: what it plays.
    """

    live = True

    def __init__(self, recording: RecordedSource, clock: Clock | None = None) -> None:
        """Take over a recording, which `close` closes.

        Raises:
            SourceError: it states no frame rate.
        """
        if recording.fps is None:
            recording.close()
            raise SourceError(
                "real time: expected a source that states its frame rate, such as a video, got one without; "
                "leave out --realtime"
            )
        self.fps: float | None = recording.fps
        self.dropped = 0
        self._period_ns = 1e9 / recording.fps
        self._longest_ns = self._shortest_ns = self._period_ns  # between two frames
        self._first_pts_ns: int | None = None
        self._latest_ns = 0.0  # when the frame before was captured, since the first
        self.recording = recording
        self._clock = clock or Clock()
        self._news = threading.Condition()
        self._is_closed = False
        self._started_ns: int | None = None
        self._next = 0

    @property
    def status(self) -> SourceStatus:
        """What the source is doing; may be asked from any thread."""
        return dataclasses.replace(self.recording.status, dropped=self.dropped)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frame that is due each time; see `Source`."""
        while not self._is_closed:
            if self._started_ns is None:
                self._started_ns = self._clock.now_ns()
            since_ns = self._since_first_ns()
            # Passed over unread where the frame after it is captured by now, however long it may take.
            while since_ns + self._longest_ns <= self._clock.now_ns() - self._started_ns:
                if not self.recording.skip():
                    return
                self._note(since_ns)
                self.dropped += 1
                since_ns = self._since_first_ns()
            captured_ns = self._started_ns + round(since_ns)
            if not self._wait_until(captured_ns):
                return
            frame = self.recording.read()
            if frame is None:
                return
            self._note(since_ns)
            if self._is_replaced(since_ns):
                self.dropped += 1
                continue
            frame = dataclasses.replace(frame, captured_ns=captured_ns)
            yield frame

    def close(self) -> None:
        """Wake a caller who waits, and close the recording."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()
        self.recording.close()

    def _since_first_ns(self) -> float:
        """Return when the next frame is captured, since the first."""
        pts_ns = self.recording.next_pts_ns()
        if pts_ns is None:
            return self._next * self._period_ns
        if self._first_pts_ns is None:
            self._first_pts_ns = pts_ns
        return float(pts_ns - self._first_pts_ns)

    def _note(self, since_ns: float) -> None:
        """Note that a frame was taken or passed over."""
        if self._next:
            gap_ns = since_ns - self._latest_ns
            self._longest_ns = max(self._longest_ns, gap_ns)
            self._shortest_ns = min(self._shortest_ns, gap_ns)
        self._latest_ns = since_ns
        self._next += 1

    def _is_replaced(self, since_ns: float) -> bool:
        """Whether the next frame is captured too by now, which only uneven gaps leave open."""
        assert self._started_ns is not None
        passed_ns = self._clock.now_ns() - self._started_ns
        if passed_ns < since_ns + self._shortest_ns:
            return False
        return self.recording.next_pts_ns() is not None and self._since_first_ns() <= passed_ns

    def _wait_until(self, when_ns: int) -> bool:
        """Wait; return False where the source was closed meanwhile."""
        with self._news:
            while not self._is_closed and (left_ns := when_ns - self._clock.now_ns()) > 0:
                self._clock.wait(self._news, left_ns / 1e9)
            return not self._is_closed
