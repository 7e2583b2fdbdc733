import numpy as np
import pytest

from runtime.errors import ConfigError, FrameError
from runtime.masks.selection import layout, select_frames


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 3), (48, 64), (100, 31), (360, 480), (720, 1280)])
def test_a_layout_is_the_share_of_each_class_in_each_cell(size_hw):
    mask = np.random.default_rng(0).integers(0, 3, size_hw, dtype=np.uint8)
    shares = layout(mask, 3).reshape(3, 4, 3).sum(axis=2)
    assert set(shares.ravel().tolist()) <= {0, 254, 255, 256}  # 0 where a cell has no pixel
    rows, columns = (
        np.array_split(np.arange(side), cells) for side, cells in zip(size_hw, (3, 4), strict=True)
    )
    if min(size_hw) >= 48:
        rows, columns = np.array_split(np.arange(size_hw[0]), 3), np.array_split(np.arange(size_hw[1]), 4)
        exact = [(mask[np.ix_(y, x)] == 1).mean() for y in rows for x in columns]
        assert layout(mask, 3).reshape(12, 3)[:, 1] / 255 == pytest.approx(exact, abs=0.12)


def test_void_is_no_class():
    assert layout(np.full((48, 64), 255, np.uint8), 3).sum() == 0
    with pytest.raises(FrameError, match="expected a class mask"):
        layout(np.zeros((4, 4, 3), np.uint8), 3)


def clusters(rng):
    """Ten scenes, each of thirty frames that are almost alike."""
    return np.repeat(rng.integers(0, 256, (10, 24)), 30, axis=0) + rng.integers(0, 2, (300, 24))


def test_each_scene_is_taken_once_before_any_is_taken_twice():
    rng = np.random.default_rng(1)
    chosen = select_frames(rng.random(300), clusters(rng), 10)
    assert sorted(chosen // 30) == list(range(10))


def test_what_is_known_is_taken_last():
    rng = np.random.default_rng(2)
    features = clusters(rng)
    chosen = select_frames(np.ones(300), features, 10, known=features[: 5 * 30])
    assert sorted(chosen[:5] // 30) == [5, 6, 7, 8, 9]
    assert len(set(chosen)) == 10


def test_of_a_scene_the_uncertain_frame_is_taken():
    features = np.array([[0], [0], [100], [101]])
    assert select_frames(np.array([1, 2, 3, 4]), features, 2).tolist() == [3, 1]


def test_equal_frames_are_taken_once():
    assert select_frames(np.arange(5), np.zeros((5, 3)), 5).tolist() == [4]
    assert select_frames(np.zeros(0), np.zeros((0, 3)), 5).tolist() == []


@pytest.mark.parametrize(
    ("shapes", "count", "said"),
    [
        (((3,), (3, 2), (1, 2)), 0, "at least 1 frame"),
        (((3,), (4, 2), (1, 2)), 1, "expected .N,. uncertainties"),
        (((3,), (3, 2), (1, 5)), 1, r"known features \(K, 2\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(shapes, count, said):
    uncertainty, features, known = map(np.zeros, shapes)
    with pytest.raises(ConfigError, match=said):
        select_frames(uncertainty, features, count, known)
