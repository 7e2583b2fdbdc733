"""Times two files against each other on this machine, so that a busy minute cannot favour one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from runtime.segmenter import Segmenter

_WARMUP = 3


@dataclass(frozen=True)
class PairedSpeed:
    """Medians of interleaved runs.

    Attributes:
        reference_ms: milliseconds of the first file's network.
        candidate_ms: milliseconds of the second file's network.
        ratio: median of candidate / reference over the pairs; below 1 the candidate is faster.
        pairs: how many runs of each were timed.
    """

    reference_ms: float
    candidate_ms: float
    ratio: float
    pairs: int


def paired_speed(reference: Path, candidate: Path, *, pairs: int, threads: int | None = None) -> PairedSpeed:
    """Run two files in turn, on the same noise picture and with the runtime's own session options.

    The order changes from pair to pair, since the second run of a pair finds other caches. Neither session's
    threads spin between its runs (see `runtime.network.session.session_options`), which would slow the
    other one.

    Args:
        reference: ONNX file with a contract.
        candidate: ONNX file with a contract, of the same input size.
        pairs: how many runs of each to time.
        threads: worker threads; None takes the physical cores, at most 4.

    Raises:
        EdgesegError: as `Segmenter`.
    """
    with Segmenter(reference, threads=threads) as first, Segmenter(candidate, threads=threads) as second:
        height, width = first.contract.input.size_hw
        picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        for _ in range(_WARMUP):
            first(picture)
            second(picture)
        times_ms: dict[Segmenter, list[float]] = {first: [], second: []}
        for pair in range(pairs):
            for segment in (first, second) if pair % 2 else (second, first):
                times_ms[segment].append(segment(picture).latency_ms["network"])
        ratios = [after / before for before, after in zip(times_ms[first], times_ms[second], strict=True)]
        return PairedSpeed(median(times_ms[first]), median(times_ms[second]), median(ratios), pairs)
