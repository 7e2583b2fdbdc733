"""Draws a mask over its frame: class colours, a legend and a line of text."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from runtime.contract import ClassMap
from runtime.errors import ConfigError, FrameError
from runtime.frame import Image, check_image
from runtime.masks.confidence import UNKNOWN

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPITAL_PX = 22  # height of a capital letter of this font at scale 1
_WHITE = (255, 255, 255)
_PLATE_BRIGHTNESS = 0.35  # of the picture that shows through behind text
_HALF = 0.5
_STRIP_PIXELS = 1 << 16  # coloured at once: the colours stay in the cache, and no memory is taken for all
_LEGEND_SHARE = 0.4  # of the frame's height that the legend may cover


class Overlay:
    """Turns masks into pictures: class colours, alone or over the frame, there with legend and caption.

    All classes are in the legend in the contract's order, so that it never moves; a frame too small for
    the legend goes without. Safe to use from several threads.

    >>> overlay = Overlay(ClassMap(names=("ground", "sky"), palette_rgb=((255, 0, 0), (0, 0, 255))))
    >>> overlay.draw(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))[0, 0].tolist()
    [0, 0, 128]
    """

    def __init__(
        self, classes: ClassMap, alpha: float = 0.5, marks: Callable[[Image], None] | None = None
    ) -> None:
        """Lay out the colours.

        Args:
            classes: names and colours; pixels of the ignore index keep the picture's own colour, darkened.
            alpha: share of the class colour in a pixel, from 0 (only the picture) to 1 (only the mask).
            marks: draws what else belongs on a picture, such as lines of metres, in place.

        Raises:
            ConfigError: alpha outside 0 to 1.
        """
        if not 0.0 <= alpha <= 1.0:
            raise ConfigError(f"overlay: expected an alpha from 0 to 1, got {alpha}")
        self._classes = classes
        self._alpha = alpha
        self._marks = marks
        self._palette_bgr = np.zeros((256, 1, 3), np.uint8)  # (256, 1, 3)
        self._palette_bgr[: len(classes), 0] = [rgb[::-1] for rgb in classes.palette_rgb]
        self._half_palette_bgr = self._palette_bgr // 2 + self._palette_bgr % 2  # rounded up

    def colors(self, mask: Image) -> Image:
        """Return the class colours, uint8 (H, W, 3) BGR, of a mask, uint8 (H, W)."""
        # applyColorMap looks up all three channels in one pass; numpy's palette[mask] takes 5 times as long.
        return np.asarray(cv2.applyColorMap(mask, self._palette_bgr), np.uint8)

    def blend(self, image_bgr: Image, mask: Image, alpha: float | None = None) -> Image:
        """Return the picture with a share of the class colours in it, without text.

        Args:
            image_bgr: uint8 (H, W, 3), left as it is.
            mask: uint8 (H, W) class indices.
            alpha: 0 is the picture alone, 1 the colours alone; None for the overlay's own.
        """
        alpha = self._alpha if alpha is None else alpha
        height, width = mask.shape
        blended = np.empty(image_bgr.shape, np.uint8)
        rows = max(1, _STRIP_PIXELS // width)
        colors = np.empty((min(rows, height), width, 3), np.uint8)
        # Half and half, the default, is a shift and a sum of bytes, in half the time of two products. The
        # picture's half is rounded down and the colour's up, so that no pixel is off by a level.
        halves = alpha == _HALF
        palette_bgr = self._half_palette_bgr if halves else self._palette_bgr
        for top in range(0, height, rows):
            lines = slice(top, top + rows)
            strip = cv2.applyColorMap(mask[lines], palette_bgr, colors[: height - top])
            if halves:
                np.right_shift(image_bgr[lines], 1, out=blended[lines])
                np.add(blended[lines], strip, out=blended[lines])
            else:
                cv2.addWeighted(image_bgr[lines], 1.0 - alpha, strip, alpha, 0.0, blended[lines])
        return blended

    def beside(self, image_bgr: Image, mask: Image) -> Image:
        """Return picture and colours next to each other, uint8 (H, 2 W, 3)."""
        return np.asarray(cv2.hconcat([image_bgr, self.colors(mask)]), np.uint8)

    def draw(
        self, image_bgr: Image, mask: Image, caption: str | None = None, *, hatch_unknown: bool = False
    ) -> Image:
        """Return a new picture with the mask's colours, the legend and the caption drawn in.

        Args:
            image_bgr: uint8 (H, W, 3), left as it is.
            mask: uint8 (H, W) class indices.
            caption: one line of ASCII text for the top left corner.
            hatch_unknown: whether pixels of 255 get white diagonals.

        Returns:
            uint8 (H, W, 3).

        Raises:
            FrameError: an image or a mask of another type or of different sizes.
        """
        height, width = size_hw = check_image(image_bgr).shape[:2]
        if mask.dtype != np.uint8 or mask.shape != size_hw:
            raise FrameError(
                f"expected a mask of the image's size, uint8 {size_hw}, got {mask.dtype} {mask.shape}; "
                "pass the segmentation of this very frame"
            )
        drawn = self.blend(image_bgr, mask)
        if hatch_unknown:
            _hatch_unknown(drawn, mask)
        if self._marks is not None:
            self._marks(drawn)
        legend = _legend(self._classes, height, width)
        if legend is not None:
            legend.stamp(drawn)
        if caption:
            _caption(caption, height).stamp(drawn)
        return drawn


def legend(classes: ClassMap, size_hw: tuple[int, int]) -> Image | None:
    """Return the legend of a picture of this size, uint8 (h, W, 3) BGR on black; None for no room."""
    plate = _legend(classes, *size_hw)
    return None if plate is None else plate.picture_bgr.copy()


def _hatch_unknown(drawn_bgr: Image, mask: Image) -> None:
    """Draw white diagonals where the mask is 255, unknown; in place."""
    unknown = np.asarray(cv2.inRange(mask, UNKNOWN, UNKNOWN), np.uint8)
    if cv2.countNonZero(unknown):
        cv2.bitwise_and(unknown, _diagonals(*mask.shape), dst=unknown)
        drawn_bgr[unknown > 0] = _WHITE


@lru_cache(maxsize=4)
def _diagonals(height: int, width: int) -> Image:
    """Return uint8 (height, width): 255 on diagonal lines."""
    step = max(6, height // 60)
    rows, columns = np.ogrid[:height, :width]
    return np.where((rows + columns) % step < max(1, step // 6), 255, 0).astype(np.uint8)


class LazyOverlay:
    """What `Overlay.draw` makes of one frame, drawn when it is first asked for, and once.

    Attributes:
        draw_ms: milliseconds that it took; 0 until then.
    """

    def __init__(
        self, overlay: Overlay, image_bgr: Image, mask: Image, caption: str, *, hatch_unknown: bool = False
    ) -> None:
        """Note what to draw; the arguments are those of `Overlay.draw`."""
        self.draw_ms = 0.0
        self._make: Callable[[], Image] = lambda: overlay.draw(
            image_bgr, mask, caption, hatch_unknown=hatch_unknown
        )
        self._drawn_bgr: Image | None = None
        self._lock = threading.Lock()

    @property
    def image_bgr(self) -> Image:
        """The picture, uint8 (H, W, 3); to be left as it is, since others get the same."""
        with self._lock:
            if self._drawn_bgr is None:
                started_ns = time.perf_counter_ns()
                self._drawn_bgr = self._make()
                self.draw_ms = (time.perf_counter_ns() - started_ns) / 1e6
            return self._drawn_bgr


@dataclass(frozen=True)
class _Plate:
    """Ready-drawn text and colour chips on a dark plate; `ink` marks the pixels that are not plate."""

    left: int
    top: int
    picture_bgr: Image  # (h, w, 3)
    ink: Image  # (h, w)

    def stamp(self, image_bgr: Image) -> None:
        """Draw the plate into an image, in place; what reaches past the image is cut off."""
        area = image_bgr[self.top : self.top + self.ink.shape[0], self.left : self.left + self.ink.shape[1]]
        height, width = area.shape[:2]
        cv2.convertScaleAbs(area, dst=area, alpha=_PLATE_BRIGHTNESS)
        cv2.copyTo(self.picture_bgr[:height, :width], self.ink[:height, :width], area)


@dataclass(frozen=True)
class _Type:
    """Sizes of everything written on a frame, from the frame's height."""

    capital: int  # height of a capital letter, pixels
    stroke: int

    @classmethod
    def for_height(cls, height: int) -> _Type:
        return cls(capital=min(max(round(height / 45), 8), 24), stroke=1 if height < 900 else 2)

    @property
    def scale(self) -> float:
        return self.capital / _CAPITAL_PX

    @property
    def line(self) -> int:
        return round(self.capital * 1.9)

    def width(self, text: str) -> int:
        return int(cv2.getTextSize(text, _FONT, self.scale, self.stroke)[0][0])

    def write(self, picture_bgr: Image, text: str, left: int, line_top: int) -> None:
        baseline = line_top + (self.line + self.capital) // 2
        cv2.putText(picture_bgr, text, (left, baseline), _FONT, self.scale, _WHITE, self.stroke, cv2.LINE_AA)


