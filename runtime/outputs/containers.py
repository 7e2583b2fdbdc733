"""Video files that can be cut at any byte: each frame with its own time, in fragments that need no end.

With PyAV (the extra `record`) an .mp4 is fragmented and an .mkv has short clusters; H.264 where that PyAV
has an encoder, else MPEG-4. Without it OpenCV writes .avi as Motion JPEG, which needs no end either, at a
constant rate. OpenCV's own .mp4 and .mkv keep up to 256 KB in memory, seconds of a calm picture, and its .mp4
is nothing without its end.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import math
import os
import resource
import time
from abc import abstractmethod
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from runtime.base.files import name_for_libraries
from runtime.errors import OutputError
from runtime.frame import Image
from runtime.sources.container import RECORDED_HERE

FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".avi": "avi"}
SMALLEST_SIDE_PX = 16
_CV_CODECS = {".avi": "MJPG", ".mp4": "mp4v", ".mkv": "mp4v"}
_LARGEST_TIME_BASE = 65535
_MILLISECOND = Fraction(1, 1000)
_FRAGMENT_MS = 500
_SYNC_EVERY_NS = 1_000_000_000
_CV_RESERVE_BYTES = (
    8 << 20
)  # OpenCV tells of no failed write, so its files end while there is room for their end
_FILL_AT_MOST = 2.0  # seconds; a longer gap begins a new file


class Container(Protocol):
    """One video file that is being written.

    Attributes:
        longest_gap_ns: nanoseconds without a frame that it can hold; None for any.
    """

    longest_gap_ns: int | None

    @abstractmethod
    def write(self, image_bgr: Image, time_ns: int) -> None:
        """Append a frame.

        Args:
            image_bgr: uint8 (H, W, 3), always of the first one's size.
            time_ns: when it is shown, in nanoseconds since the first; later than the one before.

        Raises:
            OSError: it cannot be written, such as on a full disk; what was written before plays.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: as `write`.
        OutputError: not all frames were stored; those that were play.
        """


def has_pyav() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def survives_a_cut(suffix: str) -> bool:
    """Whether a file of this ending, as written here, plays up to its last second wherever it is cut."""
    return suffix.lower() == ".avi" or has_pyav()


def count_frames(path: Path) -> int:
    """Return the number of frames that a video states; 0 where it does not open."""
    with name_for_libraries(path) as name:
        capture = cv2.VideoCapture(name)
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
    finally:
        capture.release()


def open_container(path: Path, descriptor: int, size_wh: tuple[int, int], fps: float) -> Container:
    """Start a video file.

    Args:
        path: ends in one of `FORMATS`.
        descriptor: of the file, just made and empty; the container closes it.
        size_wh: width and height of its frames in pixels.
        fps: the usual frames a second; a file with times of its own takes it as a hint.

    Raises:
        OutputError: frames that are too small, or a library that cannot write this.
    """
    try:
        if min(size_wh) < SMALLEST_SIDE_PX:  # some such sizes end the process inside OpenCV's encoders
            raise OutputError(
                f"{path}: expected frames of at least {SMALLEST_SIDE_PX} pixels a side for a video, "
                f"got {size_wh}; record without a video or from a larger source"
            )
        if has_pyav() and path.suffix.lower() != ".avi":
            return PyAvContainer(path, descriptor, size_wh, fps)
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)  # OpenCV opens the file by its name
    return OpenCvContainer(path, size_wh, fps)


class PyAvContainer(Container):
    """A file written by PyAV, each frame at its own time; a gap in the frames is a gap in the video."""

    longest_gap_ns = None

    def __init__(self, path: Path, descriptor: int, size_wh: tuple[int, int], fps: float) -> None:
        """Write the file's head; see `open_container`."""
        av: Any = importlib.import_module("av")
        self._av = av
        self._raw = _RawFile(descriptor)
        kind = FORMATS[path.suffix.lower()]
        options = {"flush_packets": "1"} | {
            "mp4": {
                "movflags": "frag_keyframe+empty_moov+default_base_moof",
                "frag_duration": str(_FRAGMENT_MS * 1000),
            },
            "matroska": {"cluster_time_limit": str(_FRAGMENT_MS)},
        }.get(kind, {})
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        # One thread, since the other cores are the network's.
        tuning = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"} if codec == "libx264" else {}
        self._file = av.open(self._raw, "w", format=kind, options=options)
        self._file.metadata["comment"] = RECORDED_HERE
        self._stream = self._file.add_stream(
            codec, rate=Fraction(fps).limit_denominator(1000), options=tuning
        )
        self._even_wh = tuple(side + side % 2 for side in size_wh)  # half the colour resolution needs it
        self._stream.width, self._stream.height = self._even_wh
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = _MILLISECOND
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.gop_size = max(1, round(2 * fps))
        self._latest_ms = -1

    def write(self, image_bgr: Image, time_ns: int) -> None:
        """Append a frame; see `Container.write`."""
        width, height = self._even_wh
        down, right = height - image_bgr.shape[0], width - image_bgr.shape[1]
        if down or right:
            image_bgr = np.asarray(
                cv2.copyMakeBorder(image_bgr, 0, down, 0, right, cv2.BORDER_REPLICATE), np.uint8
            )
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image_bgr), format="bgr24")
        self._latest_ms = max(self._latest_ms + 1, round(time_ns / 1e6))
        frame.pts, frame.time_base = self._latest_ms, _MILLISECOND
        self._mux(frame)

    def close(self) -> None:
        """Finish the file; see `Container.close`."""
        try:
            if self._raw.failure is None:
                self._mux(None)
                self._guarded(self._file.close)
        finally:
            self._raw.close()

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._guarded(self._file.mux, packet)

    def _guarded(self, call: Any, *arguments: Any) -> None:
        """Call PyAV; raise the file's own error rather than what PyAV makes of it."""
        try:
            call(*arguments)
        except Exception as error:
            if self._raw.failure is not None:
                raise self._raw.failure from None
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error
        if self._raw.failure is not None:
            raise self._raw.failure


