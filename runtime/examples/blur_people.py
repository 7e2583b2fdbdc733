"""Records a video in which people cannot be recognised.

    python -m runtime.examples.blur_people --source synthetic --save private.mkv --max-frames 30

What the network misses stays visible: check the video before you publish it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

import cv2
import numpy as np

from runtime import Segmenter
from runtime.base.command import exit_code, make_parser
from runtime.frame import Image
from runtime.loop import run
from runtime.masks.areas import class_indices
from runtime.sinks import VideoSink
from runtime.sources import open_source

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = make_parser("runtime.examples.blur_people", "Record a video without recognisable people.")
    parser.add_argument("--model", help="ONNX file; without it the bundled network")
    parser.add_argument("--source", default="0", help="camera, stream, video, images or synthetic")
    parser.add_argument("--save", required=True, help="video to record: .mp4, .mkv or .avi")
    parser.add_argument("--max-frames", type=int, help="frames after which to stop")
    parser.add_argument("--people", nargs="+", default=["pedestrian", "bicyclist"], help="classes to hide")
    given = parser.parse_args(argv)

    def record() -> None:
        with (
            open_source(given.source) as source,
            Segmenter(given.model) as segment,
            VideoSink(given.save, source.fps or 15.0) as video,
        ):
            people = class_indices(segment.contract.classes, given.people)
            for step in run(source, segment, max_frames=given.max_frames):
                picture_bgr = blurred(step.frame.image_bgr, step.segmentation.mask, people)
                video.write(picture_bgr, step.frame.captured_ns if source.live else None)
        print(f"saved {given.save}")

    return exit_code(record)


if __name__ == "__main__":
    sys.exit(main())
