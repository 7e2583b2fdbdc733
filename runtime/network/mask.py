"""From coarse logits to a mask at the frame's size, with arithmetic only where classes meet.

The result is that of bilinear upsampling (half-pixel centres, as `cv2.INTER_LINEAR` and torch's
`align_corners=False`) of every class, then argmax. What makes it fast without changing it: four neighbouring
logits are the corners of a cell of pixels, and interpolation never leaves the range of its corners. So a
class whose highest corner lies below another class's lowest corner cannot win inside the cell. In nine of
ten cells of a street one class is left, and its pixels are filled in. Only the others are interpolated, for
the two or three classes that are left there, all of these cells beside each other as one wide strip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import ContractError
from runtime.frame import Image

# Pixels interpolated at once. Fewer: the calls cost more than the pixels. More: they leave the cache.
_BLOCK_PIXELS = 120_000

_Indices = NDArray[np.intp]


@dataclass(frozen=True)
class _Axis:
    """How the pixels of one axis lie in its cells; the first and the last cell reach past the logits.

    Attributes:
        cell: of each pixel.
        share: of each pixel's right or lower corner in its value, 0 to 1.
        start: first pixel of each cell.
        pixels: of each cell; 0 where the frame is smaller than the logits.
        step: what `share` grows by from pixel to pixel.
    """

    cell: _Indices
    share: NDArray[np.float32]
    start: _Indices
    pixels: _Indices
    has_pixels: NDArray[np.bool_]
    step: float


def class_mask(logits: NDArray[np.float32], size_hw: tuple[int, int]) -> Image:
    """Return the class of every pixel.

    Args:
        logits: float32 (1, C, h, w), C at most 255.
        size_hw: height and width (H, W) of the mask in pixels.

    Returns:
        A new uint8 array (H, W); where classes tie the lowest wins.

    Raises:
        ContractError: logits that are not finite.

    >>> left_right = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]], np.float32)  # (1, 2, 1, 2)
    >>> class_mask(left_right, (1, 6))
    array([[0, 0, 0, 1, 1, 1]], dtype=uint8)
    """
    if not np.isfinite(logits).all():
        raise ContractError(
            "expected finite logits, the network gave NaN or infinity; train and export it again"
        )
    _, _, rows, columns = logits.shape
    height, width = size_hw
    down, across = _axis(rows, height), _axis(columns, width)
    planes = _with_border(logits[0])  # (C, h + 2, w + 2)
    can_win = _classes_that_can_win(planes)  # (C, cells)
    label, cell = _pairs(can_win)
    label_of_cell = np.empty(can_win.shape[1], np.uint8)
    label_of_cell[cell] = label
    grid = label_of_cell.reshape(rows + 1, columns + 1)
    mask = grid.take(across.cell, axis=1).take(down.cell, axis=0)  # (H, W)
    candidates = np.bincount(cell, minlength=can_win.shape[1])
    # Cells with many candidates first, so that those with a k-th candidate are always the first ones.
    contested = np.flatnonzero((candidates > 1) & down.has_pixels.repeat(columns + 1))
    contested = contested[np.argsort(-candidates[contested], kind="stable")]
    cells_a_block = max(1, _BLOCK_PIXELS // max(1, int(down.pixels.max() * across.pixels.max())))
    for first in range(0, len(contested), cells_a_block):
        block = contested[first : first + cells_a_block]
        _settle(mask, planes, block, candidates[block], can_win[:, block], down, across)
    return mask


def fit_mask(mask: Image, size_hw: tuple[int, int]) -> Image:
    """Return a finished mask, uint8 (h, w), at another size: each pixel takes its nearest one's class.

    Returns:
        uint8 (H, W); the same array if it already has that size.
    """
    height, width = size_hw
    if mask.shape == (height, width):
        return mask
    # INTER_NEAREST would take the upper left one of four equally near pixels, which shifts every edge.
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)  # type: ignore[return-value]


def _settle(
    mask: Image,
    planes: NDArray[np.float32],
    cells: _Indices,
    candidates: _Indices,
    can_win: NDArray[np.bool_],
    down: _Axis,
    across: _Axis,
) -> None:
    """Interpolate the classes that can win in some cells, and put the winners into the mask.

    Args:
        mask: uint8 (H, W), changed in place.
        planes: (C, h + 2, w + 2).
        cells: n of them, each with pixel rows.
        candidates: (n,) classes that can win in each, descending.
        can_win: (C, n) which classes these are.
        down: the rows.
        across: the columns.
    """
    stride = planes.shape[2]
    row, column = np.divmod(cells, stride - 1)
    corner = row * stride + column
    # The pixel columns of all cells beside each other: N of them.
    ends = np.cumsum(across.pixels[column])
    place = np.repeat(np.arange(len(cells)), across.pixels[column])  # (N,) place of each column's cell
    x = np.arange(len(place)) + (across.start[column] - ends + across.pixels[column])[place]
    share = across.share[x]
    top_share = down.share.take(down.start[row], mode="clip")
    top_pixel = (down.start[row] * mask.shape[1])[place] + x
    tallest = int(down.pixels[row].max())
    line = np.arange(tallest, dtype=np.float32)[:, None]  # (K, 1)

    _, label = np.nonzero(can_win.T)  # cell after cell, the lowest class first
    label_at = np.cumsum(candidates) - candidates
    values = planes.reshape(-1)
    highest = np.empty((tallest, len(place)), np.float32)
    winner = np.empty((tallest, len(place)), np.uint8)
    for k in range(int(candidates[0])):
        n = int(np.count_nonzero(candidates > k))
        columns = slice(int(ends[n - 1]))
        label_k = label[label_at[:n] + k]
        at = label_k * (planes.shape[1] * stride) + corner[:n]
        left, right = values[at], values[at + 1]
        left_fall, right_fall = values[at + stride] - left, values[at + stride + 1] - right
        right_fall -= left_fall
        edges = np.empty((n, 4), np.float32)
        np.multiply(left_fall, top_share[:n], out=edges[:, 0])
        edges[:, 0] += left
        np.multiply(right_fall, top_share[:n], out=edges[:, 1])
        edges[:, 1] += right - left
        np.multiply(left_fall, down.step, out=edges[:, 2])
        np.multiply(right_fall, down.step, out=edges[:, 3])
        # Value in the cell's first line, and by how much it grows a line, of each column.
        top, growth, fall, fall_growth = edges.take(place[columns], axis=0).T  # 4 of (N,)
        top = top + share[columns] * growth
        fall = fall + share[columns] * fall_growth
        names = label_k.astype(np.uint8)[place[columns]]
        if k == 0:
            np.multiply(line, fall, out=highest)
            highest += top
            winner[:] = names
            continue
        value = line * fall  # (K, N)
        value += top
        wins = (value > highest[:, columns]).view(np.uint8)
        cv2.copyTo(np.broadcast_to(names, value.shape).copy(), wins, winner[:, columns])
        np.maximum(value, highest[:, columns], out=highest[:, columns])

    pixels = mask.reshape(-1)
    last = ((down.pixels[row] - 1) * mask.shape[1])[place]
    for k in reversed(range(tallest)):  # so that a lower cell's lines too many are written over
        pixels[top_pixel + np.minimum(k * mask.shape[1], last)] = winner[k]


def _with_border(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (C, h + 2, w + 2): each plane with its outermost values once more around it."""
    classes, rows, columns = planes.shape
    wider = np.empty((classes, rows + 2, columns + 2), np.float32)
    wider[:, 1:-1, 1:-1] = planes
    wider[:, 0, 1:-1] = planes[:, 0]
    wider[:, -1, 1:-1] = planes[:, -1]
    wider[:, :, 0] = wider[:, :, 1]
    wider[:, :, -1] = wider[:, :, -2]
    return wider


