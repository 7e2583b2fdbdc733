from __future__ import annotations

import numpy as np
import pytest

from runtime.contract import ClassMap
from runtime.errors import ConfigError, FrameError
from runtime.masks.areas import class_areas, class_indices, free_space, label_areas

CLASSES = ClassMap(names=("road", "sky", "car"), palette_rgb=((128, 64, 128), (0, 0, 255), (0, 255, 0)))


def test_areas_count_every_pixel():
    mask = np.random.default_rng(4).integers(0, 3, (48, 64)).astype(np.uint8)
    expected = {name: int((mask == label).sum()) for label, name in enumerate(CLASSES.names)}
    assert class_areas(mask, CLASSES) == expected


def test_a_class_that_is_not_there():
    assert class_indices(CLASSES, ["sky", "road"]) == {0, 1}
    with pytest.raises(ConfigError, match="expected names among road, sky, car, got tram"):
        class_indices(CLASSES, ["tram"])


def test_free_space_is_measured_from_the_lower_edge():
    mask = np.ones((10, 9), np.uint8)
    mask[4:, 6:] = 0  # free on the right, 6 rows high
    mask[9, :6] = 0
    mask[2, 6:] = 0  # beyond the obstacle: does not count
    space = free_space(mask, {0}, sectors=3)
    assert space.reach.tolist() == pytest.approx([0.1, 0.1, 0.6])
    assert (space.ahead, round(space.heading, 3)) == (pytest.approx(0.1), 0.667)


def test_free_space_of_all_and_of_nothing():
    assert free_space(np.zeros((8, 8), np.uint8), {0}, sectors=4).heading == pytest.approx(-0.25)
    space = free_space(np.zeros((8, 8), np.uint8), {1}, sectors=4)
    assert (space.ahead, space.heading) == (0.0, 0.0)


def test_more_sectors_than_pixels():
    with pytest.raises(ConfigError, match="1 to 4 sectors"):
        free_space(np.zeros((4, 4), np.uint8), {0}, sectors=5)


def test_free_space_of_a_mask_of_another_type():
    with pytest.raises(FrameError, match=r"expected a class mask, uint8 \(H, W\), got int64"):
        free_space(np.zeros((4, 4), np.int64), {0})


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (7, 1), (48, 64), (721, 1281)])
@pytest.mark.parametrize("pixels_a_run", [1, 3, 15, 17, 300])
def test_counts_runs_and_single_pixels_alike(size_hw: tuple[int, int], pixels_a_run: int) -> None:
    pixels = size_hw[0] * size_hw[1]
    labels = np.random.default_rng(0).integers(0, 256, -(-pixels // pixels_a_run), np.uint8)
    mask = labels.repeat(pixels_a_run)[:pixels].reshape(size_hw)
    assert np.array_equal(label_areas(mask), np.bincount(mask.reshape(-1), minlength=256))
    assert np.array_equal(label_areas(np.asfortranarray(mask)), label_areas(mask))
    assert label_areas(mask).dtype == np.int64
