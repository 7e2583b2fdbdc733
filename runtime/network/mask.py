"""From coarse logits to a mask at the frame's size, with arithmetic only where classes meet.

The result is that of bilinear upsampling (half-pixel centres, as `cv2.INTER_LINEAR` and torch's
`align_corners=False`) of every class, then argmax. What makes it fast without changing it: four neighbouring
logits are the corners of a cell of pixels, and interpolation never leaves the range of its corners. Where
one class is the highest at all four, it is so in the whole cell, and its pixels are filled in: nine of ten
cells of a street. In most of the others two classes meet, and no third one comes up to their mean at any
corner, so it cannot win: the lead of one over the other is interpolated, and its sign decides. A third class
that may win is interpolated after them. All of these cells are computed beside each other, as one strip that
fits the cache. Logits that have the frame's size already need no arithmetic at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import ContractError
from runtime.frame import Image

# Pixels and logits in work at once. Fewer: the calls cost more than they. More: they leave the cache.
_BLOCK_PIXELS = 120_000
_BLOCK_LOGITS = 1 << 17

_Indices = NDArray[np.intp]


@dataclass(frozen=True)
class _Axis:
    """How the pixels of one axis lie in its cells; the first and the last cell reach past the logits.

    Attributes:
        cell: of each pixel.
        share: of each pixel's right or lower corner in its value, 0 to 1.
        shares: (K, cells), the same of the pixels of each cell, K of the largest one; what a smaller cell has
            too many lies on its lower or right edge.
        start: first pixel of each cell.
        pixels: of each cell; 0 where the frame is smaller than the logits.
    """

    cell: _Indices
    share: NDArray[np.float32]
    shares: NDArray[np.float32]
    start: _Indices
    pixels: _Indices
    has_pixels: NDArray[np.bool_]


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
    planes = logits[0]  # (C, h, w)
    classes, rows, columns = planes.shape
    height, width = size_hw
    label = _winners(planes)  # (h, w)
    if window == WHOLE and size_hw == (rows, columns):
        return label
    down, across = (
        _axis(rows, height, window.top, window.bottom),
        _axis(columns, width, window.left, window.right),
    )
    wider = np.asarray(cv2.copyMakeBorder(label, 1, 1, 1, 1, cv2.BORDER_REPLICATE), np.uint8)
    # Copying whole rows takes a fifth of the time of single pixels, so columns are laid out as rows.
    first = np.ascontiguousarray(wider[:-1, :-1].T)  # (w + 1, h + 1): each cell's class at its first corner
    lines = cv2.transpose(first.take(across.cell, axis=0))  # (h + 1, W)
    mask: Image = np.asarray(lines, np.uint8).take(down.cell, axis=0)  # (H, W)
    lowest, highest = (
        least(least(wider[:-1, :-1], wider[:-1, 1:]), least(wider[1:, :-1], wider[1:, 1:]))
        for least in (np.minimum, np.maximum)
    )  # (h + 1, w + 1) each: of the classes at a cell's corners
    contested = np.flatnonzero((lowest != highest) & (down.has_pixels[:, None] & across.has_pixels))
    pixels_a_cell = len(down.shares) * len(across.shares)
    cells_a_block = max(1, min(_BLOCK_PIXELS // pixels_a_cell, _BLOCK_LOGITS // classes))
    for start in range(0, len(contested), cells_a_block):
        cells = contested[start : start + cells_a_block]
        pair = lowest.take(cells), highest.take(cells)
        _settle(mask, planes, cells, pair, down, across)
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
    planes: NDArray[np.float32],
    cells: _Indices,
    pair: tuple[Image, Image],
    down: _Axis,
    across: _Axis,
) -> None:
    """Put the winners in some cells into the mask.

    Args:
        mask: uint8 (H, W), changed in place.
        planes: float32 (C, h, w) logits.
        cells: n of them, ascending, each with pixels.
        pair: the lowest and the highest class, (n,) each, among those that win at a cell's corners.
        down: the rows.
        across: the columns.
    """
    corners = _corners(planes, cells)  # (4, C, n)
    low, high = (_of_classes(corners, label, np.arange(len(cells))) for label in pair)  # (4, n)
    # The higher one of two classes is nowhere below their mean.
    can_win = np.logical_or.reduce(2 * corners >= (low + high)[:, None]).view(np.uint8)  # (C, n)
    candidates = np.add.reduce(can_win, dtype=np.uint8)
    # Cells with many candidates first, so that those with a k-th candidate are always the first ones.
    order = np.argsort(candidates, kind="stable")[::-1]
    candidates = candidates[order]
    label = np.flatnonzero(np.asarray(cv2.transpose(can_win))[order]) % len(planes)  # cell after cell, rising
    label_at = np.cumsum(candidates, dtype=np.intp) - candidates
    first = label[label_at]

    # The lead of each cell's second candidate over its first, then of the third where there is one: m leads.
    counts = [int(np.count_nonzero(candidates > k)) for k in range(1, int(candidates[0]))]
    at = np.concatenate([np.arange(n) for n in counts])
    rival = label[label_at[at] + np.repeat(np.arange(1, len(counts) + 1), counts)]
    lead = _of_classes(corners, rival, order[at])
    lead -= _of_classes(corners, first, order).take(at, axis=1)
    row, column = np.divmod(cells, len(across.pixels))
    share_down = down.shares.take(row[order[at]], axis=1)  # (K, m)
    share_across = across.shares.take(column[order[at]], axis=1)  # (L, m)
    sides = lead[:2, None] + (lead[2:] - lead[:2])[:, None] * share_down  # (2, K, m)
    leads = (sides[1] - sides[0])[:, None] * share_across  # (K, L, m)
    leads += sides[0][:, None]

    winner = np.empty((*leads.shape[:2], len(cells)), np.uint8)
    winner[:] = first
    highest = np.zeros((1, 1, len(cells)), np.float32)
    for n, end in zip(counts, np.cumsum(counts).tolist(), strict=True):
        lead = leads[:, :, end - n : end]
        change = winner[:, :, :n] ^ rival[end - n : end].astype(np.uint8)
        change *= lead > highest[:, :, :n]
        winner[:, :, :n] ^= change
        if end < len(at):
            highest = np.maximum(highest[:, :, :n], lead)
    runs = np.empty((len(cells), leads.shape[0] * leads.shape[1]), np.uint8)
    runs[order] = cv2.transpose(winner.reshape(-1, len(cells)))
    _put(mask, runs.reshape(-1, *leads.shape[:2]), down.start[row], across.start[column])


def _of_classes(corners: NDArray[np.float32], label: NDArray[Any], cells: _Indices) -> NDArray[np.float32]:
    """Return one class's logits (4, n) of each of some cells."""
    # Numpy 1 would keep the product with a number in a label's 8 bits.
    places: _Indices = label.astype(np.intp, copy=False) * corners.shape[2] + cells
    return corners.reshape(4, -1).take(places, axis=1)