def _plate(left: int, top: int, picture_bgr: Image) -> _Plate:
    """Make a plate from a picture on black."""
    return _Plate(left, top, picture_bgr, (picture_bgr.max(axis=2) > 0).astype(np.uint8))


def _caption(text: str, height: int) -> _Plate:
    """Lay out one line for the top left corner."""
    type_ = _Type.for_height(height)
    picture_bgr = np.zeros((type_.line, type_.width(text) + type_.capital, 3), np.uint8)
    type_.write(picture_bgr, text, type_.capital // 2, 0)
    return _plate(0, 0, picture_bgr)


@lru_cache(maxsize=8)
def _legend(classes: ClassMap, height: int, width: int) -> _Plate | None:
    """Lay out chips and names in even rows along the bottom; None where they would cover too much."""
    type_ = _Type.for_height(height)
    gap = chip = type_.capital
    steps = [chip + gap // 2 + type_.width(name) + gap for name in classes.names]
    for row_count in range(1, int(height * _LEGEND_SHARE) // type_.line + 1):
        per_row = math.ceil(len(steps) / row_count)
        starts = range(0, len(steps), per_row)
        if all(gap + sum(steps[start : start + per_row]) <= width for start in starts):
            break
    else:
        return None
    picture_bgr = np.zeros((len(starts) * type_.line, width, 3), np.uint8)
    for row, start in enumerate(starts):
        left, line_top = gap, row * type_.line
        chip_top = line_top + (type_.line - chip) // 2
        for index in range(start, min(start + per_row, len(steps))):
            corners = (left, chip_top), (left + chip, chip_top + chip)
            cv2.rectangle(picture_bgr, *corners, classes.palette_rgb[index][::-1], cv2.FILLED)
            cv2.rectangle(picture_bgr, *corners, _WHITE, 1)
            type_.write(picture_bgr, classes.names[index], left + chip + gap // 2, line_top)
            left += steps[index]
    return _plate(0, height - picture_bgr.shape[0], picture_bgr)
