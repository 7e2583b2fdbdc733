"""The temperature at which a network's confidences are as often right as they say.

Guo et al. 2017, "On Calibration of Modern Neural Networks": one number that divides all logits, chosen for
the smallest negative log-likelihood on data that the network was not trained on. It changes no class.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DatasetError
from runtime.frame import Image
from training.data.dataset import IGNORE

LOWEST, HIGHEST = 0.1, 10.0
_PIXELS_AN_IMAGE = 4000
_TINY = 1e-12
_GOLDEN = (math.sqrt(5) - 1) / 2


class TemperatureFit:
    """Collects pixels of labelled images, and finds the temperature.

    >>> fit = TemperatureFit()
    >>> sure = np.full((2, 1, 4), 0.02, np.float32)
    >>> sure[0] = 0.98
    >>> fit.add(np.array([[0, 0, 0, 1]], np.uint8), sure)  # right three times of four
    >>> round(fit.temperature(), 2)  # ln(0.98 / 0.02) / ln(3 / 1)
    3.54
    """

    def __init__(self, seed: int = 0) -> None:
        """Start without pixels."""
        self._rng = np.random.default_rng(seed)
        self._logits: list[NDArray[np.float64]] = []
        self._labels: list[NDArray[np.intp]] = []

    def add(self, label: Image, probabilities: NDArray[np.float32]) -> None:
        """Add some labelled pixels of an image, drawn at random.

        Args:
            label: uint8 (H, W), class indices or 255.
            probabilities: float32 (C, H, W) at temperature 1.
        """
        places = np.flatnonzero(label != IGNORE)
        if len(places) > _PIXELS_AN_IMAGE:
            places = self._rng.choice(places, _PIXELS_AN_IMAGE, replace=False)
        chosen = probabilities.reshape(len(probabilities), -1)[:, places].T.astype(np.float64)  # (n, C)
        self._logits.append(np.log(np.maximum(chosen, _TINY)))
        self._labels.append(label.reshape(-1)[places].astype(np.intp))

    def temperature(self) -> float:
        """Return the temperature of the smallest negative log-likelihood, from 0.1 to 10.

        Raises:
            DatasetError: no labelled pixel was added.
        """
        if not any(len(labels) for labels in self._labels):
            raise DatasetError("temperature: expected labelled pixels, found none; check the labels")
        logits, labels = np.concatenate(self._logits), np.concatenate(self._labels)

        def loss(log_temperature: float) -> float:
            scaled = logits / math.exp(log_temperature)
            scaled -= scaled.max(axis=1, keepdims=True)
            normal = np.log(np.exp(scaled).sum(axis=1))
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
