"""Latencies as percentiles; nothing is averaged and no outlier is clipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

PERCENTS = (50, 90, 99)
FINE_PERCENTS = (50, 90, 99, 99.9)  # the last is the maximum where there are fewer than 1000 samples


def percentiles(samples_ms: Iterable[float], percents: Sequence[float] = PERCENTS) -> dict[str, float]:
    """Return percentiles and max, each in milliseconds and each one of the samples (nearest rank).

    Args:
        samples_ms: at least one.
        percents: which, to a tenth.

    Raises:
        ValueError: no samples.

    >>> percentiles(range(1, 101))
    {'p50': 50.0, 'p90': 90.0, 'p99': 99.0, 'max': 100.0}
    """
    return _percentiles(Counter(samples_ms), percents)


class LatencyLog:
    """Collects milliseconds a stage, frame after frame.

    Samples are counted by whole microsecond, so the log of a robot that runs for weeks stays small.

    >>> log = LatencyLog()
    >>> log.add({"network": 20.0, "mask": 1.0})
    >>> log.add({"network": 22.0, "mask": 1.5})
    >>> log.summary()["network"]
    {'p50': 20.0, 'p90': 22.0, 'p99': 22.0, 'max': 22.0}
    """

    def __init__(self) -> None:
        """Start with no samples."""
        self._counts_us: dict[str, Counter[int]] = {}

    def add(self, latency_ms: Mapping[str, float]) -> None:
        """Add one sample to each stage that is named; stages keep the order they first came in."""
        for stage, milliseconds in latency_ms.items():
            self._counts_us.setdefault(stage, Counter())[round(milliseconds * 1000)] += 1

    def summary(self, percents: Sequence[float] = PERCENTS) -> dict[str, dict[str, float]]:
        """Return `percentiles` a stage; empty before the first sample."""
        return {
            stage: _percentiles({microseconds / 1000: n for microseconds, n in counts.items()}, percents)
            for stage, counts in self._counts_us.items()
        }


def _percentiles(counts: Mapping[float, int], percents: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of values that each occur some number of times."""
    if not counts:
        raise ValueError("percentiles: expected at least one sample, got none")
    values = sorted(counts)
    up_to = np.cumsum([counts[value] for value in values])
    # Smallest value that at least q of all samples do not exceed; whole numbers keep the rank exact.
    ranks = [-(-round(10 * percent) * int(up_to[-1]) // 1000) for percent in percents]
    result = {
        f"p{percent:g}": float(values[int(np.searchsorted(up_to, rank))])
        for percent, rank in zip(percents, ranks, strict=True)
    }
    return {**result, "max": float(values[-1])}
