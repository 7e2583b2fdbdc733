"""Logs what the camera sees, a line of JSON a frame, and calls a function of yours as it goes.

python -m runtime.examples.log_jsonl --source synthetic --jsonl drive.jsonl --max-frames 30
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runtime import Segmenter
from runtime.base.command import exit_code, make_parser
from runtime.loop import Step, run
from runtime.masks.areas import class_areas
from runtime.outputs import JsonLines, feed
from runtime.sources import open_source


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = make_parser("runtime.examples.log_jsonl", "Log a line of JSON a frame.")
    parser.add_argument("--model", help="ONNX file; without it the bundled network")
    parser.add_argument("--source", default="0", help="camera, stream, video, images or synthetic")
    parser.add_argument("--jsonl", required=True, help="file to write")
    parser.add_argument("--max-frames", type=int, help="frames after which to stop")
    given = parser.parse_args(argv)

    def log() -> None:
        with (
            open_source(given.source) as source,
            Segmenter(given.model) as segment,
            JsonLines(given.jsonl, segment.contract.classes, masks="rle") as lines,
        ):
            classes = segment.contract.classes

            def tell_largest(step: Step) -> None:
                areas = class_areas(step.segmentation.mask, classes)
                print(f"frame {step.frame.frame_id}: mostly {max(areas, key=areas.__getitem__)}", flush=True)

            for _ in feed(run(source, segment, max_frames=given.max_frames), [lines, tell_largest]):
                pass
        print(f"saved {given.jsonl}")

    return exit_code(log)


if __name__ == "__main__":
    sys.exit(main())
