"""Single pictures on the disk: every mask, or the overlay every so many seconds."""

from __future__ import annotations

import math
from pathlib import Path

import cv2

from runtime.base.files import replacing
from runtime.errors import ConfigError
from runtime.loop import Step
from runtime.masks.formats import encode_palette_png
from runtime.outputs.output import Output, Stream, cannot_write

_JPEG_QUALITY = 90


class _Folder(Output):
    """Writes whole files into a folder, which is made where it is missing; same names are replaced."""

    def __init__(self, folder: str | Path) -> None:
        """Choose the folder."""
        self._folder = Path(folder)

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._folder)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _write(self, name: str, data: bytes) -> None:
        """Write a file that is whole or not there.

        Raises:
            OutputError: it cannot be written.
        """
        path = self._folder / name
        try:
            with replacing(path) as part:
                part.write_bytes(data)
        except OSError as error:
            raise cannot_write(path, error) from None


class MaskFolder(_Folder):
    """Writes every mask as a palette PNG, `mask_00000042.png` for frame 42; see `masks.formats`."""

    kind = "save-masks"

    def open(self, stream: Stream) -> None:
        """Learn the colours; see `Output`."""
        self._classes = stream.contract.classes

    def take(self, step: Step) -> None:
        """Write one file; see `Output`."""
        png = encode_palette_png(step.segmentation.mask, self._classes)
        self._write(f"mask_{step.frame.frame_id:08d}.png", png)


class SnapshotFolder(_Folder):
    """Writes the overlay as a JPEG every so many seconds, `frame_00000042.jpg` for frame 42.

    The time is the frames' capture time, so a slow disk does not shift the rhythm.
    """

    kind = "snapshots"

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
        self._write(f"frame_{step.frame.frame_id:08d}.jpg", jpeg.tobytes())
