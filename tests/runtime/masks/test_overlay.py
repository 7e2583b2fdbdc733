from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES, ClassMap
from runtime.errors import ConfigError, FrameError
from runtime.masks.overlay import Overlay

TWO = ClassMap(names=("red", "green"), palette_rgb=((255, 0, 0), (0, 255, 0)))
TINY_HW = (8, 8)  # too small for any legend


@pytest.mark.parametrize("size_hw", [(1, 70_000), (300, 701), (1000, 128)])
def test_blends_a_large_picture_as_it_would_at_once(size_hw):
    rng = np.random.default_rng(0)
    image_bgr, mask = rng.integers(0, 256, (*size_hw, 3), np.uint8), rng.integers(0, 2, size_hw, np.uint8)
    overlay = Overlay(TWO)
    at_once = cv2.addWeighted(image_bgr, 0.7, overlay.colors(mask), 0.3, 0.0)
    assert np.array_equal(overlay.blend(image_bgr, mask, 0.3), at_once)


def test_half_and_half_is_off_by_less_than_a_level():
    every_level = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16).T.copy() % 12  # the last is no class
    overlay = Overlay(CAMVID_CLASSES)
    exactly = (every_level / 2.0) + overlay.colors(mask) / 2.0
    assert np.abs(overlay.blend(every_level, mask) - exactly).max() <= 0.5


def test_blends_the_class_colours_as_bgr():
    image = np.full((*TINY_HW, 3), 100, np.uint8)
    mask = np.zeros(TINY_HW, np.uint8)
    mask[:, 4:] = 1
    drawn = Overlay(TWO, alpha=0.4).draw(image, mask)
    assert drawn[0, 0].tolist() == [60, 60, 162]
    assert drawn[0, 7].tolist() == [60, 162, 60]


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, [100, 100, 100]), (1.0, [0, 0, 255])])
def test_alpha_at_its_ends(alpha, expected):
    image = np.full((*TINY_HW, 3), 100, np.uint8)
    assert Overlay(TWO, alpha).draw(image, np.zeros(TINY_HW, np.uint8))[3, 3].tolist() == expected


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_that_cannot_be(alpha):
    with pytest.raises(ConfigError, match="alpha from 0 to 1"):
        Overlay(TWO, alpha)


def test_ignored_pixels_are_darkened():
    image = np.full((*TINY_HW, 3), 100, np.uint8)
    drawn = Overlay(TWO).draw(image, np.full(TINY_HW, TWO.ignore_index, np.uint8))
    assert drawn[0, 0].tolist() == [50, 50, 50]


def test_picture_and_mask_stay_as_they_are():
    image = np.full((360, 480, 3), 100, np.uint8)
    mask = np.ones((360, 480), np.uint8)
    drawn = Overlay(CAMVID_CLASSES).draw(image, mask, "12.3 ms")
    assert drawn.dtype == np.uint8
    assert not np.shares_memory(drawn, image)
    assert (image == 100).all()
    assert (mask == 1).all()


@pytest.mark.parametrize("size_hw", [(240, 320), (360, 480), (720, 1280)])
def test_legend_shows_every_colour_along_the_bottom(size_hw):
    overlay = Overlay(CAMVID_CLASSES, alpha=0.0)
    drawn = overlay.draw(np.zeros((*size_hw, 3), np.uint8), np.zeros(size_hw, np.uint8))
    top = round(0.6 * size_hw[0])
    assert not drawn[:top].any()
    for red, green, blue in CAMVID_CLASSES.palette_rgb:
        assert (drawn[top:] == (blue, green, red)).all(axis=2).any()


def test_frame_too_small_for_a_legend_goes_without():
    assert (
        not Overlay(CAMVID_CLASSES)
        .draw(np.zeros((90, 120, 3), np.uint8), np.full((90, 120), 255, np.uint8))
        .any()
    )


def test_legend_follows_a_changed_frame_size():
    overlay = Overlay(CAMVID_CLASSES)
    for size_hw in ((360, 480), (240, 320), (360, 480)):
        image, mask = np.zeros((*size_hw, 3), np.uint8), np.zeros(size_hw, np.uint8)
        assert np.array_equal(overlay.draw(image, mask), Overlay(CAMVID_CLASSES).draw(image, mask))


def test_more_classes_than_fit_go_without_legend():
    names = tuple(f"class number {index}" for index in range(250))
    many = ClassMap(names=names, palette_rgb=((0, 0, 0),) * 250)
    assert not Overlay(many).draw(np.zeros((240, 320, 3), np.uint8), np.zeros((240, 320), np.uint8)).any()


def test_caption_is_drawn_in_the_top_left_corner():
    image, mask = np.zeros((360, 480, 3), np.uint8), np.zeros((360, 480), np.uint8)
    overlay = Overlay(TWO)
    changed = (overlay.draw(image, mask, "12.3 ms") != overlay.draw(image, mask)).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert len(rows) > 0
    assert rows.max() < 36
    assert columns.max() < 240


def test_caption_wider_than_the_frame_is_cut_off():
    assert Overlay(TWO).draw(np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.uint8), "x" * 99).any()


def test_takes_a_view_of_a_larger_frame():
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    view, mask = frame[8:40, 8:40], np.zeros((32, 32), np.uint8)
    assert np.array_equal(Overlay(TWO).draw(view, mask), Overlay(TWO).draw(view.copy(), mask))


@pytest.mark.parametrize(
    "mask",
    [np.zeros((8, 9), np.uint8), np.zeros((8, 8), np.int64), np.zeros((8, 8, 1), np.uint8)],
    ids=["size", "dtype", "rank"],
)
def test_mask_that_does_not_fit(mask):
    with pytest.raises(FrameError, match=r"expected a mask of the image's size, uint8 \(8, 8\)"):
        Overlay(TWO).draw(np.zeros((8, 8, 3), np.uint8), mask)


def test_grey_picture():
    with pytest.raises(FrameError, match=r"cv2\.COLOR_GRAY2BGR"):
        Overlay(TWO).draw(
            cv2.cvtColor(np.zeros((8, 8, 3), np.uint8), cv2.COLOR_BGR2GRAY), np.zeros((8, 8), np.uint8)
        )
