"""Pictures out of sensor_msgs/Image and sensor_msgs/CompressedImage, as uint8 BGR.

Encodings have the names of sensor_msgs/image_encodings.hpp. As cv_bridge does, 8UC1, 8UC3 and 8UC4 are read
as mono8, bgr8 and bgra8, and pictures of 16 bits are scaled by 255 / 65535. 16UC1 and 32FC1 are refused: they
hold a depth camera's distances.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.base.images import image_of
from runtime.base.shown import printable
from runtime.errors import SourceError
from runtime.frame import Image

_LARGEST_SIDE_PX = 16_384

# Name without its bits → values a pixel, and the conversion to BGR (None: it is BGR).
_ENCODINGS: dict[str, tuple[int, int | None]] = {
    "bgr": (3, None),
    "rgb": (3, cv2.COLOR_RGB2BGR),
    "bgra": (4, cv2.COLOR_BGRA2BGR),
    "rgba": (4, cv2.COLOR_RGBA2BGR),
    "mono": (1, cv2.COLOR_GRAY2BGR),
    # ROS names the first two rows' pixels; so do these constants, unlike OpenCV's older ones.
    "bayer_rggb": (1, cv2.COLOR_BayerRGGB2BGR),
    "bayer_bggr": (1, cv2.COLOR_BayerBGGR2BGR),
    "bayer_gbrg": (1, cv2.COLOR_BayerGBRG2BGR),
    "bayer_grbg": (1, cv2.COLOR_BayerGRBG2BGR),
}
_SAME_AS = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8"}
_YUV422 = {
    "uyvy": cv2.COLOR_YUV2BGR_UYVY,
    "yuv422": cv2.COLOR_YUV2BGR_UYVY,  # the older name
    "yuyv": cv2.COLOR_YUV2BGR_YUYV,
    "yuv422_yuy2": cv2.COLOR_YUV2BGR_YUYV,  # the older name
}
ENCODINGS = (*(f"{name}{bits}" for name in _ENCODINGS for bits in (8, 16)), *_SAME_AS, *_YUV422)


class DamagedPicture(SourceError):
    """One picture that cannot be decoded, though its kind is known; the next may well be whole."""


def decode_image(message: Any) -> Image:
    """Return the picture of a sensor_msgs/Image.

    Args:
        message: with height, width, encoding, is_bigendian, step and data.

    Returns:
        uint8 (H, W, 3) BGR.

    Raises:
        SourceError: an encoding that is no picture or not known.
        DamagedPicture: fewer bytes than the size needs.
    """
    encoding = str(message.encoding)
    known = _SAME_AS.get(encoding, encoding)
    if known in _YUV422:
        if message.width % 2:
            raise DamagedPicture(f"{encoding}: expected an even width, got {message.width} pixels")
        return np.asarray(cv2.cvtColor(_pixels(message, 2, np.uint8), _YUV422[known]), np.uint8)
    name, bits = (known[:-2], 16) if known.endswith("16") else (known[:-1], 8)
    if known not in ENCODINGS:
        advice = "it holds distances; choose a colour topic" if _is_depth(known) else "convert it before"
        raise SourceError(f"encoding: expected one of {', '.join(ENCODINGS)}, got {encoding!r}; {advice}")
    channels, conversion = _ENCODINGS[name]
    if bits == 16:
        pixels = _scaled(_pixels(message, channels, np.uint16, bool(message.is_bigendian)))
    else:
        pixels = _pixels(message, channels, np.uint8)
    if conversion is None:
        return np.ascontiguousarray(pixels)
    if name.startswith("bayer") and min(pixels.shape[:2]) < 3:
        raise DamagedPicture(f"{encoding}: expected at least 3 pixels a side, got {pixels.shape[:2]}")
    return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)


def decode_compressed(message: Any) -> Image:
    """Return the picture of a sensor_msgs/CompressedImage: JPEG, PNG or what else OpenCV reads.

    Args:
        message: with format and data.

    Returns:
        uint8 (H, W, 3) BGR.

    Raises:
        SourceError: a compressedDepth message.
        DamagedPicture: bytes that are no picture, or are cut off.
    """
    if "compressedDepth" in str(message.format):
        raise SourceError(
            f"format: expected a picture such as jpeg or png, got {message.format!r}, which holds distances; "
            "choose a colour topic"
        )
    try:
        return image_of(bytes(message.data), printable(str(message.format))).picture()
    except SourceError as error:
        raise DamagedPicture(str(error)) from None


def _pixels(
    message: Any, channels: int, dtype: type[np.uint8 | np.uint16], is_bigendian: bool = False
) -> NDArray[Any]:
    """Return a view of a message's bytes, (H, W) or (H, W, channels), without the padding of its rows."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    size = np.dtype(dtype).itemsize
    if not (0 < height <= _LARGEST_SIDE_PX and 0 < width <= _LARGEST_SIDE_PX):
        raise DamagedPicture(
            f"{message.encoding}: expected 1 to {_LARGEST_SIDE_PX} pixels a side, got {width}x{height}"
        )
    row = width * channels * size
    data = np.frombuffer(message.data, np.uint8)
    # The last row may lack its padding.
    if step < row or len(data) < step * (height - 1) + row:
        raise DamagedPicture(
            f"{message.encoding}: expected {height} rows of {row} bytes for {width}x{height} pixels, got "
            f"{len(data)} bytes in rows of {step}"
        )
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1), writeable=False)
    pixels = np.ascontiguousarray(rows).view(np.dtype(dtype).newbyteorder(">" if is_bigendian else "<"))
    return pixels.reshape((height, width, channels) if channels > 1 else (height, width))


def _scaled(pixels: NDArray[np.uint16]) -> Image:
    """Return 16 bits as 8, rounded."""
    return np.asarray((pixels.astype(np.uint32) * 255 + 32767) // 65535, np.uint8)


def _is_depth(encoding: str) -> bool:
    return encoding.startswith(("16UC1", "32FC1", "16SC1", "64FC1"))
