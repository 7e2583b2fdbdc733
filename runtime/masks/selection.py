"""Which frames are most worth a person's time: uncertain ones, unlike each other and unlike what is known.

Of a frame only its layout counts here: how much of each class lies where in the picture. Frames are taken one
by one, each time the one whose distance to all that were taken before, times the rank of its uncertainty, is
largest. Without the rank that is k-center greedy (Sener and Savarese 2018, "Active Learning for Convolutional
Neural Networks: A Core-Set Approach"). numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.masks.areas import check_mask

CELLS = (3, 4)  # rows and columns of a layout
_SAMPLES = 16  # pixels across a cell that are looked at, at least, where there are so many


def layout(mask: Image, classes: int) -> NDArray[np.uint8]:
    """Return the share of each class in each of 3 x 4 cells of a mask, 255 being the whole cell.

    Every few pixels are looked at, so it costs microseconds.

    Args:
        mask: uint8 (H, W) class indices; others, such as void, count for no class.
        classes: how many there are, C.

    Returns:
        uint8 (12 * C,), cell after cell.

    Raises:
        FrameError: a mask that is not uint8 (H, W).

    >>> mask = np.zeros((30, 40), np.uint8)
    >>> mask[:, 20:] = 1  # the right half
    >>> layout(mask, 2).reshape(3, 4, 2)[0].tolist()
    [[255, 0], [255, 0], [0, 255], [0, 255]]
    """
    check_mask(mask)
    rows, columns = CELLS
    step = max(1, min(mask.shape[0] // (rows * _SAMPLES), mask.shape[1] // (columns * _SAMPLES)))
    seen = mask[step // 2 :: step, step // 2 :: step]  # (h, w)
    height, width = seen.shape
    row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
    cell = row[:, None] * columns + column  # (h, w)
    bins = (cell * 256 + seen).reshape(-1)
    counts = np.bincount(bins, minlength=rows * columns * 256).reshape(-1, 256)  # (12, 256)
    pixels = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares: NDArray[np.uint8] = np.rint(255 * counts[:, :classes] / pixels).astype(np.uint8)
    return shares.reshape(-1)


def select_frames(
    uncertainty: NDArray[Any], features: NDArray[Any], count: int, known: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Return the frames to look at, the most useful first.

    Args:
        uncertainty: (N,), any finite numbers; only their order counts, and all equal means that none does.
        features: (N, D), such as `layout`'s; two frames are as far apart as their sum of differences.
        count: how many at most. Fewer where all others are equal to one that was taken, or known.
        known: (K, D) features of frames that need no look, such as those of the training set.

    Returns:
        int64 (n,) indices. Of equals the earlier.

    Raises:
        ConfigError: a count below 1, or arrays that do not fit together.

    >>> features = np.array([[0, 0], [0, 1], [9, 9], [5, 5]])
    >>> select_frames(np.array([0.9, 0.8, 0.1, 0.2]), features, 3).tolist()
    [0, 3, 2]
    >>> select_frames(np.array([0.9, 0.8, 0.1, 0.2]), features, 3, known=features[:1]).tolist()
    [3, 2, 1]
    """
    if count < 1:
        raise ConfigError(f"select: expected at least 1 frame, got {count}")
    if features.ndim != 2 or uncertainty.shape != features.shape[:1]:
        raise ConfigError(
            f"select: expected (N,) uncertainties and (N, D) features, got {uncertainty.shape} and "
            f"{features.shape}"
        )
    if known is not None and (known.ndim != 2 or known.shape[1] != features.shape[1]):
        raise ConfigError(f"select: expected known features (K, {features.shape[1]}), got {known.shape}")
    points = features.astype(np.float32)
    _, rank = np.unique(uncertainty, return_inverse=True)
    weight = (rank.reshape(-1) + 1.0) / (rank.max(initial=0) + 1.0)  # (N,), up to 1
    nearest = np.full(len(points), np.inf)
    for point in () if known is None else known.astype(np.float32):
        np.minimum(nearest, np.abs(points - point).sum(axis=1), out=nearest)
    chosen: list[int] = []
    while len(chosen) < min(count, len(points)):
        score = weight if np.isinf(nearest).all() else nearest * weight
        best = int(np.argmax(score))
        if not score[best] > 0:
            break
        chosen.append(best)
        np.minimum(nearest, np.abs(points - points[best]).sum(axis=1), out=nearest)
    return np.array(chosen, np.int64)
