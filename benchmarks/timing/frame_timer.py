"""One frame on the clock, from the picture to mask and overlay, as the camera does it."""

from __future__ import annotations

import time

from runtime import Segmenter
from runtime.frame import Image
from runtime.masks.overlay import Overlay

STAGES = ("resize", "network", "mask", "draw", "total")


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
