"""A video: the overlay, the mask's colours, picture and colours side by side, or what a function draws."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np

from runtime.base.closing import Closable
from runtime.base.files import replacing
from runtime.errors import ConfigError, OutputError
from runtime.frame import Image, check_image
from runtime.loop import Step
from runtime.outputs.output import Output, Stream, cannot_write

logger = logging.getLogger(__name__)

View = Literal["overlay", "mask", "side-by-side"]
# An .mp4 is nothing without the index that is written last. Matroska and Motion JPEG need none, so what is
# left of an .mkv or .avi after a power cut can still be played.
VIDEO_CODECS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
_SMALLEST_SIDE_PX = 16
_DISK_CHECK_NS = 1_000_000_000
_DISK_RESERVE_BYTES = 32 << 20  # for what OpenCV still holds back, and for the index at the end
_LARGEST_TIME_BASE = 65535


class Recording(Output):
    """Writes a picture of every step into a video file, see `VideoWriter`."""

    def __init__(self, path: str | Path, view: View | Callable[[Step], Image] = "overlay") -> None:
        """Choose the file; it is opened with the first step and plays at the source's frames a second.

        Args:
            path: ends in .mp4, .mkv or .avi.
            view: what the video shows, or a function that draws it, uint8 (H, W, 3).

        Raises:
            OutputError: a path of another ending, or the name of a folder.
            ConfigError: an unknown view.
        """
        if not callable(view) and view not in get_args(View):
            raise ConfigError(f"{path}: expected a view among {', '.join(get_args(View))}, got {view!r}")
        self.path = _checked(Path(path))
        self._view = view
        self._writer: VideoWriter | None = None

    @property
    def name(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def is_stored(self) -> bool:
        """Whether the file has its name."""
        return self._writer is not None and self._writer.is_stored

    def open(self, stream: Stream) -> None:
        """Learn how fast the video plays; see `Output`."""
        overlay, self._is_live = stream.overlay, stream.source.live
        drawn: dict[str, Callable[[Step], Image]] = {
            "overlay": lambda step: step.overlay_bgr,
            "mask": lambda step: overlay.colors(step.segmentation.mask),
            "side-by-side": lambda step: overlay.beside(step.frame.image_bgr, step.segmentation.mask),
        }
        self._draw = self._view if callable(self._view) else drawn[self._view]
        self._writer = VideoWriter(self.path, stream.fps)

    def take(self, step: Step) -> None:
        """Append a frame; see `VideoWriter.write`."""
        assert self._writer is not None
        self._writer.write(self._draw(step), step.frame.captured_ns if self._is_live else None)

    def close(self) -> None:
        """Finish the file, see `VideoWriter.close`."""
        if self._writer is not None:
            self._writer.close()


class VideoWriter(Closable):
    """A video file, .mp4, .mkv or .avi.

    It is written under a temporary name beside its own and takes its name when it is closed: also after
    an error, since what was recorded is the user's. After a power cut or `kill -9` an .mkv or .avi plays
    under its temporary name, `.out.<process>.part.mkv`; an .mp4 does not. OpenCV tells of no failed
    write, so recording ends with an error while the disk still has room for the file's end.

    The first frame fixes the size; frames of another size (a camera that came back with other settings)
    are scaled to it. Live frames are repeated where the camera or the network was slower than `fps` and
    left out where they were faster, so that the video plays at the pace of the world.

    Attributes:
        is_stored: True once the file has its name.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        """Choose the file; it is opened with the first frame.

        Args:
            path: ends in .mp4, .mkv or .avi; a file of that name is replaced at the end.
            fps: frames a second that the video plays at; rounded to what both formats can state, which is
                a thousandth up to 65 and a hundredth up to 655.

        Raises:
            OutputError: another ending, the name of a folder, or a frame rate that is not positive.
        """
        self._path = _checked(Path(path))
        if not (math.isfinite(fps) and fps > 0):
            raise OutputError(f"{path}: expected a positive frame rate, got {fps}")
        self.is_stored = False
        self._fourcc = cv2.VideoWriter.fourcc(*VIDEO_CODECS[self._path.suffix.lower()])
        # MPEG-4 states frames a second as a fraction; OpenCV's is whole / 10^n.
        self._fps = round(fps, math.floor(math.log10(_LARGEST_TIME_BASE) - math.log10(fps)))
        self._writer: cv2.VideoWriter | None = None
        self._part = self._path
        self._renaming = ExitStack()
        self._size_wh = self._scaled_wh = (0, 0)
        self._written = 0
        self._first_ns = 0
        self._disk_check_due_ns = 0

    def write(self, image_bgr: Image, captured_ns: int | None = None) -> None:
        """Append a frame.

        Args:
            image_bgr: uint8 (H, W, 3).
            captured_ns: monotonic time of a live frame; None for the next frame of a recording.

        Raises:
            OutputError: too small a frame, a file that cannot be written, or a disk that is nearly full.
        """
        writer = self._writer or self._open(check_image(image_bgr), captured_ns)
        size_wh = (image_bgr.shape[1], image_bgr.shape[0])
        if size_wh != self._size_wh:
            if size_wh != self._scaled_wh:
                self._scaled_wh = size_wh
                logger.warning("%s: frames of %s are scaled to %s", self._path, size_wh, self._size_wh)
            image_bgr = np.asarray(cv2.resize(image_bgr, self._size_wh), np.uint8)
        repeats = 1
        if captured_ns is not None:
            due = round((captured_ns - self._first_ns) * self._fps / 1e9) + 1
            # One ahead is the jitter of a camera that runs at the video's pace.
            repeats = 0 if self._written > due else max(1, due - self._written)
        for _ in range(repeats):
            writer.write(image_bgr)
            self._written += 1
        self._check_disk()

    def close(self) -> None:
        """Finish the file, check that it plays and give it its name; without a frame there is no file.

        Raises:
            OutputError: the file does not hold all frames that were written; what plays is kept.
        """
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            with self._renaming:
                writer.release()
                playable = _count_frames(self._part)
                if playable == 0:
                    raise OutputError(f"{self._path}: the video cannot be played; check the free disk space")
        except OutputError:
            if self._written == 0:
                return  # interrupted before the first frame was in
            raise
        except OSError as error:
            raise cannot_write(self._path, error) from None
        self.is_stored = True
        if playable < self._written:
            raise OutputError(
                f"{self._path}: expected {self._written} frames in the video, only {playable} were stored; "
                "check the free disk space"
            )

    def _check_disk(self) -> None:
        """Once a second, stop before the disk is too full for the file's end."""
        now_ns = time.monotonic_ns()
        if now_ns < self._disk_check_due_ns:
            return
        self._disk_check_due_ns = now_ns + _DISK_CHECK_NS
        try:
            free = shutil.disk_usage(self._part.parent).free
        except OSError as error:  # such as a memory card that was pulled out
            raise cannot_write(self._path, error) from None
        if free < _DISK_RESERVE_BYTES:
            raise OutputError(
                f"{self._path}: expected at least {_DISK_RESERVE_BYTES >> 20} MiB of free disk space, found "
                f"{free >> 20}; the recording ends here and is kept; free some space, then record again"
            )

    def _open(self, image_bgr: Image, captured_ns: int | None) -> cv2.VideoWriter:
        """Start the file with the first frame's size."""
        self._size_wh = (image_bgr.shape[1], image_bgr.shape[0])
        if min(self._size_wh) < _SMALLEST_SIDE_PX:  # some such sizes end the process inside OpenCV's encoders
            raise OutputError(
                f"{self._path}: expected frames of at least {_SMALLEST_SIDE_PX} pixels a side for a video, "
                f"got {self._size_wh}; record without a video or from a larger source"
            )
        self._first_ns = captured_ns or 0
        try:
            with ExitStack() as files:
                # Absolute, since of a relative 12:30.mp4 FFmpeg would take 12 for a protocol such as http.
                self._part = files.enter_context(replacing(self._path.absolute()))
                self._part.touch()  # OpenCV says only that it did not open; this says why
                writer = cv2.VideoWriter(str(self._part), self._fourcc, self._fps, self._size_wh)
                if not writer.isOpened():
                    raise OutputError(
                        f"{self._path}: OpenCV cannot write a {self._path.suffix} video of "
                        f"{self._size_wh} pixels at {self._fps:g} fps; try another ending or "
                        "another rate"
                    )
                self._renaming = files.pop_all()
        except OSError as error:
            raise cannot_write(self._path, error) from None
        self._writer = writer
        return writer


def _checked(path: Path) -> Path:
    """Return a path that can become a video."""
    if path.suffix.lower() not in VIDEO_CODECS:
        raise OutputError(
            f"{path}: expected a video name that ends in {', '.join(VIDEO_CODECS)}, got "
            f"{path.suffix or 'no ending'!r}"
        )
    if path.is_dir():
        raise OutputError(f"{path}: expected the name of a video, got a folder; choose another name")
    return path


def _count_frames(path: Path) -> int:
    """Return the number of frames that a video states; 0 where it does not open."""
    capture = cv2.VideoCapture(str(path))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
    finally:
        capture.release()
