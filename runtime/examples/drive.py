"""Drives a robot by the free ground ahead of it: turns to where most is free, slows down where little is.

    python -m runtime.examples.drive --source synthetic --max-frames 30

Replace `print` by what commands your motors. A mask is no safety system: keep a bumper or a lidar.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.base.flags import flag, nested, run_command
from runtime.loop import run
from runtime.masks.areas import FreeSpace, class_indices, free_space
from runtime.network.options import ModelOptions
from runtime.sources.opening import SourceOptions

STOP_BELOW = 0.1  # of the picture's height
FULL_SPEED_FROM = 0.45


def steer(space: FreeSpace) -> tuple[float, float]:
    """Return speed, 0 to 1, and turn, -1 (left) to 1 (right)."""
    if space.ahead < STOP_BELOW:
        return 0.0, space.heading
    speed = min(1.0, space.ahead / FULL_SPEED_FROM)
    return speed, space.heading * (1.0 - 0.5 * speed)


@dataclass(frozen=True)
class DriveOptions:
    """What the command line asks for."""

    model: ModelOptions = nested(ModelOptions)
    source: SourceOptions = nested(SourceOptions)
    max_frames: int | None = flag("stop after this many frames", default=None, at_least=1, unset="no limit")
    ground: tuple[str, ...] = flag("classes to drive on", default=("road",))


def command(options: DriveOptions) -> None:
    """Drive."""
    with options.source.open() as source, options.model.open() as segment:
        ground = class_indices(segment.contract.classes, options.ground)
        for step in run(source, segment, max_frames=options.max_frames):
            speed, turn = steer(free_space(step.segmentation.mask, ground))
            print(f"frame {step.frame.frame_id}  speed {speed:.2f}  turn {turn:+.2f}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Drive by the free ground ahead."
    return run_command("runtime.examples.drive", description, DriveOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
