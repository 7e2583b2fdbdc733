"""How much longer something takes than in an earlier run, with the machine's own change taken out.

A yardstick ran in every round of both runs. Were all work slowed alike, dividing by it would do. It is not:
when another program takes half of the cores, plain convolutions on all threads lose half of their speed and
a small network less. So each time is held against a power of the yardstick's, the elasticity, which the
rounds themselves tell where the yardstick moved far; where it hardly moved, its noise would be taken for a
lack of effect, and the elasticity stays at 1.
"""

from __future__ import annotations

import numpy as np

from benchmarks.statistics import Estimate, Floats, interval, resampled, round_medians

TRUSTED_SWING = 0.07  # standard deviation of the yardstick's logarithm that counts as much as the prior of 1


def steady_ratio(
    old_ms: Floats,
    old_yardstick_ms: Floats,
    new_ms: Floats,
    new_yardstick_ms: Floats,
    *,
    percent: float,
    confidence: float,
) -> Estimate:
    """Return new / old of a percentile of the rounds.

    Args:
        old_ms: (rounds, samples).
        old_yardstick_ms: (rounds, samples) of the same rounds.
        new_ms: (rounds, samples).
        new_yardstick_ms: (rounds, samples) of the same rounds.
        percent: of each round's samples.
        confidence: of the interval.

    >>> steady = np.full((8, 3), 10.0)
    >>> halved = steady_ratio(steady, steady, 2.2 * steady, 2 * steady, percent=50, confidence=0.99)
    >>> round(halved.value, 6)
    1.1
    """
    old, new = _logarithms(old_ms, old_yardstick_ms, percent), _logarithms(new_ms, new_yardstick_ms, percent)
    value = float(_ratios(old[None], new[None])[0])
    draws = _ratios(resampled(old, _all, seed=0), resampled(new, _all, seed=1))
    return Estimate(value, *interval(draws, confidence))


def _logarithms(rounds_ms: Floats, yardstick_ms: Floats, percent: float) -> Floats:
    """Return a row a round: its percentile and its yardstick, both as logarithms."""
    return np.log(np.stack([np.percentile(rounds_ms, percent, axis=1), round_medians(yardstick_ms)], axis=1))


def _ratios(old: Floats, new: Floats) -> Floats:
    """Return the ratio of each pair of draws: (draws, rounds, 2) twice → (draws,)."""
    products = np.zeros(len(old))
    squares = np.zeros(len(old))
    for draws in (old, new):  # each around its own mean, so that what changed between them has no say
        time, yardstick = np.moveaxis(draws - draws.mean(axis=1, keepdims=True), 2, 0)
        products += (time * yardstick).sum(axis=1)
        squares += (yardstick * yardstick).sum(axis=1)
    prior = (old.shape[1] + new.shape[1]) * TRUSTED_SWING**2
    elasticity = ((products + prior) / (squares + prior))[:, None]
    before, after = (np.median(draws[:, :, 0] - elasticity * draws[:, :, 1], axis=1) for draws in (old, new))
    return np.asarray(np.exp(after - before))


def _all(draws: Floats) -> Floats:
    return draws