def _classes_that_can_win(planes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return bool (C, cells): whether a class can win anywhere in a cell."""
    pair = np.minimum(planes[:, :-1], planes[:, 1:])
    low = np.minimum(pair[:, :, :-1], pair[:, :, 1:])
    np.maximum(planes[:, :-1], planes[:, 1:], out=pair)
    high = np.maximum(pair[:, :, :-1], pair[:, :, 1:])
    can_win: NDArray[np.bool_] = high >= low.max(axis=0)
    return can_win.reshape(len(planes), -1)


def _pairs(can_win: NDArray[np.bool_]) -> tuple[Image, _Indices]:
    """Return the classes and the cells where `can_win`, (C, cells), holds; the lowest class first."""
    classes, cells = can_win.shape
    found = np.flatnonzero(can_win)
    bounds = np.searchsorted(found, np.arange(classes + 1) * cells)
    label = np.repeat(np.arange(classes), np.diff(bounds))
    return label.astype(np.uint8), found - label * cells


@lru_cache(maxsize=16)
def _axis(samples: int, pixels: int) -> _Axis:
    """Lay `pixels` pixels over `samples` logits, of which the first and last are there twice."""
    center = (np.arange(pixels) + 0.5) * (samples / pixels) + 0.5
    cell = np.clip(center.astype(np.intp), 0, samples)
    start = np.searchsorted(cell, np.arange(samples + 1))
    counts = np.diff(start, append=pixels)
    return _Axis(
        cell=cell,
        share=(center - cell).astype(np.float32),
        start=start,
        pixels=counts,
        has_pixels=counts > 0,
        step=samples / pixels,
    )
