"""Measures what steady masks give and cost: `python -m benchmarks.steadiness --video drive.mp4`.

Flicker is the share of pixels whose class changes from frame to frame although the picture, moved along by
optical flow, does not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.render.document import Table, to_text
from benchmarks.subjects.flicker import Steadied, SteadinessConfig, SteadinessReport, measure_steadiness
from runtime.base.codec import to_plain
from runtime.base.flags import flag, nested, run_command
from runtime.network.options import ModelOptions


@dataclass(frozen=True)
class SteadinessOptions:
    """What the command line asks for."""

    model: ModelOptions = nested(ModelOptions)
    config: SteadinessConfig = nested(SteadinessConfig)
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def report_text(report: SteadinessReport) -> str:
    """Return the report for a terminal."""
    heads = ("flicker on the video, %", "flicker, %", "ghosts, %", "mIoU", "IoU of what moves")

    def cells(found: Steadied) -> tuple[str, ...]:
        video = "-" if found.video_flicker is None else f"{100 * found.video_flicker:.3f}"
        shares = (f"{100 * share:.3f}" for share in (found.flicker, found.ghosts))
        return video, *shares, f"{found.miou:.4f}", f"{found.moving_iou:.4f}"

    masks = Table(
        ("masks", *heads), [("of each frame", *cells(report.plain)), ("steady", *cells(report.steady))]
    )
    names = tuple(report.added_ms)
    cost = Table(
        ("ms a frame of 1280x720", *names), [("added", *(f"{report.added_ms[name]:.2f}" for name in names))]
    )
    return f"{to_text([masks])}\n\n{to_text([cost])}"


def command(options: SteadinessOptions) -> None:
    """Measure and print."""
    report = measure_steadiness(options.model, options.config)
    print(json.dumps(to_plain(report)) if options.as_json else report_text(report))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Measure what steady masks (--steady) give and cost, on rendered drives and a video."
    return run_command("benchmarks.steadiness", description, SteadinessOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
