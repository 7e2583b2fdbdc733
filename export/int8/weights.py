"""Rounds a convolution's weights to int8, with a scale for each output channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)  # zero would divide by zero


@dataclass(frozen=True)
class QuantizedWeights:
    """A convolution's weights in int8.

    Attributes:
        values: int8 (O, I, kh, kw).
        scale: float32 (O,).
    """

    values: NDArray[np.int8]
    scale: NDArray[np.float32]

    @property
    def dequantized(self) -> NDArray[np.float32]:
        """Float32 (O, I, kh, kw), what the integers stand for."""
        return self.values * self.scale.reshape(-1, 1, 1, 1)


def quantize_weights(
    weights: NDArray[np.float32], limit: int, smallest_scale: NDArray[np.float32] | None = None
) -> QuantizedWeights:
    """Round weights to multiples of a scale of their output channel.

    Args:
        weights: float32 (O, I, kh, kw).
        limit: largest magnitude of a rounded weight.
        smallest_scale: float32 (O,), what a channel's scale must not fall below.

    >>> quantize_weights(np.array([[[[0.5, -1.0]]]], np.float32), 127).values.tolist()
    [[[[64, -127]]]]
    """
    scale = np.abs(weights).max(axis=(1, 2, 3)) / limit  # (O,)
    scale = np.maximum(scale, SMALLEST_SCALE if smallest_scale is None else smallest_scale)
    scale = scale.astype(np.float32)
    values = np.rint(weights / scale.reshape(-1, 1, 1, 1))
    return QuantizedWeights(np.clip(values, -limit, limit).astype(np.int8), scale)
