"""A line of JSON a frame, for programs that read along or afterwards."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import time
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np

from runtime.errors import ConfigError, OutputError
from runtime.loop import Step
from runtime.masks.areas import class_areas
from runtime.masks.confidence import CERTAIN, UNKNOWN
from runtime.masks.formats import encode_rle, mask_polygons
from runtime.outputs.disk import DiskOutput
from runtime.outputs.output import Stream, cannot_write
from runtime.outputs.segments import SegmentOptions

MaskFormat = Literal["none", "rle", "polygons"]


class JsonLines(DiskOutput):
    """Appends one line a step to a file that can be read while it grows.

    Each line is an object with
        frame_id, captured_ns: of the frame; captured_ns is on the machine's monotonic clock,
        captured_unix_s: the same moment on the wall clock, seconds since 1970,
        stamp_ns, coordinate_frame: of the picture's header, where it comes from a bag of ROS,
        age_ms: from the capture until this line,
        latency_ms: milliseconds a stage,
        setting: file, size and threads that made the mask, of a run with a target,
        dropped: frames so far that were captured and not used,
        size_hw: height and width of frame and mask,
        areas: pixels of each class,
        confidence, unknown: mean probability of the pixels' classes, and pixels that are 255, unknown; where
        the
            segmenter gives confidence,
        rle or polygons: class name → runs or outlines, see `runtime.masks.formats`.

    A line is written at once, unbuffered; after a power cut at most the last one is cut short. Where the
    disk is full the file ends with the last whole line. Lines are appended: to the named file, or, of a
    camera or stream, to segments like those of a video (see `runtime.outputs.segments`). A pipe or device is
    never cut into segments.
    """

    kind = "jsonl"

    def __init__(
        self,
        path: str | Path,
        *,
        masks: MaskFormat = "none",
        epsilon_px: float = 1.0,
        options: SegmentOptions = SegmentOptions(),  # noqa: B008  # frozen
    ) -> None:
        """Choose the file.

        Args:
            path: the file; missing folders are made. Of segments, the folder, stem and suffix of their names.
            masks: how each line holds its mask.
            epsilon_px: how far polygons may lie from the true outlines, in pixels.
            options: length and retention of segments.

        Raises:
            ConfigError: an unknown form of masks.
        """
        if masks not in get_args(MaskFormat):
            raise ConfigError(f"{path}: expected masks as {', '.join(get_args(MaskFormat))}, got {masks!r}")
        super().__init__(path, options)
        self._masks = masks
        self._epsilon_px = epsilon_px
        self._file: io.FileIO | None = None
        self._written = self.path
        self._first_ns = 0

    @property
    def can_pause(self) -> bool:
        """Whether it writes to the disk; the reader of a pipe would take a pause for the end."""
        return self.is_regular

    def open(self, stream: Stream) -> None:
        """Open the file, or get ready for the first segment; see `DiskOutput`."""
        super().open(stream)
        self._classes = stream.contract.classes
        if self._segments is not None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _appending(self.path)
        except OSError as error:
            raise self._cannot_write(error) from None

    def take(self, step: Step) -> None:
        """Append a line.

        Raises:
            OutputError: it cannot be written; the lines before it are whole.
        """
        line = json.dumps(self._record(step), separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            file = self._file_for(step.frame.captured_ns)
            if self.is_regular:
                self._written.stat()  # one that was removed takes lines all the same
            whole = os.fstat(file.fileno()).st_size
            try:
                left = memoryview(line)
                while left:
                    left = left[file.write(left) :]
            except OSError:
                if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe has no lines to take back
                    os.ftruncate(file.fileno(), whole)
                raise
        except OSError as error:
            raise self._cannot_write(error) from None

    def close(self) -> None:
        """Close the file."""
        try:
            self._finish()
        finally:
            super().close()

    def _finish(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            is_empty = os.fstat(file.fileno()).st_size == 0
            file.close()
            if self._segments is not None and is_empty:  # the disk was full
                self._written.unlink(missing_ok=True)
            elif self._segments is not None:
                self._segments.finished(self._written)

    def _file_for(self, time_ns: int) -> io.FileIO:
        """Return the file that a line of this time goes to."""
        if self._segments is None:
            assert self._file is not None
            return self._file
        if self._file is not None and not 0 <= time_ns - self._first_ns < self._segments.segment_s * 1e9:
            self._finish()
        if self._file is None:
            self._segments.apply_retention()
            self._written, descriptor = self._segments.create()
            self._file, self._first_ns = io.FileIO(descriptor, "ab"), time_ns
        return self._file

    def _cannot_write(self, error: OSError) -> OutputError:
        if error.errno == errno.ENXIO:
            return OutputError(
                f"{self.path}: expected a pipe that somebody reads, found no reader; start it first"
            )
        return cannot_write(self.path, error)

    def _record(self, step: Step) -> dict[str, Any]:
        """Return what the line says."""
        mask = step.segmentation.mask
        age_ns = time.monotonic_ns() - step.frame.captured_ns
        record = {
            "frame_id": step.frame.frame_id,
            "captured_ns": step.frame.captured_ns,
            "captured_unix_s": round(time.time() - age_ns / 1e9, 6),
            "age_ms": round(age_ns / 1e6, 3),
            "latency_ms": {stage: round(value, 3) for stage, value in step.latency_ms.items()},
            "dropped": step.dropped,
            "size_hw": list(mask.shape),
            "areas": class_areas(mask, self._classes),
        }
        if step.frame.stamp_ns is not None:
            record["stamp_ns"] = step.frame.stamp_ns
            record["coordinate_frame"] = step.frame.coordinate_frame
        if step.segmentation.confidence is not None:
            record["confidence"] = round(cv2.mean(step.segmentation.confidence)[0] / CERTAIN, 4)
            record["unknown"] = int(np.count_nonzero(mask == UNKNOWN))
        if step.segmentation.setting:
            record["setting"] = step.segmentation.setting
        if self._masks == "rle":
            record["rle"] = self._named(encode_rle(mask))
        elif self._masks == "polygons":
            record["polygons"] = self._named(mask_polygons(mask, self._epsilon_px))
        return record

    def _named(self, by_label: dict[int, Any]) -> dict[str, Any]:
        """Replace indices by names; those past the classes keep their number."""
        names = self._classes.names
        return {names[label] if label < len(names) else str(label): item for label, item in by_label.items()}


def _appending(path: Path) -> io.FileIO:
    """Open a file to append whole lines to it; a pipe without a reader is an error, not a wait."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    if path.exists() and not path.is_file():
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    file = io.FileIO(os.open(path, flags, 0o666), "ab")
    try:
        os.set_blocking(file.fileno(), True)
        size = os.fstat(file.fileno()).st_size
        if path.is_file() and size and os.pread(file.fileno(), 1, size - 1) != b"\n":
            file.write(b"\n")  # the line before was cut short
    except BaseException:
        file.close()
        raise
    return file
