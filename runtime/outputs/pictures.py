"""Single pictures on the disk: every mask, or a picture every so many seconds."""

from __future__ import annotations

import math
from pathlib import Path

import cv2

from runtime.base.files import replacing
from runtime.contract import ClassMap
from runtime.errors import ConfigError
from runtime.loop import Step
from runtime.masks.palette_png import encode_palette_png
from runtime.outputs.output import Output
from runtime.outputs.painter import Painter
from runtime.sinks import cannot_write

_JPEG_QUALITY = 90


class MaskFolder(Output):
    """Writes every mask as a palette PNG, `mask_00000042.png` for frame 42; see `masks.palette_png`."""

    def __init__(self, folder: str | Path, classes: ClassMap) -> None:
        """Choose the folder, which is made where it is missing; files of the same names are replaced."""
        self._folder = Path(folder)
        self._classes = classes

    def __call__(self, step: Step) -> None:
        """Write one file.

        Raises:
            OutputError: it cannot be written; there is no half file.
        """
        path = self._folder / f"mask_{step.frame.frame_id:08d}.png"
        _write_whole(path, encode_palette_png(step.segmentation.mask, self._classes))

    def close(self) -> None:
        """Do nothing: no file stays open."""


class SnapshotFolder(Output):
    """Writes a JPEG with the class colours over it every so many seconds, `frame_00000042.jpg`.

    The time is the frames' capture time, so a slow disk does not shift the rhythm.
    """

    def __init__(
        self, folder: str | Path, classes: ClassMap, *, every_s: float = 1.0, alpha: float = 0.5
    ) -> None:
        """Choose the folder, which is made where it is missing.

        Args:
            folder: where to write.
            classes: the colours.
            every_s: seconds between two pictures.
            alpha: share of the class colour in a pixel, 0 to 1.

        Raises:
            ConfigError: seconds that are not positive.
        """
        if not (math.isfinite(every_s) and every_s > 0):
            raise ConfigError(f"snapshots: expected positive seconds between two pictures, got {every_s:g}")
        self._folder = Path(folder)
        self._every_ns = round(every_s * 1e9)
        self._alpha = alpha
        self._painter = Painter(classes)
        self._due_ns: int | None = None

    def __call__(self, step: Step) -> None:
        """Write a picture if one is due.

        Raises:
            OutputError: it cannot be written; there is no half file.
        """
        now_ns = step.frame.captured_ns
        if self._due_ns is None:
            self._due_ns = now_ns
        if now_ns < self._due_ns:
            return
        missed = (now_ns - self._due_ns) // self._every_ns
        self._due_ns += (missed + 1) * self._every_ns
        picture_bgr = self._painter.blend(step.frame.image_bgr, step.segmentation.mask, self._alpha)
        _, jpeg = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        _write_whole(self._folder / f"frame_{step.frame.frame_id:08d}.jpg", jpeg.tobytes())

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file that is whole or not there."""
    try:
        with replacing(path) as part:
            part.write_bytes(data)
    except OSError as error:
        raise cannot_write(path, error) from None
