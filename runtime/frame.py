"""What goes into a segmenter and what comes out of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FrameError

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """One picture from a source.

    Attributes:
        image_bgr: uint8 (H, W, 3).
        frame_id: place in the source's own count, from 0; a gap means frames that were dropped.
        captured_ns: `time.monotonic_ns()` when the picture was taken, as far as that is known (see
            `runtime.sources.pts`); of a recording, when it was read.
        stamp_ns: the picture's own time stamp in nanoseconds, on the clock of whoever took it, such as the
            stamp of a ROS header; None where it has none.
        coordinate_frame: name of the camera's coordinate frame, which a ROS header calls frame_id; "" for
            none.
        pts_ns: presentation time stamp in nanoseconds on the stream's own clock, whose zero means nothing;
            None where there is none.
    """

    image_bgr: Image
    frame_id: int
    captured_ns: int
    stamp_ns: int | None = None
    coordinate_frame: str = ""
    pts_ns: int | None = None


@dataclass(frozen=True)
class Segmentation:
    """The answer for one frame.

    Attributes:
        mask: uint8 (H, W) class indices at the frame's size.
        latency_ms: milliseconds a stage, in the order they ran: resize, network, mask.
        frame_id: of the frame; 0 for a bare image.
        captured_ns: of the frame; 0 for a bare image.
        confidence: uint8 (H, W), 255 times the probability of the mask's class; None where it was not made.
        setting: file, size and threads that made it, of a `runtime.deadline.DeadlineSegmenter`; "" of others.
    """

    mask: Image
    latency_ms: Mapping[str, float]
    frame_id: int = 0
    captured_ns: int = 0
    confidence: Image | None = None
    setting: str = ""


def check_image(image_bgr: object) -> Image:
    """Return the image if it is what a camera gives.

    Raises:
        FrameError: anything but a non-empty uint8 array of shape (H, W, 3).

    >>> check_image(np.zeros((2, 3, 3), np.uint8)).shape
    (2, 3, 3)
    >>> check_image(np.zeros((2, 3), np.uint8))
    Traceback (most recent call last):
    ...
    runtime.errors.FrameError: expected a BGR image, uint8 (H, W, 3), got uint8 (2, 3); convert it with \
cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    """
    if not isinstance(image_bgr, np.ndarray):
        raise FrameError(
            f"expected a BGR image, uint8 (H, W, 3), got {type(image_bgr).__name__}; pass a numpy array"
        )
    if image_bgr.dtype == np.uint8 and image_bgr.ndim == 3 and image_bgr.shape[2] == 3 and image_bgr.size:
        return image_bgr
    advice = "check the source"
    if image_bgr.dtype != np.uint8:
        advice = "scale it to 0..255 and convert it with .astype(np.uint8)"
    elif image_bgr.ndim == 2 or (image_bgr.ndim == 3 and image_bgr.shape[2] == 1):
        advice = "convert it with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)"
    elif image_bgr.ndim == 3 and image_bgr.shape[2] == 4:
        advice = "convert it with cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)"
    raise FrameError(
        f"expected a BGR image, uint8 (H, W, 3), got {image_bgr.dtype} {image_bgr.shape}; {advice}"
    )


def own_image(image_bgr: Image) -> Image:
    """Return an image that nobody else will write into: itself, or a copy where somebody else holds it.

    A source that reads into one buffer again and again would change a picture that is still being worked on.
    The caller must hold the image in one variable and nowhere else.

    >>> buffer = np.zeros((2, 3, 3), np.uint8)
    >>> own_image(buffer[:]) is buffer
    False
    """
    if not isinstance(image_bgr, np.ndarray):
        return image_bgr  # refused by `check_image` where it is used
    is_ours = image_bgr.flags.owndata and sys.getrefcount(image_bgr) <= _REFERENCES
    return image_bgr if is_ours else image_bgr.copy()


def _references(image_bgr: Image) -> int:
    return sys.getrefcount(image_bgr)


def _count_references() -> int:
    """Return how many references `own_image` sees of an image that its caller alone holds."""
    image_bgr = np.empty((1, 1, 3), np.uint8)
    return _references(image_bgr)


_REFERENCES = _count_references()
