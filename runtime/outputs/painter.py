"""Masks as colours, alone or over their picture, without text."""

from __future__ import annotations

import cv2
import numpy as np

from runtime.contract import ClassMap
from runtime.frame import Image


class Painter:
    """Turns class indices into class colours. Safe to use from several threads.

    >>> painter = Painter(ClassMap(names=("ground",), palette_rgb=((255, 0, 0),)))
    >>> painter.blend(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), 0.5).tolist()
    [[[0, 0, 128]]]
    """

    def __init__(self, classes: ClassMap) -> None:
        """Lay out the colours; indices past the classes are black."""
        self._palette_bgr = np.zeros((256, 1, 3), np.uint8)
        self._palette_bgr[: len(classes), 0] = [rgb[::-1] for rgb in classes.palette_rgb]

    def colors(self, mask: Image) -> Image:
        """Return the class colours, uint8 (H, W, 3) BGR, of a mask, uint8 (H, W)."""
        return np.asarray(cv2.applyColorMap(mask, self._palette_bgr), np.uint8)

    def blend(self, image_bgr: Image, mask: Image, alpha: float) -> Image:
        """Return the picture with a share `alpha`, 0 to 1, of the class colours in it.

        Args:
            image_bgr: uint8 (H, W, 3).
            mask: uint8 (H, W) class indices.
            alpha: 0 is the picture alone, 1 the colours alone.
        """
        blended = cv2.addWeighted(image_bgr, 1.0 - alpha, self.colors(mask), alpha, 0.0)
        return np.asarray(blended, np.uint8)

    def beside(self, image_bgr: Image, mask: Image) -> Image:
        """Return picture and colours next to each other, uint8 (H, 2 W, 3)."""
        return np.asarray(cv2.hconcat([image_bgr, self.colors(mask)]), np.uint8)
