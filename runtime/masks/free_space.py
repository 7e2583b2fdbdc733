"""How far a robot may go: free ground in front of it, read from a mask."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.masks.areas import check_mask

_MAX_SECTORS = 256


@dataclass(frozen=True)
class FreeSpace:
    """Free ground of one frame, in the picture's own geometry; metres would need the camera's calibration.

    Attributes:
        reach: float32 (sectors,), left to right: share of the picture's height that is free from its
            lower edge up, unbroken, in the worst column of the sector; 0 to 1.
        ahead: reach of the middle sector, or of the worse of the two middle ones.
        heading: the sector with the most free ground, -1 (left edge) to 1 (right edge); the one nearest
            to the middle where several have it; 0 where nothing is free.
    """

    reach: NDArray[np.float32]
    ahead: float
    heading: float


def free_space(mask: Image, ground: Collection[int], sectors: int = 9) -> FreeSpace:
    """Measure the free ground of a mask.

    Args:
        mask: uint8 (H, W) class indices.
        ground: classes that may be driven on.
        sectors: vertical strips that the picture is cut into, 1 to 256 and at most its width.

    Raises:
        FrameError: a mask that is not uint8 (H, W).
        ConfigError: a number of sectors that cannot be.

    >>> mask = np.ones((4, 6), np.uint8)  # 1 is road
    >>> mask[:3, :4] = 0  # a wall on the left, one row away
    >>> space = free_space(mask, ground={1}, sectors=3)
    >>> space.reach.tolist(), space.ahead, round(space.heading, 2)
    ([0.25, 0.25, 1.0], 0.25, 0.67)
    """
    check_mask(mask)
    height, width = mask.shape
    if not 1 <= sectors <= min(width, _MAX_SECTORS):
        raise ConfigError(
            f"free space: expected 1 to {min(width, _MAX_SECTORS)} sectors in {width} pixels, got {sectors}"
        )
    is_ground = np.zeros(256, bool)
    is_ground[list(ground)] = True
    blocked = ~is_ground[mask[::-1]]  # (H, W), lower edge first
    rows = np.where(blocked.any(axis=0), blocked.argmax(axis=0), height)  # (W,)
    starts = np.arange(sectors) * width // sectors
    reach = (np.minimum.reduceat(rows, starts) / height).astype(np.float32)
    centers = (2 * np.arange(sectors) + 1) / sectors - 1  # -1 .. 1
    best = max(range(sectors), key=lambda sector: (reach[sector], -abs(centers[sector])))
    middle = reach[(sectors - 1) // 2 : sectors // 2 + 1]
    return FreeSpace(reach, float(middle.min()), float(centers[best]) if reach[best] > 0 else 0.0)
