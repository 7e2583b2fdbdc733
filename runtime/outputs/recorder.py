"""A video recording in segments: what is on the disk plays, whatever ends the process."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from pathlib import Path

from runtime.errors import OutputError
from runtime.frame import Image, check_image
from runtime.outputs.containers import FORMATS, Container, open_container, survives_a_cut
from runtime.outputs.segments import Segments
from runtime.sinks import cannot_write

logger = logging.getLogger(__name__)


class VideoSegments:
    """Writes frames into one file after the other, each frame at its own time.

    A new file begins after `segment_s` seconds, where frames change their size, where their times go back,
    and after a gap that the container cannot hold. A file that failed, such as on a full disk, stays as far
    as it plays; the next frame tries a new one.

    Attributes:
        path: the file that is being written; None between files.
        frames: frames written so far, over all files.
        files: files begun so far.
    """

    def __init__(self, segments: Segments, fps: float) -> None:
        """Choose the files; the first is made with the first frame.

        Args:
            segments: names and retention; the pattern ends in one of `FORMATS`.
            fps: the usual frames a second.

        Raises:
            OutputError: another ending, or frames a second that are not positive.
        """
        suffix = segments.pattern.suffix
        if suffix.lower() not in FORMATS:
            raise OutputError(
                f"{segments.pattern}: expected a video name that ends in {', '.join(FORMATS)}, got "
                f"{suffix or 'no ending'!r}"
            )
        if not (math.isfinite(fps) and fps > 0):
            raise OutputError(f"{segments.pattern}: expected positive frames a second, got {fps}")
        if not survives_a_cut(suffix):
            logger.warning(
                "%s: OpenCV writes this; a kill loses the last seconds of it, of an .mp4 the whole file; "
                "pip install edgeseg[record], or record .avi",
                segments.pattern,
            )
        self.path: Path | None = None
        self.frames = self.files = 0
        self._segments = segments
        self._segment_ns = round(segments.options.segment_s * 1e9)
        self._fps = fps
        self._file: Container | None = None
        self._size_wh = (0, 0)
        self._first_ns = self._latest_ns = 0

    def write(self, image_bgr: Image, time_ns: int) -> None:
        """Append a frame.

        Args:
            image_bgr: uint8 (H, W, 3).
            time_ns: the frame's own time, in nanoseconds on any clock.

        Raises:
            OutputError: it cannot be stored; what was stored before plays.
        """
        image_bgr = check_image(image_bgr)
        size_wh = (image_bgr.shape[1], image_bgr.shape[0])
        try:
            if self._file is not None and self._is_over(size_wh, time_ns):
                self._finish()
            if self._file is None:
                self._begin(size_wh, time_ns)
            assert self._file is not None
            self._file.write(image_bgr, time_ns - self._first_ns)
        except OSError as error:
            self._abandon()
            raise cannot_write(self._segments.pattern, error) from None
        self._latest_ns = time_ns
        self.frames += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            OutputError: its end cannot be stored; what was stored before plays.
        """
        try:
            self._finish()
        except OSError as error:
            self._abandon()
            raise cannot_write(self._segments.pattern, error) from None

    def _is_over(self, size_wh: tuple[int, int], time_ns: int) -> bool:
        """Whether a frame belongs into a new file."""
        assert self._file is not None
        gap_ns, most_ns = time_ns - self._latest_ns, self._file.longest_gap_ns
        return (
            size_wh != self._size_wh
            or time_ns - self._first_ns >= self._segment_ns
            or gap_ns < 0
            or (most_ns is not None and gap_ns > most_ns)
        )

    def _begin(self, size_wh: tuple[int, int], time_ns: int) -> None:
        self._segments.apply_retention()
        path, descriptor = self._segments.create()
        try:
            self._file = open_container(path, descriptor, size_wh, self._fps)
        except BaseException:
            with suppress(OSError):
                path.unlink()  # nothing is in it
            raise
        self.path, self._size_wh, self._first_ns = path, size_wh, time_ns
        self.files += 1

    def _finish(self) -> None:
        if self._file is None or self.path is None:
            return
        file, self._file = self._file, None
        path, self.path = self.path, None
        try:
            file.close()
        finally:
            self._segments.finished(path)

    def _abandon(self) -> None:
        """Leave a file that failed as it is; its end can fail too."""
        with suppress(OSError):
            self._finish()
