import itertools
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError
from training.data import Augment, AugmentConfig, Sample
from training.data.augment import add_noise, hue_saturation_matrix, style_curves, tone_curve

STILL = AugmentConfig(
    crop_hw=(48, 64),
    scale=(1, 1),
    flip=0,
    brightness=(0, 0),
    contrast=(1, 1),
    gamma=(1, 1),
    saturation=(1, 1),
    hue_deg=(0, 0),
    white_balance=(1, 1),
    noise=0,
    blur=0,
)


def apply(sample: Sample, seed: int = 0, **changes: object) -> Sample:
    return Augment(replace(STILL, **changes))(sample, np.random.default_rng(seed))  # type: ignore[arg-type]


def test_nothing_drawn_changes_nothing(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample()
    result = apply(sample)
    assert np.array_equal(result.image_bgr, sample.image_bgr)
    assert np.array_equal(result.label, sample.label)
    assert result.name == sample.name


def test_the_sample_is_left_as_it_was(make_sample: Callable[..., Sample]) -> None:
    sample, same = make_sample(), make_sample()
    result = Augment(AugmentConfig((48, 64), noise=1, blur=1))(sample, np.random.default_rng(0))
    still = apply(sample)
    result.label[:] = still.label[:] = 0
    result.image_bgr[:] = still.image_bgr[:] = 0
    assert np.array_equal(sample.image_bgr, same.image_bgr)
    assert np.array_equal(sample.label, same.label)


def test_a_flip_mirrors_image_and_label(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample()
    result = apply(sample, flip=1)
    assert np.array_equal(result.image_bgr, sample.image_bgr[:, ::-1])
    assert np.array_equal(result.label, sample.label[:, ::-1])


def test_a_crop_is_a_window_of_the_sample_and_every_place_occurs(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(size_hw=(5, 6))
    windows = {
        sample.image_bgr[top : top + 3, left : left + 4].tobytes(): (top, left)
        for top, left in itertools.product(range(3), range(3))
    }
    places = set()
    for seed in range(150):
        result = apply(sample, seed, crop_hw=(3, 4))
        top, left = windows[result.image_bgr.tobytes()]
        assert np.array_equal(result.label, sample.label[top : top + 3, left : left + 4])
        places.add((top, left))
    assert len(places) == 9


def test_a_small_image_is_padded_with_colour_and_void(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(size_hw=(2, 3))
    result = apply(sample, crop_hw=(4, 5), pad_bgr=(1, 2, 3), brightness=(50, 50))
    inside = result.label != 255
    assert inside.sum() == 6
    rows, columns = np.nonzero(inside)
    window = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert np.array_equal(result.label[window], sample.label)
    assert np.array_equal(result.image_bgr[window], cv2.add(sample.image_bgr, (50.0, 50.0, 50.0, 0.0)))
    assert (result.image_bgr[~inside] == (1, 2, 3)).all()


def test_a_wide_image_may_be_cut_in_width_and_padded_in_height(make_sample: Callable[..., Sample]) -> None:
    result = apply(make_sample(size_hw=(20, 200)), crop_hw=(40, 50))
    assert result.image_bgr.shape == (40, 50, 3)
    assert (result.label != 255).sum() == 20 * 50


def test_zooming_out_averages_pixels_and_picks_labels() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, :, 0] = [[0, 10, 100, 100], [20, 30, 200, 200]]
    label = np.array([[1, 1, 2, 2], [1, 1, 2, 2]], np.uint8)
    result = apply(Sample(image, label, ""), crop_hw=(1, 2), scale=(0.5, 0.5))
    assert result.image_bgr[:, :, 0].tolist() == [[15, 150]]
    assert result.label.tolist() == [[1, 2]]


def test_zooming_in_repeats_labels_and_interpolates_pixels() -> None:
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, :, 0] = [0, 100]
    result = apply(Sample(image, np.array([[3, 5]], np.uint8), ""), crop_hw=(2, 4), scale=(2, 2))
    # Pixel centres of the result lie at -0.25, 0.25, 0.75 and 1.25 of the source.
    assert result.image_bgr[:, :, 0].tolist() == [[0, 25, 75, 100]] * 2
    assert result.label.tolist() == [[3, 3, 5, 5]] * 2


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.3, 2.0])
def test_image_and_label_move_together(make_sample: Callable[..., Sample], scale: float) -> None:
    sample = make_sample()
    whole_blocks = Sample(cv2.merge([sample.label * np.uint8(20)] * 3), sample.label, "")
    for seed in range(5):
        result = apply(whole_blocks, seed, scale=(scale, scale), flip=0.5)
        inside = result.label != 255
        agrees = np.abs(result.image_bgr[:, :, 0][inside].astype(int) - 20 * result.label[inside]) <= 10
        assert agrees.mean() > 0.7  # all but the seams between blocks


