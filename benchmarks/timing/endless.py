"""A recording that never ends, for benchmarks that run at full rate for as long as they like."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, cycle

from runtime.frame import Image
from runtime.sources import PacedSource, Source, open_source
from runtime.sources.recorded import RecordedSource
from training.streets import Drive
from training.streets.scenes import FRAMES_PER_SECOND

DISTINCT_FRAMES = 16  # rendered beforehand and cycled: rendering is slower than any network, and fills caches


def open_endless(spec: str, *, realtime: bool = False, size_hw: tuple[int, int] = (360, 480)) -> Source:
    """Open a source that does not end: a recording starts anew whenever it is over.

    Args:
        spec: as of `runtime.sources.open_source`; of `synthetic` a few frames are rendered beforehand.
        realtime: play it at its own pace.
        size_hw: height and width in pixels of `synthetic`.

    Raises:
        SourceError: as `open_source`.
    """
    if spec == "synthetic":
        drive = Drive(0, size_hw)
        images_bgr = [drive.frame(index).image_bgr for index in range(DISTINCT_FRAMES)]
        recording = Endless(cycle(images_bgr), FRAMES_PER_SECOND)
    else:
        source = open_source(spec)
        if source.live:
            return source
        recording = Endless(_again_and_again(spec, source), source.fps)
    return PacedSource(recording) if realtime else recording


class Endless(RecordedSource):
    """Pictures without an end."""

    def __init__(self, images_bgr: Iterator[Image], fps: float | None) -> None:
        """Take the pictures, uint8 (H, W, 3) each."""
        super().__init__()
        self.fps = fps
        self._images_bgr = images_bgr

    def _image(self) -> Image | None:
        return next(self._images_bgr, None)


def rendered_drive(seed: int = 0, size_hw: tuple[int, int] = (360, 480)) -> Endless:
    """Return a drive through the streets of `training.streets`, each frame rendered when it is read.

    Raises:
        ConfigError: a size that is too small for a street.
    """
    drive = Drive(seed, size_hw)
    return Endless((drive.frame(index).image_bgr for index in count()), FRAMES_PER_SECOND)


def _again_and_again(spec: str, source: Source) -> Iterator[Image]:
    """Yield the pictures of a recording, opened anew after each end; ends where there are none."""
    found = True
    while found:
        found = False
        with source:
            for frame in source:
                found = True
                yield frame.image_bgr
        source = open_source(spec)
