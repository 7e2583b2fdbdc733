"""Statistics against values worked out by hand, and intervals against how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.results.statistics import (
    Estimate,
    interval,
    mean_iou,
    miou_points,
    paired_ratio,
    percentile,
    percentile_estimate,
    resampled,
    round_medians,
)
from runtime.base.percentiles import percentiles

ONE_TO_HUNDRED = np.random.default_rng(0).permutation(np.arange(1.0, 101.0)).reshape(20, 5)


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (90, 90), (99, 99), (100, 100)])
def test_a_percentile_is_the_sample_of_that_rank(percent: float, value: float) -> None:
    found = percentile_estimate(ONE_TO_HUNDRED, percent)
    assert found.value == percentile(ONE_TO_HUNDRED, percent) == value
    assert found.low <= value <= found.high


def test_percentiles_are_those_of_the_runtime() -> None:
    rounds_ms = np.random.default_rng(1).lognormal(1, 0.5, (7, 13))
    expected = percentiles(rounds_ms.ravel().tolist())
    found = {f"p{percent}": percentile(rounds_ms, percent) for percent in (50, 90, 99)}
    assert found == {name: expected[name] for name in found}


def test_one_slow_frame_is_in_the_highest_percentile() -> None:
    rounds_ms = np.ones((10, 10))
    rounds_ms[3, 4] = 500
    assert percentile(rounds_ms, 100) == 500
    assert percentile_estimate(rounds_ms, 50) == Estimate(1.0, 1.0, 1.0)


def test_medians_of_rounds_by_hand() -> None:
    assert round_medians(np.array([[1.0, 9.0, 2.0], [4.0, 4.0, 8.0]])).tolist() == [2, 4]


def test_a_ratio_is_free_of_what_slows_whole_rounds() -> None:
    rng = np.random.default_rng(2)
    speed = rng.lognormal(0, 0.5, (30, 1))  # rounds differ by half
    noise = rng.lognormal(0, 0.02, (2, 30, 9))
    ratio = paired_ratio(7 * speed * noise[0], 5 * speed * noise[1])
    assert ratio.value == pytest.approx(1.4, rel=0.01)
    assert ratio.high - ratio.low < 0.03


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(correlation: float) -> None:
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(300):
        steps = rng.normal(size=40)
        for index in range(1, 40):
            steps[index] = correlation * steps[index - 1] + steps[index]
        draws = resampled(steps, lambda units: np.median(units, axis=1), seed=trial, resamples=400)
        low, high = interval(draws)
        held += low <= 0 <= high
    assert 0.84 <= held / 300 <= 0.99


def test_single_draws_of_dependent_samples_would_claim_too_much() -> None:
    """What blocks are for: without them the interval of drifting rounds is much too narrow."""
    rng = np.random.default_rng(4)
    drift = np.cumsum(rng.normal(size=60))
    widths = []
    for block in (1, 8):
        low, high = interval(resampled(drift, lambda units: np.median(units, axis=1), block=block))
        widths.append(high - low)
    assert widths[1] > 1.4 * widths[0]


def test_the_same_samples_give_the_same_interval() -> None:
    assert percentile_estimate(ONE_TO_HUNDRED, 90) == percentile_estimate(ONE_TO_HUNDRED, 90)


def test_an_interval_is_the_middle_of_what_was_drawn() -> None:
    assert interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert interval(np.arange(101.0), 0.8) == pytest.approx((10, 90))


def test_points_are_of_the_same_images() -> None:
    rng = np.random.default_rng(5)
    unions = rng.integers(500, 1500, (60, 4)).astype(float)
    shares = rng.uniform(0.2, 0.9, (60, 4))  # images differ by far more than the models do
    better, worse = (np.stack([unions * (shares + more), unions], axis=1) for more in (0.012, 0.0))
    points = miou_points(better, worse)
    assert points.value == pytest.approx(1.2)
    assert points.low == pytest.approx(1.2)
    assert points.high == pytest.approx(1.2)
    assert miou_points(worse, better).value == pytest.approx(-1.2)


def test_mean_iou_pools_pixels_and_leaves_out_classes_that_do_not_occur() -> None:
    counts = np.array([[[3, 0, 0], [4, 2, 0]], [[1, 1, 0], [4, 2, 0]]], float)  # (images, 2, classes)
    assert float(mean_iou(counts)) == pytest.approx((4 / 8 + 1 / 4) / 2)
    assert mean_iou(np.stack([counts, counts])).shape == (2,)
