"""What two layers of a network say of each frame, as bytes beside its soft labels.

A number y, of mean 0 and over all of a layer deviation 1 as `export.features` makes them, is stored as the
byte 128 + 32 y, from 1 to 255; 0 stands where nothing is said.
"""

from __future__ import annotations

import cv2
import numpy as np

from runtime.frame import Image
from runtime.network.resize import seen
from runtime.segmenter import Segmenter

ZERO, ONE = 128, 32  # bytes: what 0 is, and by how much more 1 is


def frame_features(segment: Segmenter, image_bgr: Image, size_hw: tuple[int, int]) -> Image:
    """Return a frame's features on a grid.

    Args:
        segment: an open file with features.
        image_bgr: uint8 (H, W, 3).
        size_hw: height and width of the grid that covers the frame.

    Returns:
        uint8 (F, h, w), those of all layers one after the other; 0 where the network saw nothing, since its
        contract says that frames are cropped.
    """
    frame_hw = (image_bgr.shape[0], image_bgr.shape[1])
    part = seen(frame_hw, segment.size_hw, segment.contract.input.fit)
    rows, inside_rows = _shares(frame_hw[0], size_hw[0], part.inside[0], part.window.top, part.window.bottom)
    columns, inside_columns = _shares(
        frame_hw[1], size_hw[1], part.inside[1], part.window.left, part.window.right
    )
    layers = []
    for features in segment.features(segment.fit(image_bgr)):  # (F, h, w)
        height, width = features.shape[1:]
        x = np.broadcast_to((columns * width - 0.5).astype(np.float32), size_hw)
        y = np.broadcast_to((rows * height - 0.5).astype(np.float32)[:, None], size_hw)
        for plane in features:
            layers.append(cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    said: Image = np.clip(np.rint(np.stack(layers) * ONE) + ZERO, 1, 255).astype(np.uint8)
    said[:, ~(inside_rows[:, None] & inside_columns)] = 0
    return said


def _shares(
    pixels: int, cells: int, inside: slice, start: float, end: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return, along one axis, where the cells' middles lie in the network's picture, and which it saw.

    Args:
        pixels: of the frame.
        cells: of the grid.
        inside: pixels of the frame that the network saw.
        start: where these begin in its picture, as a share of the picture.
        end: where they end.
    """
    middles = (np.arange(cells) + 0.5) * pixels / cells
    share = (middles - inside.start) / (inside.stop - inside.start)
    return start + share * (end - start), (share >= 0) & (share <= 1)
