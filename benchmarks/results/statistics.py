"""How sure a number is: percentiles, paired ratios and 95 % bootstrap intervals.

Samples of one round share the machine's mood, and so do neighbouring rounds. What is drawn again and again
is therefore whole rounds, and several neighbours at a time: the circular block bootstrap (Politis and Romano,
"A circular block-resampling procedure for stationary data", 1992). Drawing single samples as if they knew
nothing of each other would give intervals that are far too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000
NEIGHBOURS = 3  # rounds that are drawn together
CALM_PERCENT = 10  # of the rounds
IMAGES_TOGETHER = 10  # neighbouring images of a drive show almost the same

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number and the interval that holds the true one in 95 of 100 measurements like this."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the number and its interval, as tables show them."""
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f})"


def resampled(
    units: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    block: int = NEIGHBOURS,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Floats:
    """Return a statistic of many measurements that might as well have been made.

    Args:
        units: (units, …), what is drawn with replacement along the first axis.
        statistic: (resamples, units, …) → (resamples, …).
        block: neighbouring units that are drawn together.
        seed: of the draws.
        resamples: how many.

    Returns:
        What the statistic gives.
    """
    count = len(units)
    block = min(block, max(1, count // 4))  # else there would be too few blocks to differ
    starts = np.random.default_rng(seed).integers(0, count, (resamples, -(-count // block)))
    places = (starts[:, :, None] + np.arange(block)) % count  # (resamples, blocks, block)
    return statistic(units[places.reshape(resamples, -1)[:, :count]])


def interval(draws: Floats, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the middle part of `resampled` values."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def percentile(rounds_ms: Floats, percent: float) -> float:
    """Return a percentile of all samples together; it is one of them (nearest rank).

    Args:
        rounds_ms: (rounds, samples).
        percent: from 0 to 100.

    >>> percentile(np.array([[1.0, 2.0], [3.0, 4.0]]), 50)
    2.0
    """
    return float(_pooled(rounds_ms[None], percent)[0])


def percentile_estimate(rounds_ms: Floats, percent: float) -> Estimate:
    """Return `percentile` and how sure it is."""
    draws = resampled(rounds_ms, lambda rounds: _pooled(rounds, percent))
    return Estimate(percentile(rounds_ms, percent), *interval(draws))


def _pooled(rounds_ms: Floats, percent: float) -> Floats:
    """Return a percentile of each: (draws, rounds, samples) → (draws,)."""
    pooled = rounds_ms.reshape(len(rounds_ms), -1)
    return np.asarray(np.quantile(pooled, percent / 100, axis=1, method="inverted_cdf"))


def round_medians(rounds_ms: Floats) -> Floats:
    """Return the median of each round: (rounds, samples) → (rounds,)."""
    return np.asarray(np.median(rounds_ms, axis=1))


def paired_ratio(candidate_ms: Floats, reference_ms: Floats) -> Estimate:
    """Return how many times as long the candidate takes as the reference, by pairs of rounds.

    Both ran in every round, so what slowed a round slowed both and is gone from their ratio.

    Args:
        candidate_ms: (rounds, samples).
        reference_ms: (rounds, samples) of the same rounds.

    >>> slow_second_round = np.array([[1.0], [10.0], [1.0], [1.0]])
    >>> paired_ratio(2 * slow_second_round, slow_second_round)
    Estimate(value=2.0, low=2.0, high=2.0)
    """
    ratios = round_medians(candidate_ms) / round_medians(reference_ms)
    draws = resampled(ratios, lambda rounds: np.median(rounds, axis=1))
    return Estimate(float(np.median(ratios)), *interval(draws))


def steady_ratio(
    old_ms: Floats,
    old_yardstick_ms: Floats,
    new_ms: Floats,
    new_yardstick_ms: Floats,
    *,
    percent: float,
    confidence: float,
) -> Estimate:
    """Return new / old of a percentile of the calm rounds, each over the yardstick of its run.

    What disturbs a measurement makes it slower and never faster, and seldom lasts for all of it: the calm
    rounds of two runs are alike where their medians are not (Chen and Revels, "Robust benchmarking in noisy
    environments", 2016, take the minimum for the same reason). So the calmest tenth of the rounds says what a
    network takes, and the calmest tenth of the yardstick's, what the machine could do that day.

    Args:
        old_ms: (rounds, samples).
        old_yardstick_ms: (rounds, samples) of the same rounds.
        new_ms: (rounds, samples).
        new_yardstick_ms: (rounds, samples) of the same rounds.
        percent: of each round's samples.
        confidence: of the interval.

    >>> steady = np.full((8, 3), 10.0)
    >>> steady_ratio(steady, steady, 3 * steady, 2 * steady, percent=50, confidence=0.99)
    Estimate(value=1.5, low=1.5, high=1.5)
    """
    old, new = _rounds(old_ms, old_yardstick_ms, percent), _rounds(new_ms, new_yardstick_ms, percent)
    draws = resampled(new, _calm, seed=1) / resampled(old, _calm, seed=0)
    return Estimate(float((_calm(new[None]) / _calm(old[None]))[0]), *interval(draws, confidence))


def _rounds(rounds_ms: Floats, yardstick_ms: Floats, percent: float) -> Floats:
    """Return a row a round: its percentile and its yardstick, (rounds, 2)."""
    return np.stack([np.percentile(rounds_ms, percent, axis=1), round_medians(yardstick_ms)], axis=1)


def _calm(draws: Floats) -> Floats:
    """Return time over yardstick: (draws, rounds, 2) → (draws,)."""
    times, yardsticks = np.percentile(draws, CALM_PERCENT, axis=1).T
    return np.asarray(times / yardsticks)


def mean_iou(counts: Floats) -> Floats:
    """Return the mean IoU of images pooled, over the classes that occur.

    Args:
        counts: (…, images, 2, classes), intersection and union in pixels.

    Returns:
        (…), from 0 to 1.
    """
    intersection, union = np.moveaxis(counts.sum(axis=-3), -2, 0)  # (…, classes) each
    occurs = union > 0
    return np.asarray((intersection / np.where(occurs, union, 1)).sum(axis=-1) / occurs.sum(axis=-1))


def miou_points(candidate: Floats, reference: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """Return by how many points of 100 one mIoU exceeds another on the same images.

    Args:
        candidate: (images, 2, classes), intersections and unions.
        reference: the same of the other model.
        confidence: of the interval, which tells how far other pieces of the same recordings would move it.
    """
    both = np.stack([candidate, reference], axis=1)  # (images, candidate or reference, 2, classes)

    def points(draws: Floats) -> Floats:
        return np.asarray(100 * (mean_iou(draws[:, :, 0]) - mean_iou(draws[:, :, 1])))

    draws = resampled(both, points, block=IMAGES_TOGETHER)
    return Estimate(float(points(both[None])[0]), *interval(draws, confidence))
