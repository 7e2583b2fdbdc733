"""Masks as runs of equal pixels: COCO's uncompressed run-length encoding, one list of runs a class.

The pixels are read column by column, top to bottom, as COCO's tools do. `counts` gives the lengths of
runs that alternate between "not this class" and "this class" and begins with the former, so it begins
with 0 where the first pixel has the class. Format: COCO API, `pycocotools.mask`, uncompressed RLE.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from runtime.errors import FrameError
from runtime.frame import Image
from runtime.masks.areas import check_mask


def encode_rle(mask: Image) -> dict[int, list[int]]:
    """Return the runs of every class that is present.

    Args:
        mask: uint8 (H, W) class indices.

    Returns:
        Class index → counts, which sum to H * W; sorted by class.

    Raises:
        FrameError: a mask that is not uint8 (H, W).

    >>> encode_rle(np.array([[7, 7, 0], [7, 0, 0]], np.uint8))
    {0: [3, 3], 7: [0, 3, 3]}
    """
    check_mask(mask)
    pixels = np.ascontiguousarray(mask.T).reshape(-1)  # (W * H,), column after column
    starts = np.concatenate(([0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1))
    ends = np.append(starts[1:], pixels.size)
    labels = pixels[starts]
    runs: dict[int, list[int]] = {}
    for label in np.unique(labels).tolist():
        of_label = labels == label
        # Start and end of each of the class's runs in turn; their distances are the counts.
        borders = np.stack((starts[of_label], ends[of_label]), axis=1).reshape(-1)
        counts = np.diff(borders, prepend=0).tolist()
        rest = pixels.size - int(borders[-1])
        runs[label] = [*counts, rest] if rest else counts
    return runs


def decode_rle(runs: Mapping[int, list[int]], size_hw: tuple[int, int], fill: int = 255) -> Image:
    """Return the mask that `encode_rle` was given.

    Args:
        runs: class index → counts.
        size_hw: height and width of the mask in pixels.
        fill: value of pixels that no class claims.

    Returns:
        uint8 (H, W).

    Raises:
        FrameError: counts that are negative or do not sum to H * W, or a class outside 0 to 255.

    >>> decode_rle({0: [3, 3], 7: [0, 3, 3]}, (2, 3))
    array([[7, 7, 0],
           [7, 0, 0]], dtype=uint8)
    """
    height, width = size_hw
    pixels = np.full(height * width, fill, np.uint8)
    for label, counts in runs.items():
        lengths = np.asarray(counts, np.int64)
        if not 0 <= label <= 255 or (lengths < 0).any() or lengths.sum() != pixels.size:
            raise FrameError(
                f"RLE of class {label}: expected a class from 0 to 255 and counts that sum to {height} * "
                f"{width} = {pixels.size}, got counts that sum to {lengths.sum()}; check size_hw"
            )
        has_class = np.arange(lengths.size) % 2 == 1
        pixels[np.repeat(has_class, lengths)] = label
    return np.ascontiguousarray(pixels.reshape(width, height).T)
