"""From coarse logits to a mask at the frame's size, with arithmetic only where classes meet.

The result is that of bilinear upsampling (half-pixel centres, as `cv2.INTER_LINEAR` and torch's
`align_corners=False`) of every class, then argmax. What makes it fast without changing it: four neighbouring
logits are the corners of a cell of pixels, and interpolation never leaves the range of its corners. Where
one class is the highest at all four, it is so in the whole cell, and its pixels are filled in: nine of ten
cells of a street. In the others a class whose highest corner lies below another class's lowest corner
cannot win; the two or three classes that are left there are interpolated, all of these cells beside each
other as one wide strip. Logits that have the frame's size already need no arithmetic at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import ContractError
from runtime.frame import Image

# Pixels interpolated at once. Fewer: the calls cost more than the pixels. More: they leave the cache.
_BLOCK_PIXELS = 120_000
_BLOCK_LOGITS = 1 << 15  # of each class compared at once

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


@dataclass(frozen=True)
class Window:
    """The part of the network's picture that a mask covers, in shares of its height and its width."""

    top: float = 0.0
    bottom: float = 1.0
    left: float = 0.0
    right: float = 1.0


WHOLE = Window()


def class_mask(logits: NDArray[np.float32], size_hw: tuple[int, int], window: Window = WHOLE) -> Image:
    """Return the class of every pixel.

    Args:
        logits: float32 (1, C, h, w), C at most 255.
        size_hw: height and width (H, W) of the mask in pixels.
        window: the part of the logits that the mask covers.

    Returns:
        A new uint8 array (H, W); where classes tie the lowest wins.

    Raises:
        ContractError: logits that are not finite.

    >>> left_right = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]], np.float32)  # (1, 2, 1, 2)
    >>> class_mask(left_right, (1, 6))
    array([[0, 0, 0, 1, 1, 1]], dtype=uint8)
    """
    _check_finite(logits)
    planes = logits[0]  # (C, h, w)
    _, rows, columns = planes.shape
    height, width = size_hw
    label = _winners(planes)  # (h, w)
    if window == WHOLE and size_hw == (rows, columns):
        return label
    down, across = (
        _axis(rows, height, window.top, window.bottom),
        _axis(columns, width, window.left, window.right),
    )
    wider = np.pad(label, 1, mode="edge")  # (h + 2, w + 2)
    grid = wider[:-1, :-1]  # (h + 1, w + 1): of each cell the class of its first corner
    agrees = (grid == wider[:-1, 1:]) & (grid == wider[1:, :-1]) & (grid == wider[1:, 1:])
    mask = grid.take(across.cell, axis=1).take(down.cell, axis=0)  # (H, W)
    agrees |= ~(down.has_pixels[:, None] & across.has_pixels)
    contested = np.flatnonzero(~agrees)
    if not len(contested):
        return mask
    corners = _corners(planes, contested)  # 4 of (C, n)
    can_win = np.maximum.reduce(corners) >= np.minimum.reduce(corners).max(axis=0)  # (C, n)
    candidates = np.count_nonzero(can_win, axis=0)
    # Cells with many candidates first, so that those with a k-th candidate are always the first ones.
    order = np.argsort(-candidates, kind="stable")
    cells_a_block = max(1, _BLOCK_PIXELS // max(1, int(down.pixels.max() * across.pixels.max())))
    for first in range(0, len(order), cells_a_block):
        block = order[first : first + cells_a_block]
        at = [corner[:, block] for corner in corners]
        _settle(mask, at, contested[block], candidates[block], can_win[:, block], down, across)
    return mask


def fit_mask(mask: Image, size_hw: tuple[int, int], window: Window = WHOLE) -> Image:
    """Return a finished mask, uint8 (h, w), at another size: each pixel takes its nearest one's class.

    Args:
        mask: uint8 (h, w).
        size_hw: height and width (H, W) of the result in pixels.
        window: the part of the mask that the result covers.

    Returns:
        uint8 (H, W); the same array if it already has that size.
    """
    height, width = size_hw
    if window != WHOLE:
        rows, columns = mask.shape
        down, across = (
            _axis(rows, height, window.top, window.bottom),
            _axis(columns, width, window.left, window.right),
        )
        nearest = [
            np.clip(axis.cell - 1 + (axis.share >= 0.5), 0, side - 1)
            for axis, side in ((down, rows), (across, columns))
        ]
        return mask.take(nearest[1], axis=1).take(nearest[0], axis=0)
    if mask.shape == (height, width):
        return mask
    # INTER_NEAREST would take the upper left one of four equally near pixels, which shifts every edge.
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)  # type: ignore[return-value]


