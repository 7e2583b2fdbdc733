"""The one preprocessing: a resize. All other arithmetic is inside the graph, see `runtime.contract`."""

from __future__ import annotations

import cv2

from runtime.frame import Image, check_image


def fit_image(image_bgr: object, size_hw: tuple[int, int]) -> Image:
    """Return the image at a network's input size.

    Args:
        image_bgr: uint8 (H, W, 3) of any size; the aspect ratio is not kept.
        size_hw: height and width of the result in pixels.

    Returns:
        uint8 (h, w, 3); a view of the same memory if the image already has that size.

    Raises:
        FrameError: not a uint8 image of shape (H, W, 3).
    """
    image_bgr = check_image(image_bgr)
    height, width = size_hw
    if image_bgr.shape[:2] == (height, width):
        return image_bgr
    # Bilinear: from 1280x720 to 480x352 it takes a tenth of INTER_AREA's time (0.3 against 3.8 ms), keeps
    # 480x360 as sharp, and on video comes as close to an ideal low-pass filter (RMS 3.4 grey levels each).
    return cv2.resize(image_bgr, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
