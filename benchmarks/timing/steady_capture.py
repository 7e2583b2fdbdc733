"""A camera that never misses a beat: pictures from memory, each at the moment it is due."""

from __future__ import annotations

import time
from collections.abc import Sequence

import cv2
import numpy as np

from runtime.frame import Image
from runtime.sources import Capture


class SteadyCapture(Capture):
    """Gives picture n at n / fps seconds after the first, for as long as it is asked.

    A caller who comes late gets the next picture at once and is not waited for: the schedule goes on, as
    light does on a sensor.
    """

    def __init__(self, images_bgr: Sequence[Image], fps: float) -> None:
        """Take pictures, uint8 (H, W, 3), which are cycled, and a rate in frames a second."""
        self._images_bgr = images_bgr
        self._period_ns = 1e9 / fps
        self._fps = fps
        self._count = 0
        self._started_ns = 0

    def due_ns(self, index: int) -> int:
        """Return the `time.monotonic_ns()` at which picture `index` is due; the first must have been."""
        return self._started_ns + round(index * self._period_ns)

    def isOpened(self) -> bool:
        """Tell that it is open."""
        return True

    def grab(self) -> bool:
        """Wait until the next picture is due."""
        if self._count == 0:
            self._started_ns = time.monotonic_ns()
        while (left_ns := self.due_ns(self._count) - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)
        self._count += 1
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Return the picture that was grabbed last."""
        return True, self._images_bgr[(self._count - 1) % len(self._images_bgr)]

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Grab and retrieve."""
        self.grab()
        return self.retrieve()

    def get(self, propId: int, /) -> float:
        """Return the frames a second, and 0 for everything else."""
        return self._fps if propId == cv2.CAP_PROP_FPS else 0.0

    def release(self) -> None:
        """Keep the pictures: the next rate shows them again."""
