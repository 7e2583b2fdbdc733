"""The frames that are measured on, and one of them on the clock, as the camera does it.

`synthetic` is here a drive that is rendered with exact labels, at any size; frames are rendered or decoded
beforehand and cycled wherever that would otherwise be on the clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

from runtime.base.flags import flag
from runtime.errors import SourceError
from runtime.frame import Image
from runtime.masks.overlay import Overlay
from runtime.segmenter import Segmenter
from runtime.sources import PacedSource, Source, open_recorded, open_source
from runtime.sources.recorded import RecordedSource
from training.streets import Drive
from training.streets.scenes import FRAMES_PER_SECOND

SYNTHETIC = "synthetic"
FRAME_HW = (360, 480)
DISTINCT_FRAMES = 16  # cycled: rendering is slower than any network, and more would fill the caches
STAGES = ("resize", "network", "mask", "draw", "total")


def size_flag(help: str, name: str, default: tuple[int, int] | None) -> Any:
    """Return the flag of a field that holds a height and a width in pixels."""
    return flag(help, default=default, at_least=1, unit="pixels", name=name, metavar=("H", "W"))


class FrameTimer:
    """Times frames through a `Segmenter` and an `Overlay`."""

    def __init__(self, segment: Segmenter) -> None:
        """Take a segmenter, which stays the caller's."""
        self._segment = segment
        self._overlay = Overlay(segment.contract.classes)

    def __call__(self, image_bgr: Image) -> dict[str, float]:
        """Return the milliseconds of each of `STAGES` for uint8 (H, W, 3)."""
        started_ns = time.perf_counter_ns()
        result = self._segment(image_bgr)
        drawing_ns = time.perf_counter_ns()
        self._overlay.draw(image_bgr, result.mask, f"{result.latency_ms['network']:.1f} ms")
        ended_ns = time.perf_counter_ns()
        return {
            **result.latency_ms,
            "draw": (ended_ns - drawing_ns) / 1e6,
            "total": (ended_ns - started_ns) / 1e6,
        }


class Endless(RecordedSource):
    """Pictures without an end."""

    def __init__(self, images_bgr: Iterator[Image], fps: float | None) -> None:
        """Take the pictures, uint8 (H, W, 3) each."""
        super().__init__()
        self.fps = fps
        self._images_bgr = images_bgr

    def _image(self) -> Image | None:
        return next(self._images_bgr, None)


def rendered_drive(seed: int = 0, size_hw: tuple[int, int] = FRAME_HW) -> Endless:
    """Return a drive through the streets of `training.streets`, each frame rendered when it is read.

    Raises:
        ConfigError: a size that is too small for a street.
    """
    drive = Drive(seed, size_hw)
    return Endless((drive.frame(index).image_bgr for index in count()), FRAMES_PER_SECOND)


@lru_cache(maxsize=1)
def drive_frames(size_hw: tuple[int, int] = FRAME_HW) -> list[Image]:
    """Return `DISTINCT_FRAMES` frames of the drive, rendered beforehand; errors as `rendered_drive`."""
    with rendered_drive(size_hw=size_hw) as source:
        return [frame.image_bgr for frame in islice(source, DISTINCT_FRAMES)]


def open_recording(spec: str) -> Source:
    """Open what can be measured on again: a video, pictures, or the drive.

    Raises:
        SourceError: a camera or stream, or as `open_source`.
    """
    return rendered_drive() if spec == SYNTHETIC else open_recorded(spec)


def open_endless(spec: str, *, realtime: bool = False, size_hw: tuple[int, int] = FRAME_HW) -> Source:
    """Open a source that does not end: a recording starts anew whenever it is over.

    Args:
        spec: as of `runtime.sources.open_source`; of `synthetic` a few frames are rendered beforehand.
        realtime: play it at its own pace.
        size_hw: height and width in pixels of `synthetic`.

    Raises:
        SourceError: as `open_source`.
    """
    if spec == SYNTHETIC:
        recording = Endless(cycle(drive_frames(size_hw)), FRAMES_PER_SECOND)
    else:
        source = open_source(spec)
        if source.live:
            return source
        recording = Endless(_again_and_again(spec, source), source.fps)
    return PacedSource(recording) if realtime else recording


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


def read_frames(spec: str, most: int) -> list[Image]:
    """Return the first frames of a recording.

    Raises:
        SourceError: as `open_recording`, a recording without frames, or one whose frames differ in size.
    """
    with open_recording(spec) as source:
        images_bgr = [frame.image_bgr for frame in islice(source, most)]
    shapes = {image_bgr.shape for image_bgr in images_bgr}
    if len(shapes) != 1:
        raise SourceError(
            f"{spec}: expected frames of one size, got {sorted(shapes) or 'none'}; take another recording"
        )
    return images_bgr


def frame_batches(spec: str, size: int) -> Iterator[list[Image]]:
    """Yield batches of consecutive frames for ever; a recording that ends begins again.

    Raises:
        SourceError: as `open_recording` and its reading.
    """
    batch: list[Image] = []
    while True:
        with open_recording(spec) as source:
            for frame in source:
                batch.append(frame.image_bgr)
                if len(batch) == size:
                    yield batch
                    batch = []


def frames_name(spec: str) -> str:
    """Return what a report calls the frames: no folders of this machine."""
    return "synthetic drive" if spec == SYNTHETIC else Path(spec).name
