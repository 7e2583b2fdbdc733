"""Where a frame's time goes in several files at several sizes, in turns since a machine's speed drifts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

from benchmarks.machine.description import Machine, this_machine
from benchmarks.timing.frames import FrameTimer, drive_frames
from benchmarks.timing.latency import FRAMES_A_BLOCK, SETTLE, LatencyConfig
from runtime.base.percentiles import LatencyLog

STAGE_SIZES_HW = ((480, 640), (720, 1280), (1080, 1920))


@dataclass(frozen=True)
class StageRow:
    """One file on frames of one size.

    Attributes:
        frame_size_hw: height and width of the frames in pixels.
        model: file name.
        p50_ms: median milliseconds of each of `frames.STAGES`.
    """

    frame_size_hw: tuple[int, int]
    model: str
    p50_ms: dict[str, float]


@dataclass(frozen=True)
class StageReport:
    """A measurement; `frames` of each row, `threads` of each network."""

    rows: tuple[StageRow, ...]
    frames: int
    threads: int
    machine: Machine


def measure_stages(
    files: Sequence[Path], config: LatencyConfig, sizes_hw: Sequence[tuple[int, int]] = STAGE_SIZES_HW
) -> StageReport:
    """Time files block after block, one beside the other, size after size.

    Args:
        files: at least one.
        config: threads, provider, frames and warm-up of each.
        sizes_hw: height and width of the frames in pixels.

    Raises:
        EdgesegError: as `Segmenter`.
    """
    rows = []
    with ExitStack() as stack:
        segmenters = [stack.enter_context(replace(config.model, model=file).open()) for file in files]
        timers = [FrameTimer(segment) for segment in segmenters]
        for size_hw in sizes_hw:
            images = cycle(drive_frames(size_hw))
            logs = [LatencyLog() for _ in files]
            for timer in timers:
                for _ in range(config.warmup):
                    timer(next(images))
            for first in range(0, config.frames, FRAMES_A_BLOCK):
                for timer, log in zip(timers, logs, strict=True):
                    for _ in range(SETTLE):
                        timer(next(images))
                    for _ in range(min(FRAMES_A_BLOCK, config.frames - first)):
                        log.add(timer(next(images)))
            for file, log in zip(files, logs, strict=True):
                p50_ms = {stage: row["p50"] for stage, row in log.summary().items()}
                rows.append(StageRow(size_hw, file.name, p50_ms))
        return StageReport(tuple(rows), config.frames, segmenters[0].threads, this_machine())
