"""Video files, recordings on a web server, and the bundled drive: every frame, each with its own time."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from runtime.base.files import name_for_libraries
from runtime.base.shown import shown
from runtime.errors import SourceError
from runtime.frame import Image, check_image, own_image
from runtime.sources.container import check_head, what_is_missing
from runtime.sources.policy import Backoff
from runtime.sources.pts import presentation_ns
from runtime.sources.recorded import RecordedSource
from runtime.sources.source import Capture, announced_frames, opened, stated_fps

logger = logging.getLogger(__name__)

CLIP = Path(__file__).parent.parent / "assets" / "synthetic.avi"
_BELIEVED_FPS = 240.0  # a browser's recording states 1000, its clock's ticks
_FPS_FROM = 60  # frames that tell the rate where the header does not
_ATTEMPTS = 4
_MOST_DAMAGED = 250  # packets in a row that OpenCV cannot decode
_ONE_DECODERS_PIXELS = 1920 * 1088
_SEEK_BACK_MS = 2000.0
_JUMPS_BACK_NS = (0, 2_000_000_000, 20_000_000_000)
_SAME_TIME_NS = 500_000  # OpenCV tells times as fractions of a millisecond


@runtime_checkable
class Seekable(Protocol):
    """The part of `cv2.VideoCapture` that jumps."""

    def set(self, propId: int, value: float, /) -> bool:
        """Set a property by its `cv2.CAP_PROP_…` number; return whether that worked."""


class Video(RecordedSource):
    """What a capture reads from its first frame to its last.

    A frame's `pts_ns` is what the file states. The number of frames in a header is an estimate, no promise.
    """

    def __init__(self, name: str, open_capture: Callable[[], Capture]) -> None:
        """Open it.

        Args:
            name: what messages call it.
            open_capture: opens it from the start; called again to learn its rate, or to go on.

        Raises:
            SourceError: what `open_capture` raises.
        """
        super().__init__()
        self._name = name
        self._open = open_capture
        self._is_grabbed = False
        self._latest_ns: int | None = None  # time stamp of the frame that was grabbed last
        self._capture = open_capture()
        try:
            self.fps = self._usual_fps()
        except BaseException:
            self._capture.release()
            raise
        self.announced = announced_frames(self._capture)
        self._period_ns = round(1e9 / self.fps) if self.fps else 1

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._capture.release()

    def seek(self, time_ns: int, number: int) -> None:
        """Make the next frame the first one that is not shown before a time.

        OpenCV jumps by the usual rate, so where frames come unevenly it may land too late, which their times
        show: then it jumps farther back, and at last reads from the start.

        Args:
            time_ns: presentation time, as frames' `pts_ns`.
            number: of that frame.

        Raises:
            SourceError: as `read`.
        """
        assert isinstance(self._capture, Seekable)  # every capture of OpenCV is
        self._count = number
        for back_ns in _JUMPS_BACK_NS:
            self._capture.set(cv2.CAP_PROP_POS_MSEC, max(0, time_ns - back_ns) / 1e6)
            if self._find(time_ns, is_start=False):
                return
        self._capture.release()
        self._capture = self._open()
        self._find(time_ns, is_start=True)

    def _find(self, time_ns: int, *, is_start: bool) -> bool:
        """Grab up to the first frame that is not shown before a time; False where the first one is later."""
        self._is_grabbed, self._latest_ns = False, None
        is_first = not is_start
        while self._capture.grab() or self._pass_damage():
            shown_ns = self._note_time()
            if shown_ns >= time_ns - _SAME_TIME_NS:
                return not (is_first and shown_ns > time_ns + _SAME_TIME_NS)
            self._is_grabbed = is_first = False
        return False

    def _peek(self) -> int | None:
        return self._latest_ns if self._grab() else None

    def _image(self) -> Image | None:
        while self._grab():
            self._is_grabbed = False
            delivered, image_bgr = self._capture.retrieve()
            if delivered:
                return own_image(check_image(image_bgr))
            self._note_damage(1)
        return None

    def _pass(self) -> bool:
        is_there = self._grab()
        self._is_grabbed = False
        return is_there

    def _grab(self) -> bool:
        """Make sure that the next frame is grabbed; return False at the end."""
        if self._is_grabbed:
            return True
        if not self._capture.grab() and not self._goes_on():
            if self._latest_ns is None:
                raise SourceError(
                    f"{self._name}: expected a video, got one without a frame that can be decoded"
                )
            return False
        self._note_time()
        return True

    def _note_time(self) -> int:
        """Return when the frame is shown that was grabbed just now."""
        stated_ns = presentation_ns(self._capture, self._latest_ns)
        if self._latest_ns is None:
            self._latest_ns = stated_ns or 0
        elif stated_ns is None or stated_ns <= self._latest_ns:
            self._latest_ns += self._period_ns
        else:
            self._latest_ns = stated_ns
        self._pts_ns = self._latest_ns
        self._is_grabbed = True
        return self._latest_ns

    def _pass_damage(self) -> bool:
        """Grab the next frame that can be decoded; OpenCV says no once for each packet that it cannot."""
        for packets in range(1, _MOST_DAMAGED):
            if self._capture.grab():
                self._note_damage(packets)
                return True
        return False

    def _note_damage(self, frames: int) -> None:
        if not self._skipped:
            logger.warning(
                "%s: damaged after frame %d, going on behind that; what follows may show it",
                self._name,
                self._count,
            )
        self._skipped += frames

    @abstractmethod
    def _goes_on(self) -> bool:
        """Find out why no frame came: return False at the end, True once the next frame is grabbed after all.

        Raises:
            SourceError: neither.
        """

    def _usual_fps(self) -> float | None:
        """Return the rate that the header states, or, where that cannot be, that of the first frames."""
        stated = stated_fps(self._capture)
        if stated is not None and stated <= _BELIEVED_FPS:
            return stated
        times_ns: list[int] = []
        probe = self._open()
        try:
            while len(times_ns) < _FPS_FROM and probe.grab():
                stated_ns = presentation_ns(probe, times_ns[-1] if times_ns else None)
                if stated_ns is None:
                    break
                times_ns.append(stated_ns)
        finally:
            probe.release()
        usual_ns = float(np.median(np.diff(times_ns))) if len(times_ns) > 1 else 0.0
        return 1e9 / usual_ns if usual_ns >= 1e9 / _BELIEVED_FPS else None


class VideoFile(Video):
    """Every frame of a video file.

    Reading raises SourceError after the last good frame where the file was cut off.
    """

    def __init__(self, path: str | Path, open_capture: Callable[[str], Capture] | None = None) -> None:
        """Open the file.

        Args:
            path: the file.
            open_capture: opens it by name; None for OpenCV, with one decoder thread for pictures of up to
                1920x1088 where there are two processors at most.

        Raises:
            SourceError: a file that is missing or that OpenCV cannot open as a video.
        """
        self._path = Path(path)
        self._open_named = open_capture
        if not self._path.is_file():
            raise SourceError(f"{shown(path)}: expected a video file, found none; check the path")
        super().__init__(shown(path), self._open_file)

    def _open_file(self) -> Capture:
        width, height = check_head(self._path, self._name)
        with name_for_libraries(self._path) as name:
            if self._open_named is not None:
                capture = self._open_named(name)
            else:
                # Several take a quarter more of the processors' time, which the network needs.
                is_one = cv2.getNumberOfCPUs() <= 2 and width * height <= _ONE_DECODERS_PIXELS
                capture = cv2.VideoCapture(name, cv2.CAP_ANY, [cv2.CAP_PROP_N_THREADS, 1] if is_one else [])
        if opened(capture, self._name):
            return capture
        missing = self._missing()
        found = (
            f"got a truncated file ({missing})"
            if missing
            else "got a file that OpenCV cannot open as one; it may be empty or in an unknown format"
        )
        raise SourceError(
            f"{self._name}: expected a video, {found}; copy it again from where it was recorded"
        )

    def _goes_on(self) -> bool:
        if self._pass_damage():
            return True
        if missing := self._missing():
            raise SourceError(
                f"{self._name}: file is truncated after frame {self._count} ({missing}); copy it again, "
                "unless its recorder was ended"
            )
        return False

    def _missing(self) -> str | None:
        try:
            return what_is_missing(self._path)
        except OSError as error:
            return f"it cannot be read any more: {error.strerror}"


class VideoAddress(Video):
    """Every frame of a recording on a web server, from its first to its last.

    Where no more frames come, a second connection looks behind the last one: where it finds none, the
    recording is over, else reading goes on there. Reading raises SourceError where the server stays away.
    """

    def __init__(
        self,
        open_capture: Callable[[], Capture],
        name: str,
        backoff: Backoff = Backoff(first_s=0.5),  # noqa: B008
    ) -> None:
        """Open the recording.

        Args:
            open_capture: opens it from the start or raises SourceError.
            name: what messages call it; free of passwords.
            backoff: waits between attempts to connect again.

        Raises:
            SourceError: it does not open.
        """
        self._backoff = backoff
        super().__init__(name, open_capture)

    def _goes_on(self) -> bool:
        if self._latest_ns is None:
            return False
        capture = self._connect_again()
        self._capture.release()
        self._capture = capture
        if not self._find_next():
            return False
        logger.warning("%s: connection lost after frame %d, going on there", self._name, self._count)
        return True

    def _connect_again(self) -> Capture:
        for _, wait_s in zip(range(_ATTEMPTS), self._backoff.waits_s(), strict=False):
            try:
                return self._open()
            except SourceError:
                time.sleep(wait_s)
        raise SourceError(
            f"{self._name}: connection lost after frame {self._count}, and it does not open any more; check "
            "the network and the server"
        )

    def _find_next(self) -> bool:
        """Grab the first frame after the latest; return False where there is none."""
        assert self._latest_ns is not None
        before_ms = self._latest_ns / 1e6 - _SEEK_BACK_MS
        if before_ms > 0:
            assert isinstance(self._capture, Seekable)  # every capture of OpenCV is
            self._capture.set(cv2.CAP_PROP_POS_MSEC, before_ms)
        is_first = True
        while self._capture.grab() or self._pass_damage():
            pts_ns = presentation_ns(self._capture, None)
            assert pts_ns is not None
            if pts_ns > self._latest_ns + self._period_ns // 2:
                if not is_first or before_ms <= 0:
                    return True
                # The jump went too far: read from the start.
                self._capture.release()
                self._capture = self._open()
                before_ms = 0.0
            is_first = False
        return False


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
        self._length, self.announced = self.announced, 0

    def _goes_on(self) -> bool:
        """Open the clip again after its last frame: seeking is not exact with every decoder."""
        if self._count == 0 or self._count % self._length:
            return super()._goes_on()
        self._capture.release()
        self._capture = self._open()
        return self._capture.grab()
