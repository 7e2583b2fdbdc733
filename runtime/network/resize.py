"""The one preprocessing: a resize. All other arithmetic is inside the graph, see `runtime.contract`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.contract import STRETCH, ImageFit
from runtime.frame import Image, check_image
from runtime.network.mask import WHOLE, Window

_INTERPOLATIONS = {
    # Bilinear: from 1280x720 to 480x352 it takes a tenth of INTER_AREA's time (0.3 against 3.8 ms), keeps
    # 480x360 as sharp, and on video comes as close to an ideal low-pass filter (RMS 3.4 grey levels each).
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "bicubic": cv2.INTER_CUBIC,
    "nearest": cv2.INTER_NEAREST_EXACT,
}
_SUPPORTS = {"antialias": 1.0, "antialias-bicubic": 2.0}  # samples that the filter reaches to each side


@dataclass(frozen=True)
class Placement:
    """Where a frame lies in the network's picture.

    Attributes:
        size_hw: of the picture.
        scaled_hw: of the frame in it.
        top: row of the frame's first row; negative where rows are cut off.
        left: column of the frame's first column; negative where columns are cut off.
    """

    size_hw: tuple[int, int]
    scaled_hw: tuple[int, int]
    top: int
    left: int


@dataclass(frozen=True)
class Seen:
    """What a network sees of a frame.

    Attributes:
        inside: rows and columns of the frame that lie in the network's picture.
        window: the part of the picture that they fill.
    """

    inside: tuple[slice, slice]
    window: Window

    @property
    def size_hw(self) -> tuple[int, int]:
        """How many rows and columns."""
        rows, columns = self.inside
        return rows.stop - rows.start, columns.stop - columns.start

    def onto(self, found: Image, frame_hw: tuple[int, int], elsewhere: int) -> Image:
        """Return uint8 (H, W) of the frame, what was found of the part in it, another value around it."""
        if self.size_hw == frame_hw:
            return found
        whole = np.full(frame_hw, elsewhere, np.uint8)
        whole[self.inside] = found
        return whole


def seen(frame_hw: tuple[int, int], size_hw: tuple[int, int], fit: ImageFit) -> Seen:
    """Return what a network of one size sees of a frame of another.

    >>> seen((720, 1280), (512, 512), ImageFit("crop")).inside
    (slice(0, 720, None), slice(280, 1000, None))
    """
    if fit.mode == "stretch":
        return Seen((slice(0, frame_hw[0]), slice(0, frame_hw[1])), WHOLE)
    placed = placement(frame_hw, size_hw, fit)
    rows, columns = (
        _seen(*axis)
        for axis in zip(frame_hw, size_hw, placed.scaled_hw, (placed.top, placed.left), strict=True)
    )
    return Seen((slice(*rows[:2]), slice(*columns[:2])), Window(*rows[2:], *columns[2:]))


def _seen(pixels: int, side: int, scaled: int, offset: int) -> tuple[int, int, float, float]:
    """Return, along one axis, the first pixel, one past the last, and their share of the picture."""
    first = max(0, math.ceil(-offset * pixels / scaled - 0.5))
    last = min(pixels, math.floor((side - offset) * pixels / scaled - 0.5) + 1)
    start, end = ((place * scaled / pixels + offset) / side for place in (first, last))
    return first, last, start, end


@lru_cache(maxsize=16)
def placement(frame_hw: tuple[int, int], size_hw: tuple[int, int], fit: ImageFit = STRETCH) -> Placement:
    """Return where a frame of one size lies in a picture of another.

    >>> placement((720, 1280), (640, 640), ImageFit("letterbox"))
    Placement(size_hw=(640, 640), scaled_hw=(360, 640), top=140, left=0)
    >>> placement((720, 1280), (512, 512), ImageFit("crop"))
    Placement(size_hw=(512, 512), scaled_hw=(512, 910), top=0, left=-199)
    """
    if fit.mode == "stretch":
        return Placement(size_hw, size_hw, 0, 0)
    scales = [side / own for side, own in zip(size_hw, frame_hw, strict=True)]
    scale = min(scales) if fit.mode == "letterbox" else max(scales) * fit.zoom
    height, width = (max(1, round(own * scale)) for own in frame_hw)
    if fit.mode == "letterbox":
        height, width = min(height, size_hw[0]), min(width, size_hw[1])
    else:
        height, width = max(height, size_hw[0]), max(width, size_hw[1])
    if fit.mode == "letterbox" and fit.place == "corner":
        return Placement(size_hw, (height, width), 0, 0)
    return Placement(size_hw, (height, width), (size_hw[0] - height) // 2, (size_hw[1] - width) // 2)


def fit_image(image_bgr: object, size_hw: tuple[int, int], fit: ImageFit = STRETCH) -> Image:
    """Return the image at a network's input size.

    Args:
        image_bgr: uint8 (H, W, 3) of any size.
        size_hw: height and width of the result in pixels.
        fit: how; by default the aspect ratio is not kept.

    Returns:
        uint8 (h, w, 3); a view of the same memory if the image already has that size.

    Raises:
        FrameError: not a uint8 image of shape (H, W, 3).
    """
    image_bgr = check_image(image_bgr)
    height, width = size_hw
    if image_bgr.shape[:2] == (height, width) and fit.zoom == 1:
        return image_bgr
    if fit.mode == "stretch":
        return _resized(image_bgr, size_hw, fit)
    placed = placement((image_bgr.shape[0], image_bgr.shape[1]), size_hw, fit)
    scaled = _resized(image_bgr, placed.scaled_hw, fit)
    if fit.mode == "crop":
        return np.ascontiguousarray(scaled[-placed.top :][:height, -placed.left :][:, :width], np.uint8)
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = fit.fill_bgr
    picture[placed.top :, placed.left :][: placed.scaled_hw[0], : placed.scaled_hw[1]] = scaled
    return picture


def _resized(image_bgr: Image, size_hw: tuple[int, int], fit: ImageFit) -> Image:
    """Resize as a contract says; there is nothing to average where a frame grows."""
    if fit.resample in _SUPPORTS:
        return _antialiased(image_bgr, size_hw, fit.resample)
    grows = size_hw[0] > image_bgr.shape[0] or size_hw[1] > image_bgr.shape[1]
    how = "bilinear" if fit.resample == "area" and grows else fit.resample
    return cv2.resize(image_bgr, size_hw[::-1], interpolation=_INTERPOLATIONS[how])  # type: ignore[return-value]


def _antialiased(image_bgr: Image, size_hw: tuple[int, int], how: str) -> Image:
    """Resize as PIL 13 does: along one side, then along the other, each rounded to bytes."""

    def across(image: Image) -> Image:
        turned = np.asarray(cv2.transpose(image), np.uint8)  # (W, H, 3), so that rows are what is weighed
        return np.asarray(cv2.transpose(_weighed(turned, size_hw[1], how)), np.uint8)

    rows, columns = image_bgr.shape[:2]
    if size_hw[0] < rows and size_hw[0] * columns < size_hw[1] * rows:  # the height shrinks more
        return across(_weighed(image_bgr, size_hw[0], how))
    return _weighed(across(image_bgr), size_hw[0], how)


def _weighed(image: Image, rows: int, how: str) -> Image:
    """Return (rows, W, 3): each row a weighted sum of the image's."""
    if len(image) == rows:
        return image
    taken, weights = _weights(len(image), rows, how)
    flat = image.reshape(len(image), -1)
    total = np.full((rows, flat.shape[1]), 0.5, np.float32)
    for tap in range(weights.shape[1]):
        total += weights[:, tap, None] * flat[taken[:, tap]]
    np.clip(total, 0, 255, out=total)
    return total.astype(np.uint8).reshape(rows, *image.shape[1:])


@lru_cache(maxsize=16)
def _weights(samples: int, pixels: int, how: str) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return which samples make each pixel, and with which weights: both (pixels, taps)."""
    scale = samples / pixels
    wider = max(scale, 1.0)  # the filter grows with what it must average
    support = _SUPPORTS[how] * wider
    center = (np.arange(pixels) + 0.5) * scale
    first = np.maximum((center - support + 0.5).astype(np.intp), 0)
    last = np.minimum((center + support + 0.5).astype(np.intp), samples)
    taken = first[:, None] + np.arange(int((last - first).max()))  # (pixels, taps)
    away = np.abs((taken - center[:, None] + 0.5) / wider)
    if how == "antialias":
        weights = np.maximum(1 - away, 0)
    else:  # Keys' cubic with a = -0.5
        near, far = (1.5 * away - 2.5) * away**2 + 1, ((-0.5 * away + 2.5) * away - 4) * away + 2
        weights = np.where(away < 1, near, np.where(away < 2, far, 0))
    weights = np.where(taken < last[:, None], weights, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.minimum(taken, samples - 1), weights.astype(np.float32)
