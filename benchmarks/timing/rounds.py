"""Measures models in turns, so that a machine that drifts hits all of them alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.machine.usage import cpu_times, shares
from benchmarks.machine.yardstick import Noise, Yardstick, noise_of
from benchmarks.results.results import Rounds
from benchmarks.subjects.entrants import Entrant
from benchmarks.timing.frames import frame_batches, frames_name
from runtime.base.flags import check_fields, flag
from runtime.base.progress import tracked
from runtime.errors import ConfigError
from runtime.frame import Image

YARDSTICK_SETTLE, YARDSTICK_RUNS = 1, 2  # before each model's turn: not counted, counted


@dataclass(frozen=True)
class RoundsConfig:
    """How many rounds of how many frames; see `benchmarks.results.results.Settings`."""

    rounds: int = flag("turns of each model", default=30, at_least=4)
    frames_a_round: int = flag("frames that count in each turn", default=15, at_least=1, name="--frames")
    settle: int = 3
    seed: int = flag("of the shuffled orders", default=0, at_least=0)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)


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
    entrants: Sequence[Entrant], yardstick: Yardstick, frames: str, config: RoundsConfig
) -> RoundsResult:
    """Run every entrant in every round, on the same frames and in a shuffled order.

    Each turn begins with a few frames that do not count, since the one before left its own data in the
    caches, as no camera's loop has it, and so do the yardstick's. All other samples are kept. Frames are
    decoded before the round.

    Args:
        entrants: at least one.
        yardstick: runs before each turn, so that its rounds show what the machine did.
        frames: a video, pictures or "synthetic", see `benchmarks.timing.frames.open_recording`.
        config: how many.

    Raises:
        ConfigError: frames of different sizes.
        EdgesegError: as `open_recording` and the entrants.
    """
    rng = np.random.default_rng(config.seed)
    kept: list[dict[str, list[tuple[float, ...]]]] = [{name: [] for name in one.stages} for one in entrants]
    yardstick_ms: list[tuple[float, ...]] = []
    orders: list[tuple[str, ...]] = []
    digest = hashlib.sha256()
    size_hw: tuple[int, int] | None = None
    batches = frame_batches(frames, config.settle + config.frames_a_round)
    yardstick.run_ms()  # its own warm-up
    before = cpu_times()
    for number in tracked(range(config.rounds), "rounds"):
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
    taken = shares(before, cpu_times())
    assert size_hw is not None
    return RoundsResult(
        stages_ms=tuple({name: tuple(rounds_ms) for name, rounds_ms in one.items()} for one in kept),
        yardstick_ms=tuple(yardstick_ms),
        noise=noise_of([one for of_round in yardstick_ms for one in of_round], taken),
        orders=tuple(orders),
        frames_sha256=digest.hexdigest(),
        frame_size_hw=size_hw,
    )


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