def sample(plane: NDArray[Any], size_hw: tuple[int, int], window: Window = WHOLE) -> NDArray[Any]:
    """Return the part of a plane that a window covers, bilinearly at another size.

    Args:
        plane: uint8 or float32 (h, w).
        size_hw: height and width (H, W) of the result.
        window: the part; pixels beyond the plane's border repeat it.

    Returns:
        (H, W) of the same type.
    """
    height, width = size_hw
    if window == WHOLE:
        return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR))
    rows, columns = plane.shape
    across = (window.right - window.left) * columns / width
    down = (window.bottom - window.top) * rows / height
    from_result = np.array(
        [
            [across, 0.0, window.left * columns + across / 2 - 0.5],
            [0.0, down, window.top * rows + down / 2 - 0.5],
        ]
    )
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(plane, from_result, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
    )


def _settle(
    mask: Image,
    corners: Sequence[NDArray[np.float32]],
    cells: _Indices,
    candidates: _Indices,
    can_win: NDArray[np.bool_],
    down: _Axis,
    across: _Axis,
) -> None:
    """Interpolate the classes that can win in some cells, and put the winners into the mask.

    Args:
        mask: uint8 (H, W), changed in place.
        corners: 4 of (C, n): the upper left, upper right, lower left and lower right logits of each cell.
        cells: n of them, each with pixels.
        candidates: (n,) classes that can win in each, descending.
        can_win: (C, n) which classes these are.
        down: the rows.
        across: the columns.
    """
    row, column = np.divmod(cells, len(across.pixels))
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
    place_of_cell = np.arange(len(cells))
    highest = np.empty((tallest, len(place)), np.float32)
    winner = np.empty((tallest, len(place)), np.uint8)
    for k in range(int(candidates[0])):
        n = int(np.count_nonzero(candidates > k))
        columns = slice(int(ends[n - 1]))
        label_k = label[label_at[:n] + k]
        left, right, lower_left, lower_right = (of[label_k, place_of_cell[:n]] for of in corners)
        left_fall, right_fall = lower_left - left, lower_right - right
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


def _check_finite(logits: NDArray[np.float32]) -> None:
    """Refuse NaN and infinity, which a finite sum cannot hold."""
    with np.errstate(all="ignore"):
        total = logits.sum()
    if not np.isfinite(total) and not np.isfinite(logits).all():
        raise ContractError(
            "expected finite logits, the network gave NaN or infinity; train and export it again"
        )


def _winners(planes: NDArray[np.float32]) -> Image:
    """Return uint8 (h, w): the class with the highest logit, the lowest class where some tie.

    `argmax` over the first axis would walk through memory a plane at a time; blocks stay in the cache.
    """
    classes, rows, columns = planes.shape
    values = planes.reshape(classes, -1)
    label = np.zeros(rows * columns, np.uint8)
    for first in range(0, rows * columns, _BLOCK_LOGITS):
        block = values[:, first : first + _BLOCK_LOGITS]
        winner = label[first : first + _BLOCK_LOGITS]
        highest = block[0].copy()
        for k in range(1, classes):
            wins = (block[k] > highest).view(np.uint8)
            np.multiply(wins, np.uint8(k), out=wins)
            np.maximum(winner, wins, out=winner)  # the classes rise, so the last one to win is the highest
            np.maximum(highest, block[k], out=highest)
    return label.reshape(rows, columns)


def _corners(planes: NDArray[np.float32], cells: _Indices) -> list[NDArray[np.float32]]:
    """Return the logits (C, n) at some cells' corners: upper left, upper right, lower left and right."""
    classes, rows, columns = planes.shape
    values = planes.reshape(classes, -1)
    row, column = np.divmod(cells, columns + 1)
    tops, lefts = np.maximum(row - 1, 0) * columns, np.maximum(column - 1, 0)
    bottoms, rights = np.minimum(row, rows - 1) * columns, np.minimum(column, columns - 1)
    return [values[:, y + x] for y in (tops, bottoms) for x in (lefts, rights)]


@lru_cache(maxsize=16)
def _axis(samples: int, pixels: int, start: float = 0.0, end: float = 1.0) -> _Axis:
    """Lay `pixels` pixels over `samples` logits, of which the first and last are there twice."""
    step = (end - start) * samples / pixels
    center = (np.arange(pixels) + 0.5) * step + (start * samples + 0.5)
    cell = np.clip(center.astype(np.intp), 0, samples)
    first = np.searchsorted(cell, np.arange(samples + 1))
    counts = np.diff(first, append=pixels)
    return _Axis(
        cell=cell,
        share=(center - cell).astype(np.float32),
        start=first,
        pixels=counts,
        has_pixels=counts > 0,
        step=step,
    )
