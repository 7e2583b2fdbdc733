from __future__ import annotations

import io
import itertools
import struct
import zlib

import cv2
import numpy as np
import pytest

from runtime.contract import ClassMap
from runtime.errors import ConfigError, FrameError
from runtime.masks.formats import (
    decode_palette_png,
    decode_rle,
    encode_palette_png,
    encode_rle,
    mask_polygons,
)

CLASSES = ClassMap(names=("road", "sky", "car"), palette_rgb=((128, 64, 128), (0, 0, 255), (0, 255, 0)))


def blobs(seed: int = 0, size_hw: tuple[int, int] = (48, 64), labels: int = 3) -> np.ndarray:
    """A mask of smooth regions."""
    noise = np.random.default_rng(seed).normal(size=(*size_hw, labels)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 4).reshape(*size_hw, labels).argmax(axis=2).astype(np.uint8)


def naive_rle(mask: np.ndarray, label: int) -> list[int]:
    """COCO's definition, pixel by pixel."""
    pixels = (mask == label).flatten(order="F").tolist()
    runs = [(value, len(list(group))) for value, group in itertools.groupby(pixels)]
    return ([] if not runs[0][0] else [0]) + [length for _, length in runs]


@pytest.mark.parametrize("size_hw", [(48, 64), (1, 9), (9, 1), (1, 1)])
def test_rle_is_cocos(size_hw):
    mask = blobs(3, size_hw)
    runs = encode_rle(mask)
    assert runs == {label: naive_rle(mask, label) for label in np.unique(mask).tolist()}


def test_rle_comes_back():
    mask = blobs(1)
    mask[0, 0] = 255
    assert np.array_equal(decode_rle(encode_rle(mask), mask.shape), mask)


def test_rle_of_one_class_fills_the_rest():
    assert decode_rle({2: [1, 2, 1]}, (2, 2), fill=9).tolist() == [[9, 2], [2, 9]]


@pytest.mark.parametrize("runs", [{0: [3]}, {0: [5, -1]}, {256: [4]}])
def test_rle_that_cannot_be(runs):
    with pytest.raises(FrameError, match="RLE of class"):
        decode_rle(runs, (2, 2))


@pytest.mark.parametrize("use", [encode_rle, mask_polygons])
def test_mask_of_another_type(use):
    with pytest.raises(FrameError, match=r"expected a class mask, uint8 \(H, W\), got int64"):
        use(np.zeros((4, 4), np.int64))


def drawn(polygons: dict, size_hw: tuple[int, int], label: int) -> np.ndarray:
    """Fill polygons; holes are their inner border's other side."""
    picture = np.zeros(size_hw, np.uint8)
    for outline, *holes in polygons.get(label, []):
        cv2.fillPoly(picture, [np.array(outline, np.int32)], 1)
        for hole in holes:
            cv2.fillPoly(picture, [np.array(hole, np.int32)], 0)
            cv2.polylines(picture, [np.array(hole, np.int32)], True, 1)
    return picture


def test_polygons_draw_the_mask_again():
    mask = blobs(2, (90, 120))
    polygons = mask_polygons(mask, epsilon_px=0, min_area_px=0)
    for label in range(3):
        again = drawn(polygons, mask.shape, label)
        assert (again == (mask == label)).mean() > 0.995


def test_a_hole_is_the_second_ring():
    mask = np.zeros((40, 40), np.uint8)
    mask[5:35, 5:35] = 1
    mask[12:28, 12:28] = 0
    ((outline, hole),) = mask_polygons(mask)[1]
    assert sorted(outline) == [[5, 5], [5, 34], [34, 5], [34, 34]]
    assert len(hole) >= 4
    assert np.array(hole).min() == 11


def test_epsilon_thins_and_small_parts_are_left_out():
    mask = np.zeros((100, 100), np.uint8)
    cv2.circle(mask, (50, 50), 40, 1, -1)
    mask[2:4, 2:4] = 2
    fine, coarse = (len(mask_polygons(mask, epsilon_px)[1][0][0]) for epsilon_px in (0.0, 3.0))
    assert coarse < fine / 3
    assert 2 not in mask_polygons(mask)


@pytest.mark.parametrize("wrong", [{"epsilon_px": -1.0}, {"min_area_px": -1.0}])
def test_polygon_settings_that_cannot_be(wrong):
    with pytest.raises(ConfigError, match="at least 0"):
        mask_polygons(blobs(), **wrong)


@pytest.mark.parametrize("size_hw", [(48, 64), (31, 37), (1, 1)])
@pytest.mark.parametrize("void", [0, 15, 16, 255])  # in four bits a pixel, or eight
def test_palette_png_is_colours_to_opencv_and_indices_to_its_decoder(size_hw, void):
    mask = blobs(5, size_hw)
    mask[0, 0] = void
    png = encode_palette_png(mask[:, ::-1], CLASSES)
    colors = np.zeros((256, 3), np.uint8)
    colors[:3] = CLASSES.palette_rgb
    image_bgr = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(image_bgr[..., ::-1], colors[mask[:, ::-1]])
    assert np.array_equal(decode_palette_png(png), mask[:, ::-1])
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(png))
    assert image.mode == "P"
    assert np.array_equal(np.array(image), mask[:, ::-1])


def test_palette_png_of_more_classes_than_sixteen():
    many = ClassMap(
        names=tuple(f"class-{number}" for number in range(20)),
        palette_rgb=tuple((n, 0, n) for n in range(20)),
    )
    for labels in (3, 20):
        mask = np.arange(48, dtype=np.uint8).reshape(6, 8) % labels
        png = encode_palette_png(mask, many)
        assert np.array_equal(decode_palette_png(png), mask)
        assert np.array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., 0], mask)


def test_palette_png_whose_rows_are_not_filtered_is_read_too():
    mask = blobs(5)
    png = encode_palette_png(mask, CLASSES)
    head = b"IHDR" + struct.pack(">IIBBBBB", 64, 48, 8, 3, 0, 0, 0)
    body = b"IDAT" + zlib.compress(np.pad(mask, ((0, 0), (1, 0))).tobytes())  # filter 0, as before
    chunks = [
        struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in (head, body)
    ]
    assert np.array_equal(decode_palette_png(png[:8] + b"".join(chunks) + png[-12:]), mask)


@pytest.mark.parametrize(
    "broken",
    [
        lambda png: b"",
        lambda png: png[:-20],
        lambda png: png.replace(b"IDAT", b"IDAX"),
        lambda png: cv2.imencode(".png", blobs())[1].tobytes(),
        lambda png: (np.frombuffer(png, np.uint8) ^ (np.arange(len(png)) == 50)).astype(np.uint8).tobytes(),
    ],
    ids=["empty", "cut off", "changed", "another kind", "a bit changed"],
)
def test_palette_png_that_is_none(broken):
    with pytest.raises(FrameError, match="expected a whole palette PNG"):
        decode_palette_png(broken(encode_palette_png(blobs(), CLASSES)))
