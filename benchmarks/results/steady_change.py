"""How much longer something takes than in an earlier run, with the machine's own change taken out.

What disturbs a measurement makes it slower and never faster, and seldom lasts for all of it: the calm rounds
of two runs are alike where their medians are not (Chen and Revels, "Robust benchmarking in noisy
environments", 2016, take the minimum for the same reason). So the calmest tenth of the rounds says what a
network takes, and the calmest tenth of the yardstick's, what the machine could do that day.
"""

from __future__ import annotations

import numpy as np

from benchmarks.results.statistics import Estimate, Floats, interval, resampled, round_medians

CALM_PERCENT = 10  # of the rounds


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
