"""What an archive looks like: a timeline a recording, and a sheet of small pictures. OpenCV alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.contract import ClassMap
from runtime.frame import Image
from runtime.masks.overlay import legend

_BACK, _EMPTY, _INK, _FAINT = (32, 32, 32), (64, 64, 64), (235, 235, 235), (150, 150, 150)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MARGIN, _TITLE, _AXIS = 16, 34, 24
_WIDTH, _SHARES_HEIGHT, _SURE_HEIGHT = 1168, 200, 56
_COLUMNS, _CELL_WH, _CAPTION = 6, (240, 180), 20
_GAP = 4  # usual distances between frames; a longer pause stays empty
_TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)


def timeline(
    title: str,
    seconds: NDArray[np.float64],
    shares: NDArray[np.float32],
    confidence: NDArray[np.float32],
    classes: ClassMap,
) -> Image:
    """Return a picture of a recording: the classes' shares stacked over time, and below how sure they are.

    Args:
        title: one line.
        seconds: (N,) when each frame is shown, rising; N at least 1.
        shares: (N, C) of the picture, 0 to 1; what they lack of 1 is void and stays empty.
        confidence: (N,), 0 to 1; NaN for none.
        classes: names and colours.

    Returns:
        uint8 (H, 1200, 3) BGR.
    """
    span = max(float(seconds[-1] - seconds[0]), 1e-9)
    columns = _Columns(seconds, span)
    plot = np.full((_SHARES_HEIGHT, _WIDTH, 3), _EMPTY, np.uint8)
    bottoms = np.zeros(_WIDTH)
    rows = np.arange(_SHARES_HEIGHT)[:, None]
    for index, color in enumerate(classes.palette_rgb):  # from the top down, in the legend's order
        tops, bottoms = bottoms, bottoms + columns.mean(shares[:, index]) * _SHARES_HEIGHT
        plot[(rows >= np.rint(tops)) & (rows < np.rint(bottoms)) & columns.has] = color[::-1]
    sure = np.full((_SURE_HEIGHT, _WIDTH, 3), _EMPTY, np.uint8)
    heights = columns.mean(np.nan_to_num(confidence)) * _SURE_HEIGHT
    sure[(np.arange(_SURE_HEIGHT, 0, -1)[:, None] <= np.rint(heights)) & columns.has] = _FAINT
    names = legend(classes, (700, _WIDTH))
    parts = [
        _line(title, _TITLE, 0.6),
        plot,
        _axis(span),
        _line("mean confidence, 0 to 1", 22, 0.42),
        sure,
        *([] if names is None else [np.full((10, _WIDTH, 3), _BACK, np.uint8), np.maximum(names, 32)]),
    ]
    return _framed(np.vstack(parts))


def contact_sheet(title: str, panels: Sequence[tuple[str, bytes]]) -> Image:
    """Return small pictures in rows, each over its caption.

    Args:
        title: one line.
        panels: captions and JPEGs; those that do not decode stay empty.

    Returns:
        uint8 (H, W, 3) BGR.
    """
    width, height = _CELL_WH
    columns = max(1, min(_COLUMNS, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    cell_hw = height + _CAPTION + 8, width + 8
    sheet = np.full((rows * cell_hw[0], columns * cell_hw[1], 3), _BACK, np.uint8)
    for number, (caption, jpeg) in enumerate(panels):
        top, left = number // columns * cell_hw[0], number % columns * cell_hw[1]
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
        if picture is not None:
            scale = min(width / picture.shape[1], height / picture.shape[0])
            size_wh = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
            small = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA)
            sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
        _write(sheet, caption, (left, top + height + 14), 0.38, width)
    return _framed(np.vstack([_line(title, _TITLE, 0.6, sheet.shape[1]), sheet]))


def clock(seconds: float) -> str:
    """Return seconds as h:mm:ss.

    >>> clock(3725.4), clock(59)
    ('1:02:05', '0:59')
    """
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole:02d}" if hours else f"{minutes}:{whole:02d}"


class _Columns:
    """Sorts a recording's frames into columns of pixels; a frame lasts until the next one, or a gap.

    Attributes:
        has: whether there is a frame, (W,).
    """

    def __init__(self, seconds: NDArray[np.float64], span_s: float) -> None:
        places = (seconds - seconds[0]) / span_s * _WIDTH
        self._place = np.minimum(places.astype(np.int64), _WIDTH - 1)
        self._count = np.bincount(self._place, minlength=_WIDTH)
        usual = float(np.median(np.diff(places))) if len(places) > 1 else 0.0
        here = np.arange(_WIDTH)
        self._latest = np.maximum.accumulate(np.where(self._count > 0, here, 0))
        self.has = here - self._latest <= _GAP * usual

    def mean(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean of the frames' values in each column, (W,)."""
        sums = np.bincount(self._place, weights=values, minlength=_WIDTH)
        return (sums / np.maximum(self._count, 1))[self._latest]


def _axis(span_s: float) -> Image:
    """Draw the times below a plot."""
    axis = np.full((_AXIS, _WIDTH, 3), _BACK, np.uint8)
    tick_s = next((tick for tick in _TICKS_S if span_s / tick <= 12), math.ceil(span_s / 12))
    for number in range(int(span_s / tick_s) + 1):
        left = round(number * tick_s / span_s * (_WIDTH - 1)) if span_s >= tick_s else 0
        cv2.line(axis, (left, 0), (left, 4), _INK, 1)
        if left < _WIDTH - 44:
            _write(axis, clock(number * tick_s), (left + 2, 17), 0.4, 60)
    return axis


def _line(text: str, height: int, scale: float, width: int = _WIDTH) -> Image:
    """Draw one line of text."""
    line = np.full((height, width, 3), _BACK, np.uint8)
    _write(line, text, (0, height - 10), scale, width)
    return line


def _write(picture: Image, text: str, left_base: tuple[int, int], scale: float, width: int) -> None:
    """Write what fits; OpenCV's letters are ASCII."""
    shown = text.encode("ascii", "replace").decode()
    while shown and cv2.getTextSize(shown, _FONT, scale, 1)[0][0] > width:
        shown = shown[: -2 if shown.endswith("~") else -1][:-1] + "~" if len(shown) > 2 else ""
    cv2.putText(picture, shown, left_base, _FONT, scale, _INK, 1, cv2.LINE_AA)


def _framed(picture: Image) -> Image:
    framed = np.pad(picture, ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0)), constant_values=_BACK[0])
    return framed
