"""A line of JSON a frame, for programs that read along or afterwards."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any, Literal, get_args

from runtime.errors import ConfigError
from runtime.loop import Step
from runtime.masks.areas import class_areas
from runtime.masks.formats import encode_rle, mask_polygons
from runtime.outputs.output import Output, Stream, cannot_write

MaskFormat = Literal["none", "rle", "polygons"]


class JsonLines(Output):
    """Appends one line a step to a file that can be read while it grows.

    Each line is an object with
        frame_id, captured_ns: of the frame; captured_ns is on the machine's monotonic clock,
        captured_unix_s: the same moment on the wall clock, seconds since 1970,
        age_ms: from the capture until this line,
        latency_ms: milliseconds a stage,
        dropped: frames so far that were captured and not used,
        size_hw: height and width of frame and mask,
        areas: pixels of each class,
        rle or polygons: class name → runs or outlines, see `runtime.masks.formats`.

    A line is written at once, unbuffered; after a power cut at most the last one is cut short. Where the
    disk is full the file ends with the last whole line.
    """

    def __init__(self, path: str | Path, *, masks: MaskFormat = "none", epsilon_px: float = 1.0) -> None:
        """Choose the file; one of that name is replaced.

        Args:
            path: the file; missing folders are made.
            masks: how each line holds its mask.
            epsilon_px: how far polygons may lie from the true outlines, in pixels.

        Raises:
            ConfigError: an unknown form of masks.
        """
        if masks not in get_args(MaskFormat):
            raise ConfigError(f"{path}: expected masks as {', '.join(get_args(MaskFormat))}, got {masks!r}")
        self._path = Path(path)
        self._masks = masks
        self._epsilon_px = epsilon_px
        self._file: io.FileIO | None = None

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

    def open(self, stream: Stream) -> None:
        """Make the file; see `Output`."""
        self._classes = stream.contract.classes
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = io.FileIO(self._path, "wb")
        except OSError as error:
            raise cannot_write(self._path, error) from None

    def take(self, step: Step) -> None:
        """Append a line.

        Raises:
            OutputError: it cannot be written; the lines before it are whole.
        """
        assert self._file is not None
        line = json.dumps(self._record(step), separators=(",", ":"), allow_nan=False).encode() + b"\n"
        whole = self._file.tell()
        try:
            left = memoryview(line)
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            if self._path.is_file():  # a pipe or device has no lines to take back
                os.ftruncate(self._file.fileno(), whole)
            raise cannot_write(self._path, error) from None

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

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
        if self._masks == "rle":
            record["rle"] = self._named(encode_rle(mask))
        elif self._masks == "polygons":
            record["polygons"] = self._named(mask_polygons(mask, self._epsilon_px))
        return record

    def _named(self, by_label: dict[int, Any]) -> dict[str, Any]:
        """Replace indices by names; those past the classes keep their number."""
        names = self._classes.names
        return {names[label] if label < len(names) else str(label): item for label, item in by_label.items()}
