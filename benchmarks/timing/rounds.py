"""Measures models in turns, so that a machine that drifts hits all of them alike."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine.conv_rate import ConvRate
from benchmarks.machine.cpu_times import cpu_times, shares
from benchmarks.machine.noise import Noise, noise_of
from benchmarks.machine.system_files import SystemFiles
from benchmarks.results.results import Rounds
from benchmarks.subjects.entrants import Entrant
from benchmarks.timing.endless import rendered_drive
from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.sources import Source, open_source

PROGRESS_EVERY_S = 5.0
YARDSTICK_SETTLE, YARDSTICK_RUNS = 1, 2  # before each model's turn: not counted, counted
SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class RoundsConfig:
    """How many rounds of how many frames; see `benchmarks.results.results.Settings`."""

    rounds: int = 30
    frames_a_round: int = 15
    settle: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.rounds < 4 or self.frames_a_round < 1 or self.settle < 0:
            raise ConfigError(
                "rounds: expected at least 4 rounds of at least 1 frame and no negative settling, got "
                f"{self.rounds} of {self.frames_a_round}, {self.settle} to settle"
            )


@dataclass(frozen=True)
class RoundsResult:
    """Every sample.

    Attributes:
        stages_ms: of each entrant, in their order.
        yardstick_ms: of the plain convolutions.
        noise: what they and the kernel's counters say about the machine meanwhile.
        orders: labels in the order they ran, a round.
        frames_sha256: of the first round's pixels.
        frame_size_hw: height and width of the frames in pixels.
    """

    stages_ms: tuple[dict[str, Rounds], ...]
    yardstick_ms: Rounds
    noise: Noise
    orders: tuple[tuple[str, ...], ...]
    frames_sha256: str
    frame_size_hw: tuple[int, int]


def run_rounds(
    entrants: Sequence[Entrant], yardstick: ConvRate, frames: str, config: RoundsConfig
) -> RoundsResult:
    """Run every entrant in every round, on the same frames and in a shuffled order.

    Each turn begins with a few frames that do not count, since the one before left its own data in the
    caches, as no camera's loop has it, and so do the yardstick's. All other samples are kept. Frames are
    decoded before the round.

    Args:
        entrants: at least one.
        yardstick: runs before each turn, so that its rounds show what the machine did.
        frames: a video, pictures or "synthetic", as `runtime.sources.open_source` takes them.
        config: how many.

    Raises:
        ConfigError: frames of a camera or stream, or of different sizes.
        EdgesegError: as `open_source` and the entrants.
    """
    rng = np.random.default_rng(config.seed)
    kept: list[dict[str, list[tuple[float, ...]]]] = [{name: [] for name in one.stages} for one in entrants]
    yardstick_ms: list[tuple[float, ...]] = []
    orders: list[tuple[str, ...]] = []
    digest = hashlib.sha256()
    size_hw: tuple[int, int] | None = None
    told_s = time.monotonic()
    batches = frame_batches(frames, config.settle + config.frames_a_round)
    yardstick.run_ms()  # its own warm-up
    before = cpu_times(SystemFiles())
    for number in range(config.rounds):
        images_bgr = next(batches)
        size_hw = _same_size(images_bgr, size_hw, frames)
        if number == 0:
            for image_bgr in images_bgr:
                digest.update(image_bgr.tobytes())
        order = rng.permutation(len(entrants)).tolist()
        orders.append(tuple(entrants[place].file.label for place in order))
        yardstick_round: list[float] = []
        for place in order:
            entrant = entrants[place]
            runs_ms = [yardstick.run_ms() for _ in range(YARDSTICK_SETTLE + YARDSTICK_RUNS)]
            yardstick_round += runs_ms[YARDSTICK_SETTLE:]
            timed = [entrant.time(image_bgr) for image_bgr in images_bgr][config.settle :]
            for stage, rounds_ms in kept[place].items():
                rounds_ms.append(tuple(round(sample[stage], 5) for sample in timed))
        yardstick_ms.append(tuple(round(sample, 5) for sample in yardstick_round))
        if time.monotonic() - told_s > PROGRESS_EVERY_S:
            told_s = time.monotonic()
            print(f"{number + 1} of {config.rounds} rounds", file=sys.stderr, flush=True)
    taken = shares(before, cpu_times(SystemFiles()))
    assert size_hw is not None
    return RoundsResult(
        stages_ms=tuple({name: tuple(rounds_ms) for name, rounds_ms in one.items()} for one in kept),
        yardstick_ms=tuple(yardstick_ms),
        noise=noise_of([one for of_round in yardstick_ms for one in of_round], taken),
        orders=tuple(orders),
        frames_sha256=digest.hexdigest(),
        frame_size_hw=size_hw,
    )


def frame_batches(frames: str, size: int) -> Iterator[list[Image]]:
    """Yield batches of consecutive frames for ever; a video that ends begins again.

    Raises:
        ConfigError: a camera or stream, which no second measurement could see again.
        SourceError: as `open_source` and its reading.
    """
    batch: list[Image] = []
    while True:
        with _open_recorded(frames) as source:
            for frame in source:
                batch.append(frame.image_bgr)
                if len(batch) == size:
                    yield batch
                    batch = []


def frames_name(frames: str) -> str:
    """Return what a report calls the frames: no folders of this machine."""
    return "synthetic drive" if frames == SYNTHETIC else Path(frames).name


def _open_recorded(frames: str) -> Source:
    source = rendered_drive() if frames == SYNTHETIC else open_source(frames)
    if source.live:
        source.close()
        raise ConfigError(
            f"video {frames_name(frames)}: expected a recording, so that it can be measured again, got a "
            "camera or stream; record it with runtime.camera --save"
        )
    return source


def _same_size(
    images_bgr: Sequence[Image], expected_hw: tuple[int, int] | None, frames: str
) -> tuple[int, int]:
    """Return the size of all frames."""
    for image_bgr in images_bgr:
        size_hw = (image_bgr.shape[0], image_bgr.shape[1])
        if expected_hw is not None and size_hw != expected_hw:
            raise ConfigError(
                f"video {frames_name(frames)}: expected frames of one size, got {expected_hw} and {size_hw}; "
                "times of different sizes cannot be put together"
            )
        expected_hw = size_hw
    assert expected_hw is not None
    return expected_hw
