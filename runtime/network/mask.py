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

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import ContractError
from runtime.frame import Image

# Pixels and logits in work at once. Fewer: the calls cost more than they. More: they leave the cache.
_BLOCK_PIXELS = 200_000
_BLOCK_LOGITS = 1 << 17
# Of the higher class at a cell's corners in the means that a third class must reach, beside a half.
FURTHER_SHARES = (np.float32(0.25), np.float32(0.75))

# Settling one class in one cell takes so many times as long as in one of whole planes; cells that tell it.
_DEARER = 12
_CELLS_ASKED = 256

Indices = NDArray[np.intp]
Settle = Callable[[NDArray[np.float32], Image, Indices, "Axis", "Axis", Image], None]


@dataclass(frozen=True)
class Axis:
    """How the pixels of one axis lie in its cells; the first and the last cell reach past the logits.

    Attributes:
        cell: of each pixel.
        share: of each pixel's right or lower corner in its value, 0 to 1.
        shares: (K, cells), the same of the pixels of each cell, K of the largest one; what a smaller cell has
            too many lies on its lower or right edge.
        start: first pixel of each cell.
        pixels: of each cell; 0 where the frame is smaller than the logits.
        fills: whether each cell has pixels.
    """

    cell: Indices
    share: NDArray[np.float32]
    shares: NDArray[np.float32]
    start: Indices
    pixels: Indices
    fills: bool


@dataclass(frozen=True)
class Window:
    """The part of the network's picture that a mask covers, in shares of its height and its width."""

    top: float = 0.0
    bottom: float = 1.0
    left: float = 0.0
    right: float = 1.0


WHOLE = Window()


