"""Records a video in which people cannot be recognised.

    python -m runtime.examples.blur_people --source synthetic --save private.mkv --max-frames 30

What the network misses stays visible: check the video before you publish it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from runtime.base.flags import flag, nested, run_command
from runtime.frame import Image
from runtime.loop import Step, run
from runtime.masks.areas import class_indices
from runtime.network.options import ModelOptions
from runtime.outputs import Outputs, Recording, Stream
from runtime.sources.opening import SourceOptions

MARGIN = 1 / 60  # of the picture's height, added round every person
COARSE_PX = 12  # pixels that are left across the picture's height; a blur alone could be undone


def blurred(image_bgr: Image, mask: Image, people: Collection[int]) -> Image:
    """Return the picture, uint8 (H, W, 3), with all people and a margin round them made coarse."""
    height, width = mask.shape
    is_person = np.isin(mask, list(people)).astype(np.uint8)
    margin = max(1, round(MARGIN * height))
    is_person = np.asarray(
        cv2.dilate(is_person, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)), np.uint8
    )
    small = cv2.resize(
        image_bgr, (max(1, COARSE_PX * width // height), COARSE_PX), interpolation=cv2.INTER_AREA
    )
    result = image_bgr.copy()
    cv2.copyTo(cv2.resize(small, (width, height)), is_person, result)
    return result


@dataclass(frozen=True)
class BlurOptions:
    """What the command line asks for."""

    save: Path = flag("video to record: .mp4, .mkv or .avi")
    model: ModelOptions = nested(ModelOptions)
    source: SourceOptions = nested(SourceOptions)
    max_frames: int | None = flag("stop after this many frames", default=None, at_least=1, unset="no limit")
    people: tuple[str, ...] = flag("classes to hide", default=("pedestrian", "bicyclist"))


def command(options: BlurOptions) -> None:
    """Record."""
    with options.source.open() as source, options.model.open() as segment:
        people = class_indices(segment.contract.classes, options.people)

        def hidden(step: Step) -> Image:
            return blurred(step.frame.image_bgr, step.segmentation.mask, people)

        with Outputs([Recording(options.save, hidden)], Stream(segment.contract, source)) as outputs:
            for _ in outputs.feed(run(source, segment, max_frames=options.max_frames)):
                pass
    print(f"saved {options.save}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Record a video in which people cannot be recognised."
    return run_command("runtime.examples.blur_people", description, BlurOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
