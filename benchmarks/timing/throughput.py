"""The whole loop's frames a second over the network's alone.

Frames a second of `run` with an overlay, reading and decoding included, over those of nothing but
`session.run` with the same threads. The rest of the work is hidden as far as there are cores for it. Each
round measures the network alone, the loop, and the loop without overlap, one right after the other, since a
machine's speed drifts; the ratio is the median of the rounds' own ratios. Each loop opens the source itself
and counts its frames once it is under way, so that opening does not count where a recording is long enough.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from benchmarks.machine.description import Machine, this_machine
from benchmarks.timing.frames import SYNTHETIC, open_endless
from runtime.base.flags import check_fields, flag, nested
from runtime.errors import SourceError
from runtime.loop import run
from runtime.masks.overlay import Overlay
from runtime.network.options import ModelOptions
from runtime.network.session import NetworkSession
from runtime.segmenter import Segmenter
from runtime.sources import Source, without_secrets

TARGET = 0.95
_WARMUP_RUNS = 10  # of the network alone, and of each loop


@dataclass(frozen=True)
class ThroughputConfig:
    """What to measure, and how."""

    model: ModelOptions = nested(ModelOptions)
    source: str = flag("as of runtime.camera; a recording starts anew at its end", default=SYNTHETIC)
    frames: int = flag("frames of each part of a round", default=200, at_least=2)
    rounds: int = flag("network alone, loop, and loop without overlap; medians count", default=5, at_least=1)
    spin: bool = flag("keep the threads of the network busy while they wait", default=False)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


@dataclass(frozen=True)
class Round:
    """Frames a second, measured one right after the other."""

    network_fps: float
    loop_fps: float
    serial_fps: float


@dataclass(frozen=True)
class ThroughputReport:
    """A measurement.

    Attributes:
        source: what was read, free of passwords.
        model: file name.
        frame_size_hw: height and width of the frames in pixels.
        threads: worker threads of the network.
        rounds: as they came.
        loop_ratio: median of the loop's frames a second over those of the network alone.
        serial_ratio: the same for the loop without overlap.
        machine: the computer and the software.
    """

    source: str
    model: str
    frame_size_hw: tuple[int, int]
    threads: int
    rounds: tuple[Round, ...]
    loop_ratio: float
    serial_ratio: float
    machine: Machine


def measure_throughput(
    config: ThroughputConfig, open_loops_source: Callable[[], Source] | None = None
) -> ThroughputReport:
    """Measure.

    Args:
        config: how.
        open_loops_source: opens one that does not end, in place of the config's; called for every loop.

    Raises:
        EdgesegError: as `Segmenter`, `NetworkSession` and `run`; SourceError where the source ends.
    """
    options, name = config.model, without_secrets(config.source)
    how: Any = {"threads": options.threads, "spin": config.spin, "provider": options.provider}
    open_loops_source = open_loops_source or (lambda: open_endless(config.source))
    with Segmenter(options.file, **how) as segment:
        session = NetworkSession(options.file, **how)
        with open_loops_source() as source:
            image_bgr = next(run(source, segment, max_frames=1)).frame.image_bgr
        fitted = segment.fit(image_bgr).image_bgr
        infer = session.run if session.contract.output.has_logits else session.run_mask
        for _ in range(_WARMUP_RUNS):
            infer(fitted)

        def network_fps() -> float:
            started_s = time.perf_counter()
            for _ in range(config.frames):
                infer(fitted)
            return config.frames / (time.perf_counter() - started_s)

        def loop_fps(overlap: bool) -> float:
            overlay = Overlay(segment.contract.classes)
            ends_s = []
            with open_loops_source() as source, closing(run(source, segment, overlap=overlap)) as steps:
                for step in islice(steps, _WARMUP_RUNS + config.frames):
                    overlay.draw(step.frame.image_bgr, step.segmentation.mask, f"{step.age_ms:.1f} ms")
                    ends_s.append(time.perf_counter())
            if len(ends_s) < _WARMUP_RUNS + config.frames:
                raise SourceError(f"{name}: expected {config.frames} frames a round, it ended before")
            return config.frames / (ends_s[-1] - ends_s[_WARMUP_RUNS - 1])

        rounds = tuple(
            Round(network_fps(), loop_fps(overlap=True), loop_fps(overlap=False))
            for _ in range(config.rounds)
        )
        return ThroughputReport(
            source=name,
            model=options.file.name,
            frame_size_hw=(image_bgr.shape[0], image_bgr.shape[1]),
            threads=segment.threads,
            rounds=rounds,
            loop_ratio=statistics.median(each.loop_fps / each.network_fps for each in rounds),
            serial_ratio=statistics.median(each.serial_fps / each.network_fps for each in rounds),
            machine=this_machine(),
        )
