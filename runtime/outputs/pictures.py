"""Single pictures on the disk: every mask, or the overlay every so many seconds."""

from __future__ import annotations

import math
from pathlib import Path

import cv2

from runtime.base.files import replacing
from runtime.errors import ConfigError
from runtime.loop import Step
from runtime.masks.formats import encode_palette_png
from runtime.outputs.disk import DiskOutput
from runtime.outputs.output import Stream, cannot_write

_JPEG_QUALITY = 90


class _Folder(DiskOutput):
    """Writes whole files into a folder, which is made where it is missing; same names are replaced."""

    can_pause = True  # no file stays open
    files: str  # how their names begin

    def __init__(self, folder: str | Path) -> None:
        """Choose the folder."""
        super().__init__(folder, locked=Path(folder, self.files))

    def _write(self, step: Step, suffix: str, data: bytes) -> None:
        """Write a frame's file, which is whole or not there.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.path / f"{self.files}_{step.frame.frame_id:08d}{suffix}"
        try:
            with replacing(path) as part:
                part.write_bytes(data)
        except OSError as error:
            raise cannot_write(path, error) from None


class MaskFolder(_Folder):
    """Writes every mask as a palette PNG, `mask_00000042.png` for frame 42; see `masks.formats`."""

    kind, files = "save-masks", "mask"

    def open(self, stream: Stream) -> None:
        """Learn the colours; see `DiskOutput`."""
        super().open(stream)
        self._classes = stream.contract.classes

    def take(self, step: Step) -> None:
        """Write one file; see `Output`."""
        self._write(step, ".png", encode_palette_png(step.segmentation.mask, self._classes))


class SnapshotFolder(_Folder):
    """Writes the overlay as a JPEG every so many seconds, `frame_00000042.jpg` for frame 42.

    The time is the frames' capture time, so a slow disk does not shift the rhythm.
    """

    kind, files = "snapshots", "frame"

    def __init__(self, folder: str | Path, *, every_s: float = 1.0) -> None:
        """Choose folder and rhythm.

        Args:
            folder: where to write.
            every_s: seconds between two pictures.

        Raises:
            ConfigError: seconds that are not positive.
        """
        super().__init__(folder)
        if not (math.isfinite(every_s) and every_s > 0):
            raise ConfigError(f"snapshots: expected positive seconds between two pictures, got {every_s:g}")
        self._every_ns = round(every_s * 1e9)
        self._due_ns: int | None = None

    def take(self, step: Step) -> None:
        """Write a picture if one is due; see `Output`."""
        now_ns = step.frame.captured_ns
        if self._due_ns is None:
            self._due_ns = now_ns
        if now_ns < self._due_ns:
            return
        missed = (now_ns - self._due_ns) // self._every_ns
        self._due_ns += (missed + 1) * self._every_ns
        _, jpeg = cv2.imencode(".jpg", step.overlay_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        self._write(step, ".jpg", jpeg.tobytes())
