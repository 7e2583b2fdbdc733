"""Drives a robot by the free ground ahead of it: turns to where most is free, slows down where little is.

    python -m runtime.examples.drive --source synthetic --max-frames 30

Replace `print` by what commands your motors. A mask is no safety system: keep a bumper or a lidar.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runtime import Segmenter
from runtime.base.command import exit_code, make_parser
from runtime.loop import run
from runtime.masks.areas import class_indices
from runtime.masks.free_space import FreeSpace, free_space
from runtime.sources import open_source

STOP_BELOW = 0.1  # of the picture's height
FULL_SPEED_FROM = 0.45


def command(space: FreeSpace) -> tuple[float, float]:
    """Return speed, 0 to 1, and turn, -1 (left) to 1 (right)."""
    if space.ahead < STOP_BELOW:
        return 0.0, space.heading
    speed = min(1.0, space.ahead / FULL_SPEED_FROM)
    return speed, space.heading * (1.0 - 0.5 * speed)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = make_parser("runtime.examples.drive", "Drive by the free ground ahead.")
    parser.add_argument("--model", help="ONNX file; without it the bundled network")
    parser.add_argument("--source", default="0", help="camera, stream, video, images or synthetic")
    parser.add_argument("--max-frames", type=int, help="frames after which to stop")
    parser.add_argument("--ground", nargs="+", default=["road"], help="classes to drive on")
    given = parser.parse_args(argv)

    def drive() -> None:
        with open_source(given.source) as source, Segmenter(given.model) as segment:
            ground = class_indices(segment.contract.classes, given.ground)
            for step in run(source, segment, max_frames=given.max_frames):
                speed, turn = command(free_space(step.segmentation.mask, ground))
                print(f"frame {step.frame.frame_id}  speed {speed:.2f}  turn {turn:+.2f}", flush=True)

    return exit_code(drive)


if __name__ == "__main__":
    sys.exit(main())
