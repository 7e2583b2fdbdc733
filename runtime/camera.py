"""Segments what a camera, a stream, a video or the built-in drive shows.

    python -m runtime.camera --model seg.onnx --source clip.mp4 --save out.mp4

The loop itself is `runtime.loop.run`; this module is its command line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from runtime.base.codec import to_plain
from runtime.base.flags import flag, nested, run_command
from runtime.base.memory import share_one_heap
from runtime.base.shown import shown
from runtime.outputs import Output
from runtime.outputs.watch import Summary, WatchOptions, watch


@dataclass(frozen=True)
class CameraOptions:
    """What the command line asks for."""

    watch: WatchOptions = nested(WatchOptions)
    as_json: bool = flag("print one JSON object instead of a table", default=False, name="--json")


def command(options: CameraOptions) -> None:
    """Run the loop and print its summary."""
    share_one_heap()

    def report(summary: Summary, outputs: Sequence[Output]) -> None:
        if options.as_json:
            print(json.dumps(to_plain(summary)))
            return
        print(summary.as_text())
        for output in outputs:
            for path in output.saved:
                print(f"saved {shown(path)}")

    watch(options.watch, report)
    if not options.as_json:
        print(f"next: python -m benchmarks.latency --model {quote(str(options.watch.model.file))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Segment a camera, a stream, a video or images, frame by frame."
    return run_command("runtime.camera", description, CameraOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
