"""Logs what the camera sees, a line of JSON per frame, and does something of yours with each frame.

python -m runtime.examples.log_jsonl --source synthetic --jsonl drive.jsonl --max-frames 30
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.base.flags import flag, nested, run_command
from runtime.loop import run
from runtime.masks.areas import class_areas
from runtime.network.options import ModelOptions
from runtime.outputs import JsonLines, Outputs, Stream
from runtime.sources.opening import SourceOptions


@dataclass(frozen=True)
class LogOptions:
    """What the command line asks for."""

    jsonl: Path = flag("file to write")
    model: ModelOptions = nested(ModelOptions)
    source: SourceOptions = nested(SourceOptions)
    max_frames: int | None = flag("stop after this many frames", default=None, at_least=1, unset="no limit")


def command(options: LogOptions) -> None:
    """Log, and tell of each frame."""
    lines = JsonLines(options.jsonl, masks="rle")
    with options.source.open() as source, options.model.open() as segment:
        classes = segment.contract.classes
        with Outputs([lines], Stream(segment.contract, source)) as outputs:
            for step in outputs.feed(run(source, segment, max_frames=options.max_frames)):
                areas = class_areas(step.segmentation.mask, classes)
                print(f"frame {step.frame.frame_id}: mostly {max(areas, key=areas.__getitem__)}", flush=True)
    print(f"saved {options.jsonl}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Log a line of JSON per frame."
    return run_command("runtime.examples.log_jsonl", description, LogOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
