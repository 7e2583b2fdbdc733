"""What more threads and larger batches bring, in turns, so that a drifting machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine.usage import CpuMeter, CpuUse
from benchmarks.timing.frames import FrameTimer
from runtime import Segmenter
from runtime.base.percentiles import percentiles
from runtime.frame import Image
from runtime.network.resize import fit_image
from runtime.network.session import NetworkSession

BATCHES = (1, 2, 4, 8)
ROUNDS = 10
SETTLE = 3  # runs at the start of each turn that do not count: the one before had the caches


@dataclass(frozen=True)
class ThreadPoint:
    """One number of worker threads.

    Attributes:
        threads: how many.
        total_ms: p50, p90, p99 and max from a frame to its mask and overlay.
        cpu: processor time of the whole process meanwhile.
    """

    threads: int
    total_ms: dict[str, float]
    cpu: CpuUse


@dataclass(frozen=True)
class BatchPoint:
    """One size of a batch.

    Attributes:
        batch: images in a run of the network.
        network_ms: p50, p90, p99 and max of a run, all its images together.
    """

    batch: int
    network_ms: dict[str, float]

    @property
    def ms_an_image(self) -> float:
        """Milliseconds of the median run, shared by its images."""
        return self.network_ms["p50"] / self.batch


@dataclass(frozen=True)
class Scaling:
    """What threads and batches bring.

    Attributes:
        threads: one point each.
        batches: one point each; empty where the file takes one image a run.
        why_no_batches: in words; empty where there are some.
    """

    threads: tuple[ThreadPoint, ...]
    batches: tuple[BatchPoint, ...]
    why_no_batches: str


def thread_counts(cpus: int, default: int) -> tuple[int, ...]:
    """Return the numbers of threads to try: powers of two, the default, and all hardware threads.

    >>> thread_counts(6, 3)
    (1, 2, 3, 4, 6)
    """
    powers = {2**exponent for exponent in range(cpus.bit_length()) if 2**exponent <= cpus}
    return tuple(sorted(powers | {default, cpus}))


def scale(
    model: Path,
    counts: Sequence[int],
    threads: int,
    images_bgr: Sequence[Image],
    frames: int,
    provider: str = "cpu",
) -> Scaling:
    """Measure a model file at each number of threads and, if it takes them, with batches.

    Args:
        model: ONNX file with a contract.
        counts: numbers of worker threads to try.
        threads: with which batches run.
        images_bgr: uint8 (H, W, 3), cycled.
        frames: that count of each point, at least; a whole number of rounds.
        provider: execution provider by short name.

    Raises:
        EdgesegError: as `Segmenter`.
    """
    a_round = -(-frames // ROUNDS)
    with ExitStack() as stack:
        timers = {
            count: FrameTimer(stack.enter_context(Segmenter(model, threads=count, provider=provider)))
            for count in counts
        }
        totals_ms: dict[int, list[float]] = {count: [] for count in counts}
        meters = {count: CpuMeter() for count in counts}
        for _ in range(ROUNDS):
            for count, timer in timers.items():
                for index in range(SETTLE):
                    timer(images_bgr[index % len(images_bgr)])
                with meters[count]:
                    for index in range(a_round):
                        totals_ms[count].append(timer(images_bgr[index % len(images_bgr)])["total"])
    batches, why_not = _scale_batches(model, threads, images_bgr, a_round, provider)
    return Scaling(
        threads=tuple(
            ThreadPoint(count, percentiles(totals_ms[count]), meters[count].use(ROUNDS * a_round))
            for count in counts
        ),
        batches=batches,
        why_no_batches=why_not,
    )


def _scale_batches(
    model: Path, threads: int, images_bgr: Sequence[Image], a_round: int, provider: str
) -> tuple[tuple[BatchPoint, ...], str]:
    """Return a point a batch, or none and why."""
    session = NetworkSession(model, threads=threads, provider=provider)
    described = session.contract.input
    if not described.is_dynamic:
        return (), "this file takes one image a run; export it with --dynamic"
    run = session.run if session.contract.output.has_logits else session.run_mask
    fitted = [fit_image(image_bgr, described.size_hw, described.fit) for image_bgr in images_bgr]
    stacks = {
        batch: np.stack([fitted[index % len(fitted)] for index in range(batch)]) for batch in BATCHES
    }  # each (N, H, W, 3)
    samples_ms: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    for _ in range(ROUNDS):
        for batch, images in stacks.items():
            for index in range(SETTLE + max(1, a_round // batch)):
                started_ns = time.perf_counter_ns()
                run(images)
                if index >= SETTLE:
                    samples_ms[batch].append((time.perf_counter_ns() - started_ns) / 1e6)
    return tuple(BatchPoint(batch, percentiles(samples_ms[batch])) for batch in BATCHES), ""