def settle_cells(
    planes: NDArray[np.float32], label: Image, cells: Indices, down: Axis, across: Axis, mask: Image
) -> None:
    """Write the pixels of the cells in which classes meet.

    Args:
        planes: float32 (C, h, w) logits.
        label: uint8 (h, w), the highest class of each.
        cells: (n,) rising numbers of cells, of which there are w + 1 in a row.
        down: how the mask's rows lie in the cells.
        across: how its columns do.
        mask: uint8 (H, W), changed in place; all other cells are filled.
    """
    classes, rows, columns = planes.shape
    pixels_a_cell = len(down.shares) * len(across.shares)
    cells_a_block = max(1, min(_BLOCK_PIXELS // pixels_a_cell, _BLOCK_LOGITS // classes))
    for start in range(0, len(cells), cells_a_block):
        block = cells[start : start + cells_a_block]
        row, column = np.divmod(block, columns + 1)
        shares = down.shares.take(row, axis=1), across.shares.take(column, axis=1)
        runs = _settle(planes, label, _corners(rows, columns).take(block, axis=1), shares)
        _put(mask, runs, down.start[row], across.start[column])


def class_mask(
    logits: NDArray[np.float32],
    size_hw: tuple[int, int],
    window: Window = WHOLE,
    settle: Settle = settle_cells,
) -> Image:
    """Return the class of every pixel.

    Args:
        logits: float32 (1, C, h, w), C at most 255.
        size_hw: height and width (H, W) of the mask in pixels.
        window: the part of the logits that the mask covers.
        settle: does the work where classes meet; `runtime.network.compiled` has another that does the same.

    Returns:
        A new uint8 array (H, W); where classes tie the lowest wins.

    Raises:
        ContractError: logits that are not finite.

    >>> left_right = np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]], np.float32)  # (1, 2, 1, 2)
    >>> class_mask(left_right, (1, 6))
    array([[0, 0, 0, 1, 1, 1]], dtype=uint8)
    """
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
    wider = np.asarray(cv2.copyMakeBorder(label, 1, 1, 1, 1, cv2.BORDER_REPLICATE), np.uint8)
    # Copying whole rows takes a fifth of the time of single pixels, so columns are laid out as rows.
    first = np.ascontiguousarray(wider[:-1, :-1].T)  # (w + 1, h + 1): each cell's class at its first corner
    lines = cv2.transpose(first.take(across.cell, axis=0))  # (h + 1, W)
    mask: Image = np.asarray(lines, np.uint8).take(down.cell, axis=0)  # (H, W)
    beside = wider[:, :-1] != wider[:, 1:]  # (h + 2, w + 1)
    differs = beside[:-1] | beside[1:]
    differs |= wider[:-1, :-1] != wider[1:, :-1]
    if not (down.fills and across.fills):
        differs &= (down.pixels > 0)[:, None] & (across.pixels > 0)
    contested = np.flatnonzero(differs)
    if window == WHOLE and 3 * len(contested) > label.size and _is_noise(planes, label, contested):
        return _plain(planes, size_hw)
    settle(planes, label, contested, down, across, mask)
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
    planes: NDArray[np.float32],
    label: Image,
    corners: Indices,
    shares: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> Image:
    """Return the winners in some cells at whose corners two or more classes win.

    Args:
        planes: float32 (C, h, w) logits.
        label: uint8 (h, w), the highest class of each.
        corners: (4, n) places in a plane of each cell's corners.
        shares: of the pixels' lower and right corners in their values, (K, n) and (L, n).

    Returns:
        uint8 (n, K, L).
    """
    values = planes.reshape(len(planes), -1)
    first, last, low, lead = _pairs(values, label, corners)
    left, rise = _along_lines(lead, shares[0])
    winner = (rise[:, None] * shares[1] > -left[:, None]).view(np.uint8)  # (K, L, n): whether it leads
    winner *= first ^ last
    winner ^= first
    runs = np.asarray(cv2.transpose(winner.reshape(-1, len(first))), np.uint8)  # (n, K L)

    # A third class that wins somewhere comes up to every mean of both, however weighed, at some corner.
    logits = values.take(corners.reshape(-1), axis=1).reshape(-1, *corners.shape)  # (C, 4, n)
    can_win = np.logical_or.reduce(logits >= low + 0.5 * lead, axis=1)  # (C, n)
    some = _with_third(can_win)
    if len(some):
        logits, can_win = logits.take(some, axis=2), can_win.take(some, axis=1)
        low, lead = low.take(some, axis=1), lead.take(some, axis=1)
        for share in FURTHER_SHARES:
            can_win &= np.logical_or.reduce(logits >= low + share * lead, axis=1)
        more = _with_third(can_win)
        some = some[more]
        if len(some):
            shares = shares[0].take(some, axis=1), shares[1].take(some, axis=1)
            runs[some] = _settle_many(logits.take(more, axis=2), can_win.take(more, axis=1), shares)
    return runs.reshape(-1, *winner.shape[:2])


def _settle_many(
    logits: NDArray[np.float32],
    can_win: NDArray[np.bool_],
    shares: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> Image:
    """Return the winners in some cells where three or more classes may win.

    Args:
        logits: float32 (C, 4, n) at the corners.
        can_win: (C, n), two at least of each cell.
        shares: as of `_settle`.

    Returns:
        uint8 (n, K L).
    """
    candidates = np.add.reduce(can_win.view(np.uint8), dtype=np.uint8)
    # Cells with many candidates first, so that those with a k-th candidate are always the first ones.
    order = np.argsort(candidates, kind="stable")[::-1]
    candidates = candidates[order]
    label = np.flatnonzero(np.asarray(cv2.transpose(can_win.view(np.uint8)))[order]) % len(logits)  # rising
    label_at = np.cumsum(candidates, dtype=np.intp) - candidates
    first = label[label_at]

    # The lead of each cell's second candidate over its first, then of the third where there is one: m leads.
    counts = [int(np.count_nonzero(candidates > k)) for k in range(1, int(candidates[0]))]
    at = np.concatenate([np.arange(n) for n in counts])
    rival = label[label_at[at] + np.repeat(np.arange(1, len(counts) + 1), counts)]
    places = np.arange(4 * len(order)).reshape(4, -1).take(order, axis=1)  # (4, n)
    values = logits.reshape(len(logits), -1)
    lead = _of_classes(values, rival, places.take(at, axis=1))
    lead -= _of_classes(values, first, places).take(at, axis=1)
    left, rise = _along_lines(lead, shares[0].take(order[at], axis=1))
    leads = rise[:, None] * shares[1].take(order[at], axis=1)  # (K, L, m)
    leads += left[:, None]

    winner = np.empty((*leads.shape[:2], len(order)), np.uint8)
    winner[:] = first
    highest = np.zeros((1, 1, len(order)), np.float32)
    for n, end in zip(counts, np.cumsum(counts).tolist(), strict=True):
        lead = leads[:, :, end - n : end]
        change = winner[:, :, :n] ^ rival[end - n : end].astype(np.uint8)
        change *= lead > highest[:, :, :n]
        winner[:, :, :n] ^= change
        if end < len(at):
            highest = np.maximum(highest[:, :, :n], lead)
    runs = np.empty((len(order), leads.shape[0] * leads.shape[1]), np.uint8)
    runs[order] = cv2.transpose(winner.reshape(-1, len(order)))
    return runs


def _pairs(
    values: NDArray[np.float32], label: Image, corners: Indices
) -> tuple[Image, Image, NDArray[np.float32], NDArray[np.float32]]:
    """Return lowest and highest class (n,) at cells' corners, the one's logits (4, n), the other's lead."""
    wins = label.reshape(-1).take(corners)  # (4, n)
    first, last = wins.min(axis=0), wins.max(axis=0)
    low = _of_classes(values, first, corners)
    return first, last, low, _of_classes(values, last, corners) - low


def _is_noise(planes: NDArray[np.float32], label: Image, contested: Indices) -> bool:
    """Whether so many classes may win in so many cells that it takes longer to settle them one by one."""
    some = contested[:: len(contested) // _CELLS_ASKED + 1]
    corners = _corners(*label.shape).take(some, axis=1)
    values = planes.reshape(len(planes), -1)
    _, _, low, lead = _pairs(values, label, corners)
    logits = values.take(corners.reshape(-1), axis=1).reshape(-1, *corners.shape)  # (C, 4, n)
    can_win = np.logical_or.reduce(logits >= low + 0.5 * lead, axis=1)
    return _DEARER * int(np.count_nonzero(can_win)) * len(contested) > len(planes) * len(some) * label.size


def _plain(planes: NDArray[np.float32], size_hw: tuple[int, int]) -> Image:
    """Return the class of every pixel from whole planes; `class_mask` describes it."""
    mask = np.zeros(size_hw, np.uint8)
    highest = cv2.resize(planes[0], size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    for index, plane in enumerate(planes[1:], 1):
        value = cv2.resize(plane, size_hw[::-1], interpolation=cv2.INTER_LINEAR)
        wins = np.asarray(cv2.compare(value, highest, cv2.CMP_GT), np.uint8)
        wins &= np.uint8(index)
        np.maximum(mask, wins, out=mask)
        cv2.max(highest, value, dst=highest)
    return mask


def _with_third(can_win: NDArray[np.bool_]) -> Indices:
    """Return the cells (C, n) in which more than two classes may win."""
    return np.flatnonzero(np.add.reduce(can_win.view(np.uint8), dtype=np.uint8) > 2)


def _along_lines(
    lead: NDArray[np.float32], share_down: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what leads at corners, (4, n), are where lines begin, (K, n), and how they rise along them."""
    sides = lead[:2, None] + (lead[2:] - lead[:2])[:, None] * share_down  # (2, K, n)
    return sides[0], sides[1] - sides[0]


def _of_classes(values: NDArray[np.float32], label: NDArray[Any], places: Indices) -> NDArray[np.float32]:
    """Return one class's logits (4, n) at places (4, n) in its plane, from values (C, places)."""
    # Numpy 1 would keep the product with a number in a label's 8 bits.
    at: Indices = label.astype(np.intp, copy=False) * values.shape[1] + places
    return values.reshape(-1).take(at)


def _put(mask: Image, runs: Image, top: Indices, left: Indices) -> None:
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
        places[at.reshape(-1)] = runs.take(some, axis=0)[:, :lines, :pixels].reshape(-1).view(run)


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


@lru_cache(maxsize=4)
def _corners(rows: int, columns: int) -> Indices:
    """Return where the corners of every cell lie in a plane: (4, cells), upper left and right, lower ones."""
    place = np.pad(np.arange(rows * columns).reshape(rows, columns), 1, "edge")
    corners = place[:-1, :-1], place[:-1, 1:], place[1:, :-1], place[1:, 1:]
    return np.stack([corner.ravel() for corner in corners])


@lru_cache(maxsize=16)
def _axis(samples: int, pixels: int, start: float = 0.0, end: float = 1.0) -> Axis:
    """Lay `pixels` pixels over `samples` logits, of which the first and last are there twice."""
    step = (end - start) * samples / pixels
    center = (np.arange(pixels) + 0.5) * step + (start * samples + 0.5)
    cell = np.clip(center.astype(np.intp), 0, samples)
    first = np.searchsorted(cell, np.arange(samples + 1))
    counts = np.diff(first, append=pixels)
    share = (center - cell).astype(np.float32)
    lines = np.arange(counts.max())[:, None] * step
    return Axis(
        cell=cell,
        share=share,
        shares=np.minimum(share.take(first, mode="clip") + lines, 1).astype(np.float32),
        start=first,
        pixels=counts,
        fills=bool(counts.all()),
    )
