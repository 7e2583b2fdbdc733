"""Where drawn frames go: a window, a video file, a sheet of pictures."""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import subprocess
import sys
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from runtime.base.closing import Closable
from runtime.base.files import replacing
from runtime.errors import OutputError
from runtime.frame import Image, check_image

logger = logging.getLogger(__name__)

# An .mp4 is nothing without the index that is written last. Matroska and Motion JPEG need none, so what is
# left of an .mkv or .avi after a power cut can still be played.
VIDEO_CODECS = {".mp4": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
_QUIT_KEYS = (ord("q"), 27)
_PROBE_WAIT_S = 30.0
_SMALLEST_SIDE_PX = 16
_DISK_CHECK_NS = 1_000_000_000
_DISK_RESERVE_BYTES = 32 << 20  # for what OpenCV still holds back, and for the index at the end
_LARGEST_TIME_BASE = 65535
_SHEET_GAP_PX = 4


class Sink(Closable, Protocol):
    """Takes drawn frames; a context manager that finishes what it writes, however the block ends."""

    @abstractmethod
    def write(self, image_bgr: Image, captured_ns: int | None = None) -> bool:
        """Take one frame.

        Args:
            image_bgr: uint8 (H, W, 3).
            captured_ns: monotonic time of a live frame; None for the next frame of a recording.

        Returns:
            False when the viewer asks to stop.

        Raises:
            OutputError: the frame cannot be shown or stored.
        """


class WindowSink(Sink):
    """A window on the screen, left with q, Esc or its close button."""

    def __init__(self, title: str = "edgeseg") -> None:
        """Make sure that there is a screen; the window opens with the first frame.

        Raises:
            OutputError: no screen, or an OpenCV without windows.
        """
        _check_display()
        self._title = title
        self._is_open = False

    def write(self, image_bgr: Image, captured_ns: int | None = None) -> bool:
        """Show a frame and answer the keyboard."""
        if not self._is_open:
            try:
                cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            except cv2.error:
                raise OutputError(
                    "window: this OpenCV was built without windows; install opencv-python instead of "
                    "opencv-python-headless, or run without a window (--headless)"
                ) from None
            cv2.resizeWindow(self._title, image_bgr.shape[1], image_bgr.shape[0])
            self._is_open = True
        cv2.imshow(self._title, image_bgr)
        key = cv2.waitKey(1) & 0xFF
        return key not in _QUIT_KEYS and self._is_visible()

    def close(self) -> None:
        """Close the window."""
        if self._is_open:
            cv2.destroyAllWindows()
            self._is_open = False

    def _is_visible(self) -> bool:
        """Tell whether the user left the window open."""
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) > 0
        except cv2.error:  # OpenCV 4 with Qt knows no properties once the last window is closed
            return False


class VideoSink(Sink):
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
            OutputError: another ending, the name of a folder, or frames a second that are not positive.
        """
        self._path = Path(path)
        codec = VIDEO_CODECS.get(self._path.suffix.lower())
        if codec is None:
            raise OutputError(
                f"{path}: expected a video name that ends in {', '.join(VIDEO_CODECS)}, got "
                f"{self._path.suffix or 'no ending'!r}"
            )
        if self._path.is_dir():
            raise OutputError(f"{path}: expected the name of a video, got a folder; choose another name")
        if not (math.isfinite(fps) and fps > 0):
            raise OutputError(f"{path}: expected positive frames a second, got {fps}")
        self.is_stored = False
        self._fourcc = cv2.VideoWriter.fourcc(*codec)
        # MPEG-4 states frames a second as a fraction; OpenCV's is whole / 10^n.
        self._fps = round(fps, math.floor(math.log10(_LARGEST_TIME_BASE) - math.log10(fps)))
        self._writer: cv2.VideoWriter | None = None
        self._part = self._path
        self._renaming = ExitStack()
        self._size_wh = self._scaled_wh = (0, 0)
        self._written = 0
        self._first_ns = 0
        self._disk_check_due_ns = 0

    def write(self, image_bgr: Image, captured_ns: int | None = None) -> bool:
        """Append a frame; see `Sink.write`.

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
        return True

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
                        f"{self._size_wh} pixels at {self._fps:g} frames a second; try another ending or "
                        "another rate"
                    )
                self._renaming = files.pop_all()
        except OSError as error:
            raise cannot_write(self._path, error) from None
        self._writer = writer
        return writer


def write_contact_sheet(path: str | Path, images_bgr: Sequence[Image], columns: int) -> None:
    """Write pictures of one size side by side, row after row, into one image file.

    Args:
        path: ends in .png or another image format that OpenCV writes.
        images_bgr: uint8 (H, W, 3) each, all of one size, at least one.
        columns: pictures a row, at least 1.

    Raises:
        OutputError: pictures of different sizes, none at all, no column, or a file that cannot be written.
    """
    shapes = {check_image(image_bgr).shape for image_bgr in images_bgr}
    if len(shapes) != 1 or columns < 1:
        raise OutputError(
            f"{path}: expected pictures of one size and at least one column, got sizes {sorted(shapes)} and "
            f"{columns} columns"
        )
    height, width, _ = shapes.pop()
    columns = min(columns, len(images_bgr))
    rows = math.ceil(len(images_bgr) / columns)
    down, right = height + _SHEET_GAP_PX, width + _SHEET_GAP_PX
    sheet = np.full((rows * down - _SHEET_GAP_PX, columns * right - _SHEET_GAP_PX, 3), 255, np.uint8)
    for index, image_bgr in enumerate(images_bgr):
        top, left = index // columns * down, index % columns * right
        sheet[top : top + height, left : left + width] = image_bgr
    try:
        with replacing(path) as part:
            if not cv2.imwrite(str(part), sheet):
                raise OutputError(f"{path}: OpenCV could not write the image; check the free disk space")
    except cv2.error:
        raise OutputError(
            f"{path}: expected an image name that OpenCV can write, such as sheet.png"
        ) from None
    except OSError as error:
        raise cannot_write(Path(path), error) from None


def _check_display() -> None:
    """Make sure that a window can open, since without a screen OpenCV's Qt ends the whole process."""
    advice = "run without a window (--headless), and record a video (--save out.mp4) to see the result"
    if not sys.platform.startswith("linux"):
        return
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OutputError(
            f"window: expected a screen, but neither DISPLAY nor WAYLAND_DISPLAY is set; {advice}"
        )
    # A set variable proves little (a screen of another user, a closed ssh session), so another process tries.
    probe = [sys.executable, "-c", "import cv2; cv2.namedWindow('edgeseg'); cv2.destroyAllWindows()"]
    try:
        failed = (
            subprocess.run(probe, capture_output=True, timeout=_PROBE_WAIT_S, check=False).returncode != 0
        )
    except subprocess.TimeoutExpired:
        failed = True
    if failed:
        raise OutputError(f"window: expected a screen where OpenCV can open a window, found none; {advice}")


def _count_frames(path: Path) -> int:
    """Return the number of frames that a video states; 0 where it does not open."""
    capture = cv2.VideoCapture(str(path))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
    finally:
        capture.release()


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error to raise where the system refuses to make or write a file."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "free some space; what was written before is whole" if full else "choose another place"
    return OutputError(f"{path}: cannot write it ({error.strerror or error}); {advice}")
