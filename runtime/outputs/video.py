"""A video: the overlay, the mask's colours, picture and colours side by side, or what a function draws."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np

from runtime.base.closing import Closable
from runtime.base.files import replacing
from runtime.errors import ConfigError, OutputError
from runtime.frame import Image, check_image
from runtime.loop import Step
from runtime.outputs.containers import FORMATS, Container, count_frames, open_container, survives_a_cut
from runtime.outputs.disk import DiskOutput
from runtime.outputs.output import Stream, cannot_write
from runtime.outputs.segments import SegmentOptions, Segments

logger = logging.getLogger(__name__)

_BACK_NS = 1_000_000_000  # by which times go back only where a clock was set

View = Literal["overlay", "mask", "side-by-side"]


class Recording(DiskOutput):
    """Writes a picture of every step: of a camera into segments, of a recording into one file.

    See `VideoSegments` and `VideoWriter`.
    """

    kind = "save"

    def __init__(
        self,
        path: str | Path,
        view: View | Callable[[Step], Image] = "overlay",
        options: SegmentOptions = SegmentOptions(),  # noqa: B008  # frozen
    ) -> None:
        """Choose the file; it is opened with the first step.

        Args:
            path: ends in .mp4, .mkv or .avi; of segments, the folder, stem and suffix of their names.
            view: what the video shows, or a function that draws it, uint8 (H, W, 3).
            options: length and retention of segments.

        Raises:
            OutputError: a path of another ending, or the name of a folder.
            ConfigError: an unknown view.
        """
        if not callable(view) and view not in get_args(View):
            raise ConfigError(f"{path}: expected a view among {', '.join(get_args(View))}, got {view!r}")
        super().__init__(_checked(Path(path)), options)
        self._view = view
        self._video: VideoWriter | VideoSegments | None = None
        self._saved: tuple[Path, ...] = ()

    def facts(self) -> Mapping[str, int | str]:
        """Files that were begun and removed, and the bytes that are left on the disk."""
        video = self._video
        begun = len(self._saved) + (len(video.saved) if video is not None else 0)
        return {"files": begun, **super().facts()}

    @property
    def saved(self) -> tuple[Path, ...]:
        """The files that were written, oldest first."""
        return self._saved

    def open(self, stream: Stream) -> None:
        """Learn how fast the video plays; see `DiskOutput`."""
        super().open(stream)
        overlay, self._is_live = stream.overlay, stream.source.live
        drawn: dict[str, Callable[[Step], Image]] = {
            "overlay": lambda step: step.overlay_bgr,
            "mask": lambda step: overlay.colors(step.segmentation.mask),
            "side-by-side": lambda step: overlay.beside(step.frame.image_bgr, step.segmentation.mask),
        }
        self._draw = self._view if callable(self._view) else drawn[self._view]
        if self._segments is not None:
            self._video = VideoSegments(self._segments, stream.fps)
        else:
            self._video = VideoWriter(self.path, stream.fps)

    def take(self, step: Step) -> None:
        """Append a frame; see `VideoSegments.write`."""
        assert self._video is not None
        frame = step.frame
        time_ns = (
            frame.captured_ns if self._is_live else frame.stamp_ns if frame.pts_ns is None else frame.pts_ns
        )
        self._video.write(self._draw(step), time_ns)

    def close(self) -> None:
        """Finish the file."""
        video, self._video = self._video, None
        try:
            if video is not None:
                video.close()
        finally:
            if video is not None:
                self._saved += video.saved
            super().close()


class VideoWriter(Closable):
    """One video file, .mp4, .mkv or .avi.

    It is written under a temporary name beside its own and takes its name when it is closed: also after an
    error, since what was recorded is the user's. After a power cut or a kill it plays under its temporary
    name, `.out.<process>-<random>.part.mkv`, as far as `runtime.outputs.containers` promises.

    The first frame fixes the size; frames of another size (a camera that came back with other settings) are
    scaled to it.

    Attributes:
        saved: the file, once it has its name.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        """Choose the file; it is opened with the first frame.

        Args:
            path: ends in .mp4, .mkv or .avi; a file of that name is replaced at the end.
            fps: frames a second that the video plays at.

        Raises:
            OutputError: another ending, the name of a folder, or a frame rate that is not positive.
        """
        self._path = _checked(Path(path))
        self._fps = _checked_fps(self._path, fps)
        self.saved: tuple[Path, ...] = ()
        self._file: Container | None = None
        self._part = self._path
        self._renaming = ExitStack()
        self._size_wh = self._scaled_wh = (0, 0)
        self._written = 0
        self._latest_ns = self._offset_ns = 0  # of the latest frame since the first; of that on its own clock
        self._failed = False

    def write(self, image_bgr: Image, time_ns: int | None = None) -> None:
        """Append a frame.

        Args:
            image_bgr: uint8 (H, W, 3).
            time_ns: the frame's own time, in nanoseconds on any clock; None for the next one at the video's
                pace. A clock that goes back goes on from where it was.

        Raises:
            OutputError: too small a frame, or a file that cannot be written; what was written plays.
        """
        file = self._file or self._open(check_image(image_bgr))
        size_wh = (image_bgr.shape[1], image_bgr.shape[0])
        if size_wh != self._size_wh:
            if size_wh != self._scaled_wh:
                self._scaled_wh = size_wh
                logger.warning("%s: frames of %s are scaled to %s", self._path, size_wh, self._size_wh)
            image_bgr = np.asarray(cv2.resize(image_bgr, self._size_wh), np.uint8)
        try:
            self._part.stat()  # one that was removed takes frames all the same
            self._latest_ns = self._since_first_ns(file, time_ns)
            file.write(image_bgr, self._latest_ns)
        except OSError as error:
            self._failed = True
            raise cannot_write(self._path, error) from None
        self._written += 1

    def close(self) -> None:
        """Finish the file, check that it plays and give it its name; without a frame there is no file.

        Raises:
            OutputError: the file does not hold all frames that were written; what plays is kept.
        """
        if self._file is None:
            return
        file, self._file = self._file, None
        failure: Exception | None = None
        try:
            with self._renaming:
                try:
                    file.close()
                except (OSError, OutputError) as error:
                    failure = None if self._failed else error  # it is known already
                if count_frames(self._part) == 0:
                    raise OutputError(f"{self._path}: the video cannot be played; check the free disk space")
        except OutputError:
            if self._written == 0:
                return  # interrupted before the first frame was in
            raise
        except OSError as error:
            raise cannot_write(self._path, error) from None
        self.saved = (self._path,)
        if isinstance(failure, OSError):
            raise cannot_write(self._path, failure) from None
        if failure is not None:
            raise failure

    def _since_first_ns(self, file: Container, time_ns: int | None) -> int:
        """Return when a frame is shown; a gap that the container cannot hold is closed."""
        if time_ns is None:
            return round(self._written * 1e9 / self._fps)
        if self._written == 0:
            self._offset_ns = time_ns
        gap_ns, most_ns = time_ns - self._offset_ns - self._latest_ns, file.longest_gap_ns
        if self._written and (gap_ns < -_BACK_NS or (most_ns is not None and gap_ns > most_ns)):
            self._offset_ns = time_ns - self._latest_ns - round(1e9 / self._fps)
        return time_ns - self._offset_ns

    def _open(self, image_bgr: Image) -> Container:
        """Start the file with the first frame's size."""
        self._size_wh = (image_bgr.shape[1], image_bgr.shape[0])
        _warn_of_cuts(self._path)
        try:
            with ExitStack() as files:
                self._part = files.enter_context(replacing(self._path.absolute()))
                descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                self._file = open_container(self._part, descriptor, self._size_wh, self._fps)
                self._renaming = files.pop_all()
        except OSError as error:
            raise cannot_write(self._path, error) from None
        return self._file


