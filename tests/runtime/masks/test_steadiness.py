"""Steadied logits of pictures whose motion is known."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from runtime import segmenter
from runtime.errors import ConfigError
from runtime.masks.steadiness import SURE, Steadiness
from runtime.segmenter import Segmenter

STRIDE = 4
TEXTURE = cv2.GaussianBlur(
    np.random.default_rng(1).integers(0, 256, (400, 800, 3), dtype=np.uint8), (0, 0), 3
)
TEXTURE = cv2.normalize(TEXTURE, None, 0, 255, cv2.NORM_MINMAX)


def view(left, top=100, height=176, width=240):
    """A camera's view of a wall that has a class for each half; its logits are not sure."""
    picture = TEXTURE[top : top + height, left : left + width]
    columns = np.arange(left, left + width, STRIDE) + STRIDE / 2
    second = np.broadcast_to(columns > 300, (height // STRIDE, width // STRIDE))
    return picture, np.where(np.stack([~second, second]), 1.0, 0.0)[None].astype(np.float32)


def noisy(logits, seed, by=1.5):
    return logits + np.random.default_rng(seed).normal(0, by, logits.shape).astype(np.float32)


@pytest.mark.parametrize("step", [0, 1, 5])
def test_noise_of_a_still_or_moving_camera_is_averaged_away(step):
    steady = Steadiness()
    wrong = {"plain": [], "steady": []}
    for number in range(12):
        picture, logits = view(120 + step * number)
        shaken = noisy(logits, number)
        steadied = steady(picture, shaken)
        if number >= 4:
            wrong["plain"].append((shaken.argmax(1) != logits.argmax(1)).mean())
            wrong["steady"].append((steadied.argmax(1) != logits.argmax(1)).mean())
    assert np.mean(wrong["steady"]) < 0.5 * np.mean(wrong["plain"])


def test_what_moves_on_its_own_leaves_no_ghost():
    steady, thing = Steadiness(), 255 - TEXTURE[:40, 500:540]
    ghosts, missed = [], []
    for number in range(16):
        picture, _ = view(120)
        picture, label = picture.copy(), np.zeros((176, 240), bool)
        place = np.s_[60:100, 20 + 8 * number : 60 + 8 * number]
        picture[place], label[place] = thing, True
        share = cv2.resize(label.astype(np.float32), (60, 44), interpolation=cv2.INTER_AREA)
        logits = np.stack([1 - share, share])[None] * np.float32(2.0)
        found = steady(picture, logits)[0].argmax(0).astype(bool)
        exact = logits[0].argmax(0).astype(bool)
        if number >= 2:
            ghosts.append((found & ~exact).sum() / exact.sum())
            missed.append((exact & ~found).sum() / exact.sum())
    assert np.mean(ghosts) < 0.1
    assert np.mean(missed) < 0.1


def test_what_is_sure_and_what_is_new_stay_as_they_are():
    steady, (picture, logits) = Steadiness(temperature=2.0), view(120)
    assert np.array_equal(steady(picture, noisy(logits, 0)), noisy(logits, 0))  # the first frame
    sure = noisy(logits, 1) + np.array([2 * SURE + 9, 0], np.float32)[:, None, None]
    np.testing.assert_allclose(steady(picture, sure), sure, atol=1e-5)
    elsewhere = np.full_like(picture, 30)
    np.testing.assert_allclose(steady(elsewhere, logits), logits, atol=1e-3)


@pytest.mark.parametrize(
    ("size_hw", "classes"), [((88, 240), 2), ((176, 240), 3), ((8, 12), 2), ((1, 1), 2), ((600, 900), 1)]
)
def test_another_size_or_other_classes_begin_anew(size_hw, classes):
    steady, (picture, logits) = Steadiness(), view(120)
    steady(picture, logits)
    small = cv2.resize(picture, size_hw[::-1])
    other = np.random.default_rng(0).normal(
        size=(1, classes, max(1, size_hw[0] // 4), max(1, size_hw[1] // 4))
    )
    for _ in range(2):
        steadied = steady(small, other.astype(np.float32))
        assert steadied.shape == other.shape
        np.testing.assert_allclose(steadied, other, rtol=1e-4, atol=1e-4)


def test_logits_that_are_not_finite_are_passed_on_once():
    steady, (picture, logits) = Steadiness(), view(120)
    steady(picture, logits)
    broken = logits.copy()
    broken[0, 0, 0, 0] = np.nan
    assert steady(picture, broken) is broken
    assert np.array_equal(steady(picture, logits), logits)
    assert np.isfinite(steady(picture, logits)).all()


def test_a_segmenter_steadies_masks_and_their_confidence(tiny_onnx):
    pictures = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    pictures[1:] = pictures[0] // 2 + pictures[1:] // 2
    with (
        Segmenter(tiny_onnx, confidence=True) as plain,
        Segmenter(tiny_onnx, confidence=True, steady=True) as steady,
    ):
        by_itself, steadied = [plain(one) for one in pictures], [steady(one) for one in pictures]
    assert np.array_equal(by_itself[0].mask, steadied[0].mask)
    assert all(one.mask.shape == (48, 64) and one.confidence.shape == (48, 64) for one in steadied)


@pytest.mark.parametrize(
    ("asked", "said"), [({"steady": True}, "steady"), ({"unknown_below": 0.5}, "confidence")]
)
def test_a_file_of_masks_only_has_nothing_to_steady(tiny, monkeypatch, asked, said):
    contract = tiny.tiny_contract().with_output(kind="mask")
    session = SimpleNamespace(contract=contract, provider="cpu", threads=1)
    monkeypatch.setattr(segmenter, "NetworkSession", lambda *_, **__: session)
    with pytest.raises(ConfigError, match=f"{said}: expected a file that gives logits"):
        Segmenter("masks.onnx", **asked)
