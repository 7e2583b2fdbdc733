from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES
from runtime.errors import ConfigError
from runtime.masks.confidence import UNKNOWN, mean_confidence, winner_confidence, without_the_unsure
from runtime.masks.overlay import Overlay
from runtime.network.mask import Window, class_mask


def smooth_logits(seed: int = 0, classes: int = 5, size_hw: tuple[int, int] = (24, 32)) -> np.ndarray:
    """Logits of regions with soft borders, float32 (1, C, h, w)."""
    noise = np.random.default_rng(seed).normal(size=(*size_hw, classes)).astype(np.float32)
    return 40 * np.ascontiguousarray(cv2.GaussianBlur(noise, (0, 0), 3).transpose(2, 0, 1))[None]


def exact(logits: np.ndarray, size_hw: tuple[int, int], temperature: float) -> np.ndarray:
    """Softmax of bilinearly upsampled logits, pixel by pixel in float64, written for this test."""
    _, _, rows, columns = logits.shape
    height, width = size_hw
    y = np.clip((np.arange(height) + 0.5) * rows / height - 0.5, 0, rows - 1)
    x = np.clip((np.arange(width) + 0.5) * columns / width - 0.5, 0, columns - 1)
    top, left = np.minimum(y.astype(int), rows - 2), np.minimum(x.astype(int), columns - 2)
    down, right = (y - top)[:, None], (x - left)[None, :]
    planes = logits[0].astype(np.float64) / temperature
    wide = (
        planes[:, top][:, :, left] * (1 - down) * (1 - right)
        + planes[:, top][:, :, left + 1] * (1 - down) * right
        + planes[:, top + 1][:, :, left] * down * (1 - right)
        + planes[:, top + 1][:, :, left + 1] * down * right
    )
    powers = np.exp(wide - wide.max(axis=0))
    return (powers / powers.sum(axis=0)).max(axis=0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("size_hw", [(96, 128), (90, 121), (192, 256), (24, 32)])
def test_it_is_near_the_softmax_of_interpolated_logits(size_hw, temperature):
    logits = smooth_logits()
    expected = exact(logits, size_hw, temperature)
    found = winner_confidence(logits, size_hw, temperature) / 255
    assert found.shape == size_hw
    assert np.abs(found - expected).mean() < 0.03
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.94


def test_between_two_sure_classes_it_falls_towards_a_half():
    logits = np.zeros((1, 2, 4, 8), np.float32)
    logits[0, 0, :, :4] = logits[0, 1, :, 4:] = 20.0
    confidence = winner_confidence(logits, (16, 32))
    assert confidence[:, :8].min() == confidence[:, -8:].min() == 255
    assert confidence[8, 15:17].max() <= 0.76 * 255


def test_of_a_window_it_is_that_part_of_the_whole():
    logits = smooth_logits()
    whole = winner_confidence(logits, (96, 128)).astype(int)
    part = winner_confidence(logits, (48, 64), window=Window(0.25, 0.75, 0.25, 0.75))
    assert np.abs(part - whole[24:72, 32:96]).max() <= 4


def test_a_higher_temperature_is_less_sure_and_changes_no_class():
    logits = smooth_logits(1)
    means = [winner_confidence(logits, (96, 128), t).mean() for t in (0.5, 1.0, 2.0, 5.0)]
    assert means == sorted(means, reverse=True)
    assert (class_mask(logits / 5.0, (96, 128)) == class_mask(logits, (96, 128))).mean() > 0.9999


def test_logits_of_any_size_overflow_nothing():
    logits = smooth_logits() * 1e6
    assert winner_confidence(logits, (48, 64)).max() == 255
    assert np.isfinite(winner_confidence(-logits, (48, 64))).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_its_mean_over_logits_is_softmaxs_and_near_that_over_pixels(temperature):
    logits = smooth_logits(2)
    powers = np.exp(logits[0].astype(np.float64) / temperature)
    expected = (powers.max(axis=0) / powers.sum(axis=0)).mean()
    mean = mean_confidence(logits, temperature)
    assert mean == pytest.approx(expected, rel=1e-5)
    assert 0 < mean - winner_confidence(logits, (96, 128), temperature).mean() / 255 < 0.05
    assert mean_confidence(logits * 1e6) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("window", "weights"),
    [
        (Window(top=0.25, bottom=0.75), ([0, 1, 1, 0], [1, 1, 1, 1])),
        (Window(top=0.125, bottom=1.0), ([0.5, 1, 1, 1], [1, 1, 1, 1])),
        (Window(left=0.4, right=0.45, bottom=0.5), ([1, 1, 0, 0], [0, 0.2, 0, 0])),
    ],
)
def test_its_mean_over_a_window_weighs_what_the_window_covers(window, weights):
    logits = 3 * np.random.default_rng(3).normal(size=(1, 5, 4, 4)).astype(np.float32)
    powers = np.exp(logits[0].astype(np.float64))
    shares = powers.max(axis=0) / powers.sum(axis=0)
    assert np.ptp(shares) > 0.1
    expected = np.average(shares, weights=np.outer(*weights))
    assert mean_confidence(logits, window=window) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_cannot_be_is_refused(temperature):
    with pytest.raises(ConfigError, match="temperature: expected a number above 0"):
        winner_confidence(smooth_logits(), (48, 64), temperature)
    with pytest.raises(ConfigError, match="temperature: expected a number above 0"):
        mean_confidence(smooth_logits(), temperature)


@pytest.mark.parametrize(
    ("below", "expected"), [(0.0, [0, 1, 2, 3]), (0.5, [255, 255, 2, 3]), (1.0, [255, 255, 255, 3])]
)
def test_what_is_less_probable_becomes_unknown(below, expected):
    mask, confidence = np.array([[0, 1, 2, 3]], np.uint8), np.array([[0, 127, 128, 255]], np.uint8)
    assert without_the_unsure(mask, confidence, below).tolist() == [expected]
    assert mask.tolist() == [[0, 1, 2, 3]]


def test_unknown_pixels_are_hatched_in_the_overlay_and_no_others():
    overlay = Overlay(CAMVID_CLASSES)
    image, mask = np.full((120, 160, 3), 80, np.uint8), np.zeros((120, 160), np.uint8)
    plain = overlay.draw(image, mask, hatch_unknown=True)
    mask[20:60, 20:100] = UNKNOWN
    drawn = overlay.draw(image, mask, hatch_unknown=True)
    outside = mask != UNKNOWN
    assert (drawn[outside] == plain[outside]).all()
    white = (drawn[20:60, 20:100] == 255).all(axis=2)
    assert 0.05 < white.mean() < 0.4
