"""The temperature at which a network's confidences are as often right as they say.

Guo et al. 2017, "On Calibration of Modern Neural Networks": one number that divides all logits, chosen for
the smallest negative log-likelihood on data that the network was not trained on. It changes no class.
"""

from __future__ import annotations

import math

import numpy as np

from training.evaluation.pixels import PixelSample

LOWEST, HIGHEST = 0.1, 10.0
_GOLDEN = (math.sqrt(5) - 1) / 2


def fit_temperature(sample: PixelSample) -> float:
    """Return the temperature of the smallest negative log-likelihood, from 0.1 to 10.

    Args:
        sample: pixels with probabilities at temperature 1.

    Raises:
        DatasetError: no labelled pixel.

    >>> sample = PixelSample(images=1)
    >>> sure = np.full((2, 1, 4), 0.02, np.float32)
    >>> sure[0] = 0.98
    >>> sample.add(np.array([[0, 0, 0, 1]], np.uint8), sure)  # right three times of four
    >>> round(fit_temperature(sample), 2)  # ln(0.98 / 0.02) / ln(3 / 1)
    3.54
    """
    logits, labels = sample.pixels()

    def loss(log_temperature: float) -> float:
        scaled = logits / np.float32(math.exp(log_temperature))
        scaled -= scaled.max(axis=1, keepdims=True)
        normal = np.log(np.exp(scaled).sum(axis=1, dtype=np.float64))
        return float((normal - scaled[np.arange(len(labels)), labels]).mean())

    # It has one minimum, so golden sections find it.
    low, high = math.log(LOWEST), math.log(HIGHEST)
    first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_first, at_second = loss(first), loss(second)
    while high - low > 1e-4:
        if at_first < at_second:
            high, second, at_second = second, first, at_first
            first = high - _GOLDEN * (high - low)
            at_first = loss(first)
        else:
            low, first, at_first = first, second, at_second
            second = low + _GOLDEN * (high - low)
            at_second = loss(second)
    return round(math.exp((low + high) / 2), 4)
