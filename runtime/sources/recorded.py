"""Video files, image files and the bundled drive: every frame in order, or at their own pace."""

from __future__ import annotations

import dataclasses
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2

from runtime.base.images import Depth, read_image
from runtime.errors import SourceError
from runtime.frame import Frame, Image, check_image
from runtime.sources.policy import Clock
from runtime.sources.source import (
    Capture,
    Lifecycle,
    Source,
    SourceState,
    SourceStatus,
    announced_frames,
    stated_fps,
)

CLIP = Path(__file__).parent.parent / "assets" / "synthetic.avi"
_Answer = TypeVar("_Answer")


class RecordedSource(Source):
    """What never runs away: each frame is read when it is asked for."""

    fps: float | None = None
    live = False
    dropped = 0

    def __init__(self) -> None:
        """Start before the first frame."""
        self._count = 0
        self._life = Lifecycle()

    @property
    def status(self) -> SourceStatus:
        """What the source is doing; may be asked from any thread."""
        return SourceStatus(self._life.state, self._life.since_ns, captured=self._count)

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
        return None if image_bgr is None else Frame(image_bgr, self._count - 1, time.monotonic_ns())

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


class VideoFile(RecordedSource):
    """Every frame of a video file.

    Reading raises SourceError after the last good frame where the file announces more than could be
    decoded.
    """

    def __init__(self, path: str | Path, open_capture: Callable[[str], Capture] = cv2.VideoCapture) -> None:
        """Open the file.

        Raises:
            SourceError: a file that is missing or that OpenCV cannot open as a video.
        """
        super().__init__()
        self._path = Path(path)
        if not self._path.is_file():
            raise SourceError(f"{path}: expected a video file, found none; check the path")
        # Of a relative 12:30.mp4 FFmpeg would take 12 for a protocol such as http.
        self._open = partial(open_capture, str(self._path.absolute()))
        self._capture = self._open()
        if not self._capture.isOpened():
            raise SourceError(
                f"{path}: expected a video, got a file that OpenCV cannot open as one; it may be cut off, "
                "empty or in an unknown format"
            )
        self.fps = stated_fps(self._capture)
        self._announced = announced_frames(self._capture)

    def _image(self) -> Image | None:
        delivered, image_bgr = self._capture.read()
        if delivered:
            return check_image(image_bgr)
        self._check_end()
        return None

    def _pass(self) -> bool:
        if self._capture.grab():
            return True
        self._check_end()
        return False

    def _check_end(self) -> None:
        """Make sure that this is the end and not a break."""
        if self._count == 0:
            raise SourceError(
                f"{self._path}: expected a video, got a file without a frame that can be decoded"
            )
        # Some containers only estimate their number of frames, so the last few of them prove nothing.
        if self._count < self._announced - max(2, self._announced // 50):
            raise SourceError(
                f"{self._path}: expected {self._announced} frames, got {self._count}: the file is truncated; "
                "copy it again from where it was recorded"
            )

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._capture.release()


class ImageFiles(RecordedSource):
    """Image files, one frame each, as upright colour pictures whatever they hold; see `runtime.base.images`.

    Reading raises SourceError at a file that cannot be read as an image.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        """Note the files, which are read one by one.

        Raises:
            SourceError: no file at all.
        """
        super().__init__()
        if not paths:
            raise SourceError("expected image files, got an empty list; give at least one")
        self._paths = list(paths)
        self._depth = Depth()

    def _image(self) -> Image | None:
        if self._count == len(self._paths):
            return None
        return read_image(self._paths[self._count], self._depth)

    def _pass(self) -> bool:
        return self._count < len(self._paths)


class SyntheticDrive(VideoFile):
    """The bundled clip, a drive through rendered streets, played over and over without an end.

    Its frames are 360x480 at 15 a second. They were rendered by `training.streets`, which the runtime does
    not need to play them.
    """

    def __init__(self) -> None:
        """Open the clip.

        Raises:
            SourceError: an installation without it.
        """
        super().__init__(CLIP)

    def _image(self) -> Image | None:
        self._start_over_at_the_end()
        return super()._image()

    def _pass(self) -> bool:
        self._start_over_at_the_end()
        return super()._pass()

    def _start_over_at_the_end(self) -> None:
        """Open the clip again after its last frame: seeking is not exact with every decoder."""
        if self._count and self._count % self._announced == 0:
            self._capture.release()
            self._capture = self._open()


class PacedSource(Source):
    """Gives the frame of a recording that is due now, so that a slow caller misses some, as with a camera.

    Frame n is captured n / fps seconds after the first was asked for. The caller gets the latest that has
    been captured, or waits for the next; those between are passed over and counted in `dropped`.

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
        self.recording = recording
        self._clock = clock or Clock()
        self._news = threading.Condition()
        self._is_closed = False
        self._started_ns: int | None = None
        self._next = 0

    @property
    def status(self) -> SourceStatus:
        """What the source is doing; may be asked from any thread."""
        status = self.recording.status
        return SourceStatus(status.state, status.since_ns, captured=status.captured, dropped=self.dropped)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frame that is due each time; see `Source`."""
        while not self._is_closed:
            if self._started_ns is None:
                self._started_ns = self._clock.now_ns()
            due = int((self._clock.now_ns() - self._started_ns) // self._period_ns)
            while self._next < due:
                if not self.recording.skip():
                    return
                self._next += 1
                self.dropped += 1
            captured_ns = self._started_ns + round(self._next * self._period_ns)
            if not self._wait_until(captured_ns):
                return
            frame = self.recording.read()
            if frame is None:
                return
            self._next += 1
            yield dataclasses.replace(frame, captured_ns=captured_ns)

    def close(self) -> None:
        """Wake a caller who waits, and close the recording."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()
        self.recording.close()

    def _wait_until(self, when_ns: int) -> bool:
        """Wait; return False where the source was closed meanwhile."""
        with self._news:
            while not self._is_closed and (left_ns := when_ns - self._clock.now_ns()) > 0:
                self._clock.wait(self._news, left_ns / 1e9)
            return not self._is_closed