class VideoSegments(Closable):
    """Writes frames into one file after the other, each frame at its own time.

    A new file begins after `segment_s` seconds, where frames change their size, where their times go back,
    and after a gap that the container cannot hold. A file that failed, such as on a full disk, stays as far
    as it plays; the next frame tries a new one.

    Attributes:
        path: the file that is being written; None between files.
        frames: frames written so far, over all files.
        saved: the files so far, oldest first; retention may have removed some.
    """

    def __init__(self, segments: Segments, fps: float) -> None:
        """Choose the files; the first is made with the first frame.

        Args:
            segments: names and retention; the pattern ends in .mp4, .mkv or .avi.
            fps: the usual frames a second.

        Raises:
            OutputError: another ending, or frames a second that are not positive.
        """
        self._fps = _checked_fps(_checked(segments.pattern), fps)
        _warn_of_cuts(segments.pattern)
        self.path: Path | None = None
        self.frames = 0
        self.saved: tuple[Path, ...] = ()
        self._segments = segments
        self._segment_ns = round(segments.segment_s * 1e9)
        self._file: Container | None = None
        self._size_wh = (0, 0)
        self._first_ns = self._latest_ns = 0
        self._is_empty = True

    def write(self, image_bgr: Image, time_ns: int | None = None) -> None:
        """Append a frame.

        Args:
            image_bgr: uint8 (H, W, 3).
            time_ns: the frame's own time, in nanoseconds on any clock; None for the next one at the usual
                pace.

        Raises:
            OutputError: it cannot be stored; what was stored before plays.
        """
        image_bgr = check_image(image_bgr)
        size_wh = (image_bgr.shape[1], image_bgr.shape[0])
        time_ns = round(self.frames * 1e9 / self._fps) if time_ns is None else time_ns
        try:
            if self._file is not None and self._is_over(size_wh, time_ns):
                self._finish()
            file = self._file or self._begin(size_wh, time_ns)
            if self.path is not None:
                self.path.stat()  # one that was removed takes frames all the same
            file.write(image_bgr, time_ns - self._first_ns)
        except OSError as error:
            self._abandon()
            raise cannot_write(self._segments.pattern, error) from None
        except OutputError:
            self._abandon()
            raise
        self._latest_ns, self._is_empty = time_ns, False
        self.frames += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            OutputError: its end cannot be stored; what was stored before plays.
        """
        try:
            self._finish()
        except OSError as error:
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

    def _begin(self, size_wh: tuple[int, int], time_ns: int) -> Container:
        self._segments.apply_retention()
        path, descriptor = self._segments.create()
        try:
            self._file = open_container(path, descriptor, size_wh, self._fps)
        except BaseException:
            with suppress(OSError):
                path.unlink()  # nothing is in it
            raise
        self.path, self._size_wh, self._first_ns, self._is_empty = path, size_wh, time_ns, True
        self.saved += (path,)
        return self._file

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
        """Leave a file that failed as it is, unless its first frame did; its end can fail too."""
        path = self.path
        with suppress(OSError, OutputError):
            self._finish()
        if path is not None and self._is_empty:
            self.saved = tuple(each for each in self.saved if each != path)
            with suppress(OSError):
                path.unlink()


def _checked(path: Path) -> Path:
    """Return a path that can become a video."""
    if path.suffix.lower() not in FORMATS:
        raise OutputError(
            f"{path}: expected a video name that ends in {', '.join(FORMATS)}, got "
            f"{path.suffix or 'no ending'!r}"
        )
    if path.is_dir():
        raise OutputError(f"{path}: expected the name of a video, got a folder; choose another name")
    return path


def _checked_fps(path: Path, fps: float) -> float:
    if not (math.isfinite(fps) and fps > 0):
        raise OutputError(f"{path}: expected a positive frame rate, got {fps}")
    return fps


def _warn_of_cuts(path: Path) -> None:
    """Say what a kill would cost, where the installed libraries can do no better."""
    if not survives_a_cut(path.suffix):
        logger.warning(
            "%s: without PyAV a kill loses the last seconds of a recording, of an .mp4 the whole file; "
            "pip install edgeseg[record], or record .avi",
            path,
        )
