import cv2
import numpy as np
import pytest

from runtime.errors import ContractError
from runtime.network import mask
from runtime.network.mask import class_mask, fit_mask


def assert_winners(logits, size_hw):
    """Every pixel's class is the highest by the book; two roundings of one float may part where two tie."""
    height, width = size_hw
    planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in logits[0]]
    mask = class_mask(logits, size_hw)
    assert mask.shape == size_hw
    assert mask.dtype == np.uint8
    assert np.mean(mask == np.argmax(planes, axis=0)) >= 0.9999
    won = np.take_along_axis(np.array(planes), mask[None].astype(np.intp), axis=0)[0]
    assert (won >= np.max(planes, axis=0) - 1e-4).all()


def smooth_logits(classes, height, width, seed=0):
    noise = np.random.default_rng(seed).normal(size=(classes, height, width)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(plane, (0, 0), 2) for plane in noise])[None]


@pytest.mark.parametrize("size_hw", [(90, 120), (360, 480), (719, 1279), (37, 50), (9, 300), (5, 4), (1, 1)])
@pytest.mark.parametrize("logits_hw", [(45, 60), (22, 30), (2, 2), (1, 6), (6, 1), (1, 1)])
def test_equals_upsampling_then_argmax(logits_hw, size_hw):
    assert_winners(smooth_logits(6, *logits_hw), size_hw)


def test_equals_upsampling_then_argmax_at_any_size():
    rng = np.random.default_rng(0)
    for seed in range(60):
        classes, *logits_hw = rng.integers((2, 1, 1), (21, 40, 40)).tolist()
        height, width = (rng.uniform(0.4, 9, 2) * logits_hw).astype(int) + 1
        assert_winners(smooth_logits(classes, *logits_hw, seed), (int(height), int(width)))


def test_equals_upsampling_then_argmax_where_no_class_can_be_skipped():
    assert_winners(np.random.default_rng(0).normal(size=(1, 11, 44, 60)).astype(np.float32), (360, 480))


@pytest.mark.parametrize("size_hw", [(360, 480), (719, 1279), (44, 120)])
def test_takes_whole_planes_of_noise(monkeypatch, size_hw):
    monkeypatch.setattr(mask, "_settle", lambda *_: pytest.fail("cell by cell"))
    assert_winners(np.random.default_rng(0).normal(size=(1, 20, 44, 60)).astype(np.float32), size_hw)


def test_settles_cells_where_few_classes_meet(monkeypatch):
    monkeypatch.setattr(mask, "_plain", lambda *_: pytest.fail("whole planes"))
    few = smooth_logits(20, 44, 60)
    few[:, 2:] -= 9
    assert_winners(few, (360, 480))


def test_finds_a_class_that_wins_at_no_corner_of_its_cell():
    # Along the row the first two fall and rise from 9 to 0; the third is 6 throughout and wins between.
    logits = np.array([[[[9, 0]], [[0, 9]], [[6, 6]]]], np.float32)
    assert class_mask(logits, (1, 8)).tolist() == [[0, 0, 0, 2, 2, 1, 1, 1]]


def test_gives_a_tie_to_the_lowest_class():
    assert not class_mask(np.zeros((1, 4, 3, 5), np.float32), (30, 50)).any()
    last_two = np.stack([np.full((3, 5), value, np.float32) for value in (0, 1, 2, 2)])[None]
    assert (class_mask(last_two, (30, 50)) == 2).all()


def test_one_class_fills_the_mask():
    assert not class_mask(np.ones((1, 1, 4, 4), np.float32), (16, 16)).any()


def test_holds_255_classes():
    logits = np.zeros((1, 255, 2, 2), np.float32)
    logits[0, 254] = 1
    assert (class_mask(logits, (8, 8)) == 254).all()


def test_two_masks_share_no_memory():
    first = class_mask(smooth_logits(3, 4, 4, seed=1), (40, 40))
    before = first.copy()
    second = class_mask(smooth_logits(3, 4, 4, seed=2), (40, 40))
    assert not np.shares_memory(first, second)
    assert np.array_equal(first, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_logits_that_are_not_finite(value):
    logits = np.zeros((1, 2, 3, 3), np.float32)
    logits[0, 1, 2, 0] = value
    with pytest.raises(ContractError, match="finite"):
        class_mask(logits, (6, 6))


def test_finished_mask_takes_the_nearest_pixels_class():
    mask = np.array([[1, 2], [3, 4]], np.uint8)
    assert fit_mask(mask, (4, 4)).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert fit_mask(mask, (2, 2)) is mask


def test_finished_mask_is_not_shifted_when_it_shrinks():
    mask = np.repeat(np.arange(3, dtype=np.uint8), 3)[None].repeat(9, axis=0)
    assert fit_mask(mask, (3, 3)).tolist() == [[0, 1, 2]] * 3
    ramp = np.arange(9, dtype=np.uint8)[None].repeat(9, axis=0)
    assert fit_mask(ramp, (3, 3)).tolist() == [[1, 4, 7]] * 3
