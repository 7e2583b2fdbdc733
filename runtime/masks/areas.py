"""What a mask says in numbers: how much each class covers, and how far ahead the ground is free."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.contract import ClassMap
from runtime.errors import ConfigError, FrameError
from runtime.frame import Image

_PIXELS_A_RUN = 16  # of one label, on average, from which on counting runs is faster than counting pixels


def class_areas(mask: Image, classes: ClassMap) -> dict[str, int]:
    """Return the pixels of each class, also of those that are absent, in the contract's order.

    Args:
        mask: uint8 (H, W) class indices.
        classes: names of the indices; pixels of other indices, such as the ignore index, are not counted.

    Raises:
        FrameError: a mask that is not uint8 (H, W).

    >>> two = ClassMap(names=("road", "sky"), palette_rgb=((0, 0, 0), (0, 0, 255)))
    >>> class_areas(np.array([[1, 1, 1, 0]], np.uint8), two)
    {'road': 1, 'sky': 3}
    """
    return dict(zip(classes.names, label_areas(mask).tolist(), strict=False))


def label_areas(mask: Image) -> NDArray[np.int64]:
    """Return the pixels of each possible label, int64 (256,).

    Raises:
        FrameError: a mask that is not uint8 (H, W).
    """
    check_mask(mask)
    labels = np.ascontiguousarray(mask).reshape(-1)
    last = np.append(np.flatnonzero(labels[1:] != labels[:-1]), labels.size - 1)  # of each run
    if _PIXELS_A_RUN * len(last) > labels.size:
        # Counts in float32 are exact up to 16 million pixels a label. It takes a tenth of np.bincount's time.
        return cv2.calcHist([labels[None]], [0], None, [256], [0, 256]).reshape(-1).astype(np.int64)
    # Of long runs a histogram takes five times as long: each count waits for the one before.
    return np.bincount(labels[last], np.diff(last, prepend=-1), minlength=256).astype(np.int64)


def class_indices(classes: ClassMap, names: Iterable[str]) -> frozenset[int]:
    """Return the indices of classes by name.

    Raises:
        ConfigError: a name that is not among the classes.
    """
    names = list(names)
    unknown = [name for name in names if name not in classes.names]
    if unknown:
        raise ConfigError(
            f"classes: expected names among {', '.join(classes.names)}, got {', '.join(unknown)}"
        )
    return frozenset(classes.names.index(name) for name in names)


def check_mask(mask: NDArray[Any]) -> None:
    """Refuse what is not a class mask.

    Raises:
        FrameError: anything but a non-empty uint8 array of shape (H, W).
    """
    if mask.dtype != np.uint8 or mask.ndim != 2 or not mask.size:
        raise FrameError(
            f"expected a class mask, uint8 (H, W), got {mask.dtype} {mask.shape}; pass Segmentation.mask"
        )


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
