"""What goes into a segmenter and what comes out of it."""

from __future__ import annotations

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
        captured_ns: `time.monotonic_ns()` when the source handed the picture over.
        stamp_ns: the picture's own time stamp in nanoseconds, on the clock of whoever took it, such as the
            stamp of a ROS header; None where it has none.
        coordinate_frame: name of the camera's coordinate frame, which a ROS header calls frame_id; "" for
            none.
    """

    image_bgr: Image
    frame_id: int
    captured_ns: int
    stamp_ns: int | None = None
    coordinate_frame: str = ""


@dataclass(frozen=True)
class Segmentation:
    """The answer for one frame.

    Attributes:
        mask: uint8 (H, W) class indices at the frame's size.
        latency_ms: milliseconds a stage, in the order they ran: resize, network, mask.
        frame_id: of the frame; 0 for a bare image.
        captured_ns: of the frame; 0 for a bare image.
        confidence: uint8 (H, W), 255 times the probability of the mask's class; None where it was not made.
    """

    mask: Image
    latency_ms: Mapping[str, float]
    frame_id: int = 0
    captured_ns: int = 0
    confidence: Image | None = None


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
