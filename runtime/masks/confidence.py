"""How sure a network is of each pixel: the probability of the class that won, as uint8.

Softmax is taken where the logits are, one in 16 pixels or fewer; a class's probability is then interpolated
to twice the logits' resolution, where the highest of all classes is kept, and that to the frame's size. So
between two sure classes the confidence falls towards a half, as that of interpolated logits does.

Networks are too sure of themselves. One number, the temperature that divides all logits, mends the most of it
(Guo et al. 2017, "On Calibration of Modern Neural Networks"); it changes no mask.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network.mask import WHOLE, Window, sample

CERTAIN = 255
UNKNOWN = 255  # the mask's value of pixels that are not sure enough


def winner_confidence(
    logits: NDArray[np.float32], size_hw: tuple[int, int], temperature: float = 1.0, window: Window = WHOLE
) -> Image:
    """Return the probability of the winning class at every pixel.

    Args:
        logits: float32 (1, C, h, w), finite.
        size_hw: height and width (H, W) of the frame in pixels.
        temperature: divides the logits; above 1 for a network that is too sure.
        window: the part of the logits that the frame covers.

    Returns:
        uint8 (H, W): 255 is a probability of 1.

    Raises:
        ConfigError: a temperature that is not above 0.

    >>> logits = np.array([[[[9.0, 9.0]], [[0.0, 0.0]]]], np.float32)  # (1, 2, 1, 2)
    >>> winner_confidence(logits, (1, 3)).tolist(), winner_confidence(logits, (1, 3), 9.0).tolist()
    ([[255, 255, 255]], [[186, 186, 186]])
    """
    _check_temperature(temperature)
    planes = logits[0]  # (C, h, w)
    scale = np.float32(1 / temperature)
    powers = np.exp((planes - planes.max(axis=0)) * scale)
    powers *= np.float32(CERTAIN) / powers.sum(axis=0)
    shares = np.rint(powers, out=powers).astype(np.uint8)
    height, width = size_hw
    finer_wh = (min(2 * planes.shape[2], width), min(2 * planes.shape[1], height))
    highest: NDArray[Any] = np.zeros(finer_wh[::-1], np.uint8)
    for share in shares:
        cv2.max(highest, cv2.resize(share, finer_wh, interpolation=cv2.INTER_LINEAR), dst=highest)
    return np.asarray(sample(highest, size_hw, window), np.uint8)


def mean_confidence(logits: NDArray[np.float32], temperature: float = 1.0, window: Window = WHOLE) -> float:
    """Return the mean probability of the winning class, over the logits and not over a frame's pixels.

    It is a little above the mean of `winner_confidence`, which falls between two sure classes, and takes a
    tenth of its time.

    Args:
        logits: float32 (1, C, h, w), finite.
        temperature: see `winner_confidence`.
        window: the part of the logits that counts.

    Raises:
        ConfigError: a temperature that is not above 0.

    >>> logits = np.array([[[[9.0, 0.0]], [[0.0, 0.0]]]], np.float32)  # (1, 2, 1, 2)
    >>> round(mean_confidence(logits), 3), round(mean_confidence(logits, window=Window(right=0.5)), 3)
    (0.75, 1.0)
    """
    _check_temperature(temperature)
    _, classes, rows, columns = logits.shape
    planes = logits.reshape(classes, -1)
    powers = planes - planes.max(axis=0)  # (C, h * w)
    if temperature != 1:
        powers *= np.float32(1 / temperature)
    cv2.exp(powers, dst=powers)
    shares = np.reciprocal(powers.sum(axis=0)).reshape(rows, columns)
    if window == WHOLE:
        return float(shares.mean())
    down, across = _covered(rows, window.top, window.bottom), _covered(columns, window.left, window.right)
    return float(np.average(shares, weights=down[:, None] * across))


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ConfigError(f"temperature: expected a number above 0, got {temperature}")


def _covered(samples: int, start: float, end: float) -> NDArray[np.float64]:
    """Return how much of each of some samples in a row lies between two shares of their length."""
    edges = np.clip(np.arange(samples + 1.0), start * samples, end * samples)
    return np.asarray(np.diff(edges))


def without_the_unsure(mask: Image, confidence: Image, below: float) -> Image:
    """Return a mask whose unsure pixels are 255, unknown.

    Args:
        mask: uint8 (H, W) class indices.
        confidence: uint8 (H, W), see `winner_confidence`.
        below: probability, 0 to 1, under which a pixel is unknown.

    >>> mask, confidence = np.array([[3, 3]], np.uint8), np.array([[200, 100]], np.uint8)
    >>> without_the_unsure(mask, confidence, 0.5).tolist()
    [[3, 255]]
    """
    least = least_confidence(below)
    _, unsure = cv2.threshold(confidence, least - 1, UNKNOWN, cv2.THRESH_BINARY_INV)
    return np.asarray(cv2.max(mask, unsure), np.uint8)


def least_confidence(below: float) -> int:
    """Return the lowest confidence, 0 to 255, that is not unknown where a probability is the limit."""
    return round(below * CERTAIN)
