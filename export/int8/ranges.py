"""Calibration: the range that each activation takes on pictures, by min-max, percentile or entropy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph.probe import Watch, watch
from runtime.base.progress import tracked
from runtime.errors import ParityError
from runtime.frame import Image

METHODS = ("minmax", "percentile", "entropy")
PERCENTILE = 99.99  # share of the values that keep inside; half of the others is cut off at each end
_BINS = 2048
_LEVELS = 128  # of one sign of an 8-bit number; a tensor without negative values has twice as many
_STEP = 16


@dataclass(frozen=True)
class ActivationRanges:
    """What calibration found.

    Attributes:
        limits: lowest and highest value of each tensor that int8 should tell apart; zero lies between.
        channel_means: mean of each channel, float64 (C,), of the tensors that have four axes.
    """

    limits: dict[str, tuple[float, float]]
    channel_means: dict[str, NDArray[np.float64]]


def calibrate(
    model: ir.Model, names: Sequence[str], images_bgr: Sequence[Image], method: str
) -> ActivationRanges:
    """Run a float32 graph on pictures and watch some of its tensors.

    Args:
        model: takes uint8 (1, H, W, 3).
        names: float32 tensors to watch.
        images_bgr: uint8 (H, W, 3) of the graph's input size.
        method: one of `METHODS`. "entropy" chooses the clipping that loses least information about the
            distribution (Kullback-Leibler divergence; Migacz, "8-bit inference with TensorRT", 2017).

    Raises:
        ParityError: a tensor with values that are not finite.
    """
    run = watch(model, names)
    low = dict.fromkeys(names, 0.0)
    high = dict.fromkeys(names, 0.0)
    sums: dict[str, NDArray[np.float64]] = {}
    for image in tracked(images_bgr, "ranges"):
        for name, values in run(image[None]).items():
            lowest, highest = float(values.min()), float(values.max())
            if not np.isfinite([lowest, highest]).all():
                raise ParityError(
                    f"calibration: expected finite values in {name}, got NaN or infinity; train and export "
                    "the network again"
                )
            low[name], high[name] = min(low[name], lowest), max(high[name], highest)
            if values.ndim == 4:
                mean = values.mean(axis=(0, 2, 3), dtype=np.float64)  # (C,)
                sums[name] = sums[name] + mean if name in sums else mean
    limits = {name: (low[name], high[name]) for name in names}
    if method != "minmax":
        counts = _histograms(run, limits, images_bgr, is_magnitude=method == "entropy")
        narrow = _entropy_limits if method == "entropy" else _percentile_limits
        limits = {name: narrow(counts[name], limits[name]) for name in names}
    means = {name: total / len(images_bgr) for name, total in sums.items()}
    return ActivationRanges(limits, means)


def _histograms(
    run: Watch,
    limits: dict[str, tuple[float, float]],
    images_bgr: Sequence[Image],
    *,
    is_magnitude: bool,
) -> dict[str, NDArray[np.int64]]:
    """Count the values of each tensor, (2048,), between its limits or, as magnitudes, from zero."""
    counts = {name: np.zeros(_BINS, np.int64) for name in limits}
    for image in tracked(images_bgr, "histograms"):
        for name, values in run(image[None]).items():
            low, high = limits[name]
            if high == low:
                continue
            if is_magnitude:
                values, low, high = np.abs(values), 0.0, max(high, -low)
            place = ((values - np.float32(low)) * np.float32(_BINS / (high - low))).astype(np.int64)
            counts[name] += np.bincount(np.clip(place.ravel(), 0, _BINS - 1), minlength=_BINS)
    return counts


def _percentile_limits(counts: NDArray[np.int64], limits: tuple[float, float]) -> tuple[float, float]:
    """Cut off the rarest values at both ends."""
    low, high = limits
    if not counts.any():
        return limits
    share = np.cumsum(counts) / counts.sum()
    tail = (1 - PERCENTILE / 100) / 2
    width = (high - low) / _BINS
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1 - tail))
    return min(low + first * width, 0.0), max(low + (last + 1) * width, 0.0)


def _entropy_limits(counts: NDArray[np.int64], limits: tuple[float, float]) -> tuple[float, float]:
    """Clip magnitudes where the levels of 8 bits describe the distribution best."""
    low, high = limits
    counts = counts.copy()
    counts[0] = 0  # the zeros that a Relu leaves are exact at every scale, and would outweigh all others
    if not counts.any():
        return limits
    levels = _LEVELS if low < 0 else 2 * _LEVELS
    divergences = {stop: _divergence(counts, stop, levels) for stop in range(levels, _BINS + 1, _STEP)}
    stop = min(divergences, key=lambda stop: divergences[stop])
    threshold = max(high, -low) * stop / _BINS
    return max(low, -threshold), min(high, threshold)


def _divergence(counts: NDArray[np.int64], stop: int, levels: int) -> float:
    """Return the Kullback-Leibler divergence of clipped counts from the same in few levels."""
    kept = counts[:stop].astype(np.float64)
    if not kept.any():
        return float("inf")
    level = np.arange(stop) * levels // stop
    filled = kept > 0
    sums = np.bincount(level, kept, levels)
    share = sums / np.maximum(np.bincount(level, filled, levels), 1)
    coarse = np.where(filled, share[level], 0.0)
    clipped = kept.copy()
    clipped[-1] += counts[stop:].sum()
    clipped, coarse = clipped / clipped.sum(), coarse / coarse.sum()
    here = clipped > 0
    return float((clipped[here] * np.log(clipped[here] / np.maximum(coarse[here], 1e-12))).sum())