def test_no_label_value_is_invented(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample()
    sample.label[sample.label > 1] = 10
    augment = Augment(AugmentConfig((40, 40)))
    for seed in range(50):
        assert set(np.unique(augment(sample, np.random.default_rng(seed)).label)) <= {0, 1, 10, 255}


def test_the_generator_decides_everything(make_sample: Callable[..., Sample]) -> None:
    augment = Augment(AugmentConfig((40, 56), noise=0.5, blur=0.5))
    seen = set()
    for seed in range(8):
        first = augment(make_sample(), np.random.default_rng(seed))
        again = augment(make_sample(), np.random.default_rng(seed))
        assert np.array_equal(first.image_bgr, again.image_bgr)
        assert np.array_equal(first.label, again.label)
        seen.add(first.image_bgr.tobytes())
    assert len(seen) == 8


@pytest.mark.parametrize("size_hw", [(1, 1), (7, 200), (333, 5)])
def test_any_size_becomes_the_crop(make_sample: Callable[..., Sample], size_hw: tuple[int, int]) -> None:
    augment = Augment(AugmentConfig((32, 48)))
    for seed in range(10):
        result = augment(make_sample(size_hw=size_hw), np.random.default_rng(seed))
        assert (result.image_bgr.shape, result.label.shape) == ((32, 48, 3), (32, 48))
        assert result.image_bgr.dtype == result.label.dtype == np.uint8


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"brightness": (20, 20)}, (60, 120, 220)),
        ({"brightness": (-50, -50)}, (0, 50, 150)),
        # (40, 100, 200) - 127.5, doubled, + 127.5, cut to 0..255
        ({"contrast": (2, 2)}, (0, 72, 255)),
        # 255 * (v / 255) ** 2
        ({"gamma": (2, 2)}, (6, 39, 157)),
        # luma of (40, 100, 200) is 0.114 * 40 + 0.587 * 100 + 0.299 * 200 = 123.06
        ({"saturation": (0, 0)}, (123, 123, 123)),
        ({"saturation": (0.5, 0.5)}, (82, 112, 162)),
        # Half a turn mirrors each channel at the luma: 206, 146, 46.
        ({"hue_deg": (180, 180)}, (206, 146, 46)),
    ],
)
def test_colour_changes_are_the_arithmetic_they_say(
    changes: dict[str, object], expected: tuple[int, int, int]
) -> None:
    image = np.full((48, 64, 3), (40, 100, 200), np.uint8)
    result = apply(Sample(image, np.zeros((48, 64), np.uint8), ""), **changes)
    assert np.abs(result.image_bgr.astype(int) - expected).max() <= 1  # each of two steps rounds once
    assert (result.label == 0).all()


def test_hue_and_saturation_keep_luma_and_leave_grey_alone() -> None:
    matrix = hue_saturation_matrix(37, 1.4)
    luma = np.array([0.114, 0.587, 0.299])
    assert luma @ matrix == pytest.approx(luma)
    assert matrix @ np.ones(3) == pytest.approx(np.ones(3))


def test_tone_curves_never_fall() -> None:
    assert (np.diff(tone_curve(0.8, 1.3, -20).astype(int)) >= 0).all()


@pytest.mark.parametrize("sigma", [3.0, 10.0])
def test_noise_has_the_asked_spread_and_no_bias(sigma: float) -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = add_noise(grey, sigma, np.random.default_rng(0)).astype(float) - 128
    assert noise.std() == pytest.approx(sigma, rel=0.05)
    assert abs(noise.mean()) < 0.1