class _RawFile:
    """A descriptor that FFmpeg writes to; remembers the first failure and syncs once a second."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._sync_due_ns = time.monotonic_ns() + _SYNC_EVERY_NS
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        if self._descriptor is None or self.failure is not None:
            return len(data)  # the file's end after a failure: there is nowhere to put it
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
            if time.monotonic_ns() >= self._sync_due_ns:
                os.fdatasync(self._descriptor)  # a power cut loses no more than a kill does
                self._sync_due_ns = time.monotonic_ns() + _SYNC_EVERY_NS
        except OSError as error:
            self.failure = error
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if self._descriptor is None or self.failure is not None:
            return 0
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)

    def close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


class OpenCvContainer(Container):
    """A file written by OpenCV at a constant rate: frames are repeated or left out to follow their times."""

    longest_gap_ns = round(_FILL_AT_MOST * 1e9)

    def __init__(self, path: Path, size_wh: tuple[int, int], fps: float) -> None:
        """Open the writer; see `open_container`."""
        self._path = path
        # MPEG-4 states frames a second as a fraction; OpenCV's is whole / 10^n.
        fps = round(fps, math.floor(math.log10(_LARGEST_TIME_BASE) - math.log10(fps)))
        self._fps = fps
        self._written = 0
        fourcc = cv2.VideoWriter.fourcc(*_CV_CODECS[path.suffix.lower()])
        with name_for_libraries(path) as name:
            self._writer = cv2.VideoWriter(name, fourcc, fps, size_wh)
        if not self._writer.isOpened():
            raise OutputError(
                f"{path}: OpenCV cannot write a {path.suffix} video of {size_wh} pixels at {fps:g} fps; "
                "try another ending, or pip install edgeseg[record]"
            )

    def write(self, image_bgr: Image, time_ns: int) -> None:
        """Append a frame; see `Container.write`."""
        if self._written % 8 == 0:
            self._check_room()
        due = round(time_ns * self._fps / 1e9) + 1
        # One ahead is the jitter of a camera that runs at the video's pace.
        for _ in range(0 if self._written > due else max(1, due - self._written)):
            self._writer.write(image_bgr)
            self._written += 1

    def close(self) -> None:
        """Finish the file; see `Container.close`."""
        self._writer.release()
        stored = count_frames(self._path)
        if stored < self._written:
            raise OutputError(
                f"{self._path}: expected {self._written} frames in the video, only {stored} were stored; "
                "check the free disk space"
            )

    def _check_room(self) -> None:
        """Stop while there is room for the file's end, since OpenCV tells of no failed write."""
        state = os.statvfs(self._path.parent)
        if state.f_bavail * state.f_frsize < _CV_RESERVE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit != resource.RLIM_INFINITY and self._path.stat().st_size > limit - _CV_RESERVE_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
