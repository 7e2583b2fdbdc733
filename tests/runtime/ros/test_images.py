from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from runtime.errors import SourceError
from runtime.ros.images import ENCODINGS, DamagedPicture, decode_compressed, decode_image

COLOURS_BGR = [(0, 0, 0), (255, 255, 255), (0, 0, 255), (0, 255, 0), (255, 0, 0), (30, 120, 200)]


def message(pixels: np.ndarray, encoding: str, padding: int = 0, **changes: object) -> SimpleNamespace:
    """A sensor_msgs/Image of pixels as they lie in memory."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    fields = {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": int(pixels.dtype.byteorder == ">"),
        "step": rows.shape[1],
        "data": rows.reshape(-1),
    }
    return SimpleNamespace(**{**fields, **changes})


def picture(seed: int = 0, size_hw: tuple[int, int] = (6, 10)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3)).astype(np.uint8)


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    return np.dstack([pixels, np.full(pixels.shape[:2], 9, np.uint8)])


@pytest.mark.parametrize("padding", [0, 3, 64])
@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("bgr8", lambda bgr: bgr),
        ("8UC3", lambda bgr: bgr),
        ("rgb8", lambda bgr: bgr[..., ::-1]),
        ("bgra8", with_alpha),
        ("8UC4", with_alpha),
        ("rgba8", lambda bgr: with_alpha(bgr[..., ::-1])),
    ],
)
def test_colours_come_back_exactly(encoding, encode, padding):
    expected = picture()
    assert np.array_equal(decode_image(message(encode(expected), encoding, padding)), expected)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_the_same_in_every_channel(encoding):
    grey = picture()[..., 0]
    assert np.array_equal(decode_image(message(grey, encoding, 5)), np.dstack([grey] * 3))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("encoding", "channels"), [("mono16", 1), ("bgr16", 3), ("rgb16", 3), ("rgba16", 4)])
def test_sixteen_bits_are_scaled_as_cv_bridge_does(encoding, channels, order):
    values = np.random.default_rng(1).integers(0, 65536, (4, 6, channels)).astype(f"{order}u2")
    values[0, 0], values[0, 1] = 0, 65535
    expected = np.rint(values.astype(np.float64) * 255 / 65535).astype(np.uint8)
    expected = np.dstack([expected[..., 0]] * 3) if channels == 1 else expected[..., :3]
    if encoding.startswith("rgb"):
        expected = expected[..., ::-1]
    given = values[..., 0] if channels == 1 else values
    assert np.array_equal(decode_image(message(given, encoding)), expected)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("colour", COLOURS_BGR)
def test_bayer_patterns_show_their_colour(pattern, bits, colour):
    mosaic = np.empty((8, 12), np.uint8)
    for place, letter in enumerate(pattern):  # the first two rows' pixels, row by row
        mosaic[place // 2 :: 2, place % 2 :: 2] = colour["bgr".index(letter)]
    pixels = mosaic if bits == 8 else mosaic.astype(np.uint16) * 257
    decoded = decode_image(message(pixels, f"bayer_{pattern}{bits}", 4))
    assert np.array_equal(decoded[2:-2, 2:-2], np.full((4, 8, 3), colour, np.uint8))


@pytest.mark.parametrize("encoding", ["uyvy", "yuv422", "yuyv", "yuv422_yuy2"])
@pytest.mark.parametrize("colour", COLOURS_BGR)
def test_yuv_forms_follow_bt601(encoding, colour):
    blue, green, red = (value / 255 for value in colour)
    luma = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    cb = 128 - 37.797 * red - 74.203 * green + 112 * blue
    cr = 128 + 112 * red - 93.786 * green - 18.214 * blue
    order = [cb, luma, cr, luma] if encoding in ("uyvy", "yuv422") else [luma, cb, luma, cr]
    pixels = np.rint(np.tile(order, (4, 3))).astype(np.uint8).reshape(4, 6, 2)
    decoded = decode_image(message(pixels, encoding, 6)).astype(int)
    assert decoded.shape == (4, 6, 3)
    assert np.abs(decoded - colour).max() <= 3


def test_a_last_row_without_padding_is_enough():
    expected = picture()
    sent = message(expected, "bgr8", 16)
    sent.data = sent.data[:-16]
    assert np.array_equal(decode_image(sent), expected)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_is_refused_with_advice(encoding):
    with pytest.raises(SourceError, match=f"got '{encoding}'; it holds distances; choose a colour topic"):
        decode_image(message(np.zeros((4, 4), np.uint16), encoding))


@pytest.mark.parametrize("encoding", ["", "nv21", "bgr", "BGR8", "mono32", "bayer_rgbg8", "yuv444"])
def test_unknown_encodings_are_named_beside_the_known(encoding):
    with pytest.raises(SourceError, match="encoding: expected one of bgr8, bgr16") as raised:
        decode_image(message(picture(), encoding))
    assert repr(encoding) in str(raised.value)
    assert all(known in str(raised.value) for known in ENCODINGS)


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 7},
        {"height": 0},
        {"width": 0},
        {"width": 11},
        {"step": 29},
        {"step": 0},
        {"height": 2**32 - 1},
        {"width": 2**32 - 1, "step": 2**32 - 1},
        {"data": np.empty(0, np.uint8)},
    ],
)
def test_sizes_that_do_not_fit_the_bytes_are_refused(changes):
    with pytest.raises(DamagedPicture):
        decode_image(message(picture(), "bgr8", **changes))


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_compressed_pictures_are_decoded(ending):
    expected = np.full((16, 24, 3), (10, 120, 240), np.uint8)
    data = cv2.imencode(ending, expected, [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
    decoded = decode_compressed(SimpleNamespace(format=f"bgr8; {ending[1:]} compressed", data=data))
    assert np.abs(decoded.astype(int) - expected).max() <= (0 if ending == ".png" else 3)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0, 1, 40, -20])
def test_half_a_compressed_picture_is_damaged(ending, kept):
    data = cv2.imencode(ending, picture(size_hw=(40, 40)))[1].reshape(-1)[:kept]
    with pytest.raises(DamagedPicture):
        decode_compressed(SimpleNamespace(format="jpeg", data=data))


def test_compressed_depth_is_refused():
    sent = SimpleNamespace(format="16UC1; compressedDepth png", data=np.zeros(20, np.uint8))
    with pytest.raises(SourceError, match="holds distances"):
        decode_compressed(sent)