def test_noise_does_not_wrap_around_at_the_ends() -> None:
    black_and_white = np.zeros((50, 100, 3), np.uint8)
    black_and_white[:, 50:] = 255
    noisy = add_noise(black_and_white, 10.0, np.random.default_rng(0))
    assert noisy[:, :50].max() < 60
    assert noisy[:, 50:].min() > 195


def test_blur_smooths(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample()
    result = apply(sample, blur=1, blur_sigma=(1.5, 1.5))
    assert (
        np.diff(result.image_bgr.astype(int), axis=1).std()
        < np.diff(sample.image_bgr.astype(int), axis=1).std()
    )
    assert np.array_equal(result.label, sample.label)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_hw": (0, 480)}, "crop_hw: expected positive"),
        ({"flip": 1.5}, "flip: expected a probability from 0 to 1, got 1.5"),
        ({"noise": float("nan")}, "noise: expected a probability"),
        ({"scale": (2.0, 0.5)}, r"scale: expected \(low, high\)"),
        ({"scale": (0.0, 1.0)}, "scale: expected .* 0.01 <= low"),
        ({"gamma": (0.0, 1.0)}, "gamma: expected"),
        ({"contrast": (-1.0, 1.0)}, "contrast: expected"),
        ({"saturation": (float("nan"), 1.0)}, "saturation: expected"),
        ({"brightness": (0.0, float("inf"))}, "brightness: expected"),
        ({"pad_bgr": (0, 0, 256)}, "pad_bgr: expected values from 0 to 255"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(STILL, **changes)  # type: ignore[arg-type]


def test_white_balance_scales_each_channel_by_itself(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample()
    sample.image_bgr[:] = 100
    pixels = {tuple(apply(sample, seed, white_balance=(0.5, 1.5)).image_bgr[0, 0]) for seed in range(20)}
    assert len(pixels) == 20
    assert all(len(set(pixel)) == 3 for pixel in pixels)
    assert 50 <= min(min(pixel) for pixel in pixels) < 60
    assert 140 < max(max(pixel) for pixel in pixels) <= 150


def test_no_colour_strength_leaves_every_colour_alone(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(0)
    config = AugmentConfig(sample.label.shape, scale=(1, 1), flip=0).with_color_strength(0)
    for seed in range(5):
        changed = Augment(config)(sample, np.random.default_rng(seed))
        np.testing.assert_array_equal(changed.image_bgr, sample.image_bgr)


def test_more_colour_strength_changes_colours_more(make_sample: Callable[..., Sample]) -> None:
    sample = make_sample(0)
    distances = []
    for strength in (0.5, 1, 2):
        augment = Augment(
            AugmentConfig(sample.label.shape, scale=(1, 1), flip=0).with_color_strength(strength)
        )
        changed = [augment(sample, np.random.default_rng(seed)).image_bgr.astype(int) for seed in range(20)]
        distances.append(np.mean([np.abs(image - sample.image_bgr).mean() for image in changed]))
    assert distances[0] < distances[1] < distances[2]


def test_a_donor_gives_its_light(make_sample: Callable[..., Sample]) -> None:
    sample, dark = make_sample(0), make_sample(1)
    dark.image_bgr[:] //= 4
    rng = np.random.default_rng(0)
    means = [Augment(STILL)(sample, rng, dark).image_bgr.mean() for _ in range(30)]
    assert dark.image_bgr.mean() - 2 < min(means) < dark.image_bgr.mean() + 15
    assert sample.image_bgr.mean() - 15 < max(means) < sample.image_bgr.mean() + 2


def test_all_of_a_style_is_its_mean_and_deviation(make_sample: Callable[..., Sample]) -> None:
    image, donor = make_sample(0).image_bgr, make_sample(1).image_bgr
    donor = (donor // 3 + 60).astype(np.uint8)
    styled = cv2.LUT(image, style_curves(image, donor, 1.0))[::8, ::8].reshape(-1, 3)
    expected = donor[::8, ::8].reshape(-1, 3)
    np.testing.assert_allclose(styled.mean(axis=0), expected.mean(axis=0), atol=1)
    np.testing.assert_allclose(styled.std(axis=0), expected.std(axis=0), atol=1)
    unchanged = cv2.LUT(image, style_curves(image, donor, 0.0))
    np.testing.assert_array_equal(unchanged, image)