def _put(mask: Image, runs: Image, top: _Indices, left: _Indices) -> None:
    """Copy cells into a mask.

    What a cell has too many lies on its edge. There the pixels of the next cell are of that edge's class, or
    they are written after it.

    Args:
        mask: uint8 (H, W), changed in place.
        runs: uint8 (n, K, L), row after row of cells.
        top: (n,) each cell's first line.
        left: (n,) each cell's first column.
    """
    height, width = mask.shape
    _, tall, wide = runs.shape
    is_low, is_right = top + tall > height, left + wide > width  # at the mask's edges there is no next cell
    for group in (~is_low & ~is_right, is_right & ~is_low, is_low & ~is_right, is_low & is_right):
        some = np.flatnonzero(group)
        if not len(some):
            continue
        lines, pixels = min(tall, height - int(top[some[0]])), min(wide, width - int(left[some[0]]))
        # Pixels beside each other are copied as one item, to any place of the mask.
        run = np.dtype((np.void, pixels))
        places = np.ndarray(height * width - pixels + 1, run, mask, strides=(1,))
        at = (top[some] * width + left[some])[:, None] + np.arange(lines) * width  # (n, K)
        places[at.reshape(-1)] = runs[some, :lines, :pixels].reshape(-1).view(run)


def _winners(planes: NDArray[np.float32]) -> Image:
    """Return uint8 (h, w): the class with the highest logit, the lowest class where some tie.

    `argmax` over the first axis would take ten times as long.

    Raises:
        ContractError: logits that are not finite.
    """
    classes, rows, columns = planes.shape
    values = planes.reshape(classes, -1)
    label = np.empty(rows * columns, np.uint8)
    rank = np.arange(classes, 0, -1, dtype=np.uint8)[:, None]  # (C, 1), the lowest class first
    size = max(1, _BLOCK_LOGITS // classes)
    for first in range(0, rows * columns, size):
        block = values[:, first : first + size]
        highest = block.max(axis=0)
        if not (np.isfinite(highest.max()) and np.isfinite(block.min())):  # NaN is in both
            raise ContractError(
                "expected finite logits, the network gave NaN or infinity; train and export it again"
            )
        ranks = (block == highest).view(np.uint8)
        ranks *= rank
        np.subtract(classes, ranks.max(axis=0), out=label[first : first + size], casting="unsafe")
    return label.reshape(rows, columns)


def _corners(planes: NDArray[np.float32], cells: _Indices) -> NDArray[np.float32]:
    """Return the logits (4, C, n) at some cells' corners: upper left, upper right, lower left and right."""
    classes, rows, columns = planes.shape
    values = planes.reshape(classes, -1)
    row, column = np.divmod(cells, columns + 1)
    tops, lefts = np.maximum(row - 1, 0) * columns, np.maximum(column - 1, 0)
    bottoms, rights = np.minimum(row, rows - 1) * columns, np.minimum(column, columns - 1)
    corners = np.empty((4, classes, len(cells)), np.float32)
    places = [y + x for y in (tops, bottoms) for x in (lefts, rights)]
    for place, corner in zip(places, corners, strict=True):
        np.take(values, place, axis=1, out=corner, mode="clip")
    return corners


@lru_cache(maxsize=16)
def _axis(samples: int, pixels: int, start: float = 0.0, end: float = 1.0) -> _Axis:
    """Lay `pixels` pixels over `samples` logits, of which the first and last are there twice."""
    step = (end - start) * samples / pixels
    center = (np.arange(pixels) + 0.5) * step + (start * samples + 0.5)
    cell = np.clip(center.astype(np.intp), 0, samples)
    first = np.searchsorted(cell, np.arange(samples + 1))
    counts = np.diff(first, append=pixels)
    share = (center - cell).astype(np.float32)
    lines = np.arange(counts.max())[:, None] * step
    return _Axis(
        cell=cell,
        share=share,
        shares=np.minimum(share.take(first, mode="clip") + lines, 1).astype(np.float32),
        start=first,
        pixels=counts,
        has_pixels=counts > 0,
    )
