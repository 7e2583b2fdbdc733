"""What `runtime.network.mask` does where classes meet, bit for bit, in a loop that numba compiles.

In numpy the calls and the copies between them take longer than the arithmetic. Needs the extra `compiled`,
and is used where the environment asks for it: to load it takes as long as hundreds of masks save.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.mask import FURTHER_SHARES, Axis, Indices, Settle, settle_cells

VARIABLE = "EDGESEG_COMPILED_MASKS"  # 1: masks by compiled code
_HALF = np.float32(0.5)
_QUARTER, _THREE_QUARTERS = FURTHER_SHARES


def settle_of_environment(environment: Mapping[str, str] = os.environ) -> Settle:
    """Return the numpy code, or the compiled one where the environment asks for it.

    Raises:
        ConfigError: a variable of another value, or numba is not installed.
    """
    asked = environment.get(VARIABLE, "").strip()
    if asked not in ("", "0", "1"):
        raise ConfigError(f"{VARIABLE}: expected 0 or 1, got {asked!r}; unset it for masks by numpy")
    return compiled_settle() if asked == "1" else settle_cells


def compiled_settle() -> Settle:
    """Return what stands for `runtime.network.mask.settle_cells`.

    Its first call takes seconds once a machine and a third of one after that: what numba compiled is kept
    beside this file, or in the user's cache.

    Raises:
        ConfigError: numba is not installed, or cannot be imported.
    """
    loop = _compiled()

    def settle(
        planes: NDArray[np.float32], label: Image, cells: Indices, down: Axis, across: Axis, mask: Image
    ) -> None:
        loop(
            np.ascontiguousarray(planes),
            label,
            cells,
            (down.start, down.pixels, np.ascontiguousarray(down.shares.T)),
            (across.start, across.pixels, np.ascontiguousarray(across.shares.T)),
            mask,
        )

    return settle


@lru_cache(maxsize=1)
def _compiled() -> Any:
    try:
        numba: Any = importlib.import_module("numba")
    except ImportError as error:
        raise ConfigError(
            f"{VARIABLE}: expected the package numba, which cannot be imported ({error}); "
            "pip install 'edgeseg[compiled]', or unset the variable"
        ) from None
    try:
        return numba.njit(cache=True, nogil=True)(settle_one_by_one)
    except RuntimeError:  # no folder for the cache can be written: compiled anew in every process
        return numba.njit(nogil=True)(settle_one_by_one)


def settle_one_by_one(
    planes: NDArray[np.float32],
    label: Image,
    cells: Indices,
    down: tuple[Indices, Indices, NDArray[np.float32]],
    across: tuple[Indices, Indices, NDArray[np.float32]],
    mask: Image,
) -> None:
    """Do as `settle_cells`, cell by cell, in terms that numba knows.

    Args:
        planes: float32 (C, h, w) logits.
        label: uint8 (h, w).
        cells: (n,) numbers of cells.
        down: first pixel and pixels of each cell, both (h + 1,), and shares (h + 1, K), see `Axis`.
        across: the same along a row: (w + 1,) and (w + 1, L).
        mask: uint8 (H, W), changed in place.
    """
    classes, rows, columns = planes.shape
    tops, heights, shares_down = down
    lefts, widths, shares_across = across
    can_win = np.empty(classes, np.intp)
    left = np.empty(classes, np.float32)
    rise = np.empty(classes, np.float32)
    for cell in cells:
        row, column = cell // (columns + 1), cell % (columns + 1)
        above, below = max(row - 1, 0), min(row, rows - 1)
        before, behind = max(column - 1, 0), min(column, columns - 1)
        one, two = label[above, before], label[above, behind]
        three, four = label[below, before], label[below, behind]
        first, last = min(min(one, two), min(three, four)), max(max(one, two), max(three, four))
        low_1, low_2 = planes[first, above, before], planes[first, above, behind]
        low_3, low_4 = planes[first, below, before], planes[first, below, behind]
        lead_1, lead_2 = planes[last, above, before] - low_1, planes[last, above, behind] - low_2
        lead_3, lead_4 = planes[last, below, before] - low_3, planes[last, below, behind] - low_4

        # Which classes come up to each mean of both at some corner.
        number = 0
        for label_ in range(classes):
            at_1, at_2 = planes[label_, above, before], planes[label_, above, behind]
            at_3, at_4 = planes[label_, below, before], planes[label_, below, behind]
            comes_up = True
            for share in (_HALF, _QUARTER, _THREE_QUARTERS):
                comes_up = comes_up and (
                    at_1 >= low_1 + share * lead_1
                    or at_2 >= low_2 + share * lead_2
                    or at_3 >= low_3 + share * lead_3
                    or at_4 >= low_4 + share * lead_4
                )
            if comes_up:
                can_win[number] = label_
                number += 1

        top, start, width = tops[row], lefts[column], widths[column]
        if number <= 2:
            for line in range(heights[row]):
                share = shares_down[row, line]
                begins = lead_1 + (lead_3 - lead_1) * share
                rises = (lead_2 + (lead_4 - lead_2) * share) - begins
                for pixel in range(width):
                    leads = rises * shares_across[column, pixel] > -begins
                    mask[top + line, start + pixel] = last if leads else first
            continue
        lowest = can_win[0]
        for line in range(heights[row]):
            share = shares_down[row, line]
            for k in range(1, number):
                rival = can_win[k]
                at_1 = planes[rival, above, before] - planes[lowest, above, before]
                at_2 = planes[rival, above, behind] - planes[lowest, above, behind]
                at_3 = planes[rival, below, before] - planes[lowest, below, before]
                at_4 = planes[rival, below, behind] - planes[lowest, below, behind]
                left[k] = at_1 + (at_3 - at_1) * share
                rise[k] = (at_2 + (at_4 - at_2) * share) - left[k]
            for pixel in range(width):
                share_across = shares_across[column, pixel]
                winner, highest = lowest, np.float32(0)
                for k in range(1, number):
                    leads_by = rise[k] * share_across + left[k]
                    if leads_by > highest:
                        winner, highest = can_win[k], leads_by
                mask[top + line, start + pixel] = winner
