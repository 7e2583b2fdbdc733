"""Video files, image files and the synthetic drive: every frame, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from runtime.errors import SourceError
from runtime.frame import Frame, Image, check_image
from runtime.sources.source import Capture, Source, stated_fps
from runtime.streets import Drive

_DRIVE_FPS = 15.0


class VideoFile(Source):
    """Every frame of a video file."""

    live = False
    dropped = 0

    def __init__(self, path: str | Path, open_capture: Callable[[str], Capture] = cv2.VideoCapture) -> None:
        """Open the file.

        Raises:
            SourceError: a file that is missing or that OpenCV cannot open as a video.
        """
        self._path = Path(path)
        if not self._path.is_file():
            raise SourceError(f"{path}: expected a video file, found none; check the path")
        # Of a relative 12:30.mp4 FFmpeg would take 12 for a protocol such as http.
        self._capture = open_capture(str(self._path.absolute()))
        if not self._capture.isOpened():
            raise SourceError(
                f"{path}: expected a video, got a file that OpenCV cannot open as one; it may be cut off, "
                "empty or in an unknown format"
            )
        self.fps = stated_fps(self._capture)
        self._announced = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self._count = 0

    def __iter__(self) -> Iterator[Frame]:
        """Yield every frame that can be decoded.

        Raises:
            SourceError: after the last good frame, where the file announces more than could be decoded.
            FrameError: the video's pictures are not uint8 (H, W, 3).
        """
        while True:
            delivered, image_bgr = self._capture.read()
            if not delivered:
                break
            frame = Frame(check_image(image_bgr), self._count, time.monotonic_ns())
            self._count += 1
            yield frame
        if self._count == 0:
            raise SourceError(
                f"{self._path}: expected a video, got a file without a frame that can be decoded"
            )
        # Some containers only estimate their number of frames, so the last few of them prove nothing.
        if self._count < self._announced - max(2, self._announced // 50):
            raise SourceError(
                f"{self._path}: the video broke after frame {self._count} of {self._announced}; all frames "
                "before were read; copy the file again from where it was recorded"
            )

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class ImageFiles(Source):
    """Image files, one frame each, as colour pictures whatever they hold."""

    fps = None
    live = False
    dropped = 0

    def __init__(self, paths: Sequence[str | Path]) -> None:
        """Note the files, which are read one by one while iterating.

        Raises:
            SourceError: no file at all.
        """
        if not paths:
            raise SourceError("expected image files, got an empty list; give at least one")
        self._paths = list(paths)
        self._count = 0

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images in the order given.

        Raises:
            SourceError: a file that cannot be read as an image; all images before it were delivered.
        """
        while self._count < len(self._paths):
            image_bgr = _read_image(self._paths[self._count])
            frame = Frame(image_bgr, self._count, time.monotonic_ns())
            self._count += 1
            yield frame

    def close(self) -> None:
        """Do nothing: no file stays open."""


class SyntheticDrive(Source):
    """An endless drive through the built-in synthetic streets, rendered frame by frame."""

    fps = _DRIVE_FPS
    live = False
    dropped = 0

    def __init__(self, seed: int = 0, size_hw: tuple[int, int] = (360, 480)) -> None:
        """Choose the street.

        Raises:
            ConfigError: a size that is too small for a street.
        """
        self._drive = Drive(seed, size_hw)
        self._count = 0

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames for ever."""
        while True:
            image_bgr = self._drive.frame(self._count).image_bgr
            frame = Frame(image_bgr, self._count, time.monotonic_ns())
            self._count += 1
            yield frame

    def close(self) -> None:
        """Do nothing: there is nothing to free."""


def _read_image(path: str | Path) -> Image:
    """Read an image file as uint8 (H, W, 3)."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: expected an image file, cannot read it ({error.strerror})") from None
    try:
        image_bgr = (
            None
            if not data or _is_cut_off(data)
            else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        )
    except cv2.error as error:  # such as more pixels than OpenCV agrees to
        raise SourceError(
            f"{path}: expected an image, got one that OpenCV refuses ({error.err}); remove it or make it "
            "smaller"
        ) from None
    if image_bgr is None:
        raise SourceError(
            f"{path}: expected an image, got a file that cannot be decoded as one; remove it or copy it again"
        )
    return check_image(image_bgr)


def _is_cut_off(data: bytes) -> bool:
    """Tell whether a JPEG or PNG lacks its end, of which OpenCV makes a picture with a blank lower part."""
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")  # no end marker after the last scan
    return data.startswith(b"\x89PNG") and b"\0\0\0\0IEND" not in data
