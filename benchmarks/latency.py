"""Times a model stage by stage: `python -m benchmarks.latency --model seg.onnx`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from benchmarks.render.document import LiveTable, to_markdown, to_text
from benchmarks.render.reports import (
    MINUTE_HEADS,
    latency_blocks,
    machine_blocks,
    minute_cells,
    stage_blocks,
)
from benchmarks.timing.latency import LatencyConfig, measure_latency
from benchmarks.timing.stages import measure_stages
from benchmarks.timing.sustained import Minute
from runtime.base.codec import to_plain
from runtime.base.files import write_text
from runtime.base.flags import flag, nested, run_command


@dataclass(frozen=True)
class LatencyOptions:
    """What the command line asks for."""

    config: LatencyConfig = nested(LatencyConfig)
    stages: tuple[Path, ...] = flag(
        "instead, where a frame's time goes in these files: medians of each stage at 640x480, 1280x720 and "
        "1920x1080, measured in turns",
        default=(),
        metavar="FILE",
    )
    markdown: Path | None = flag("also write the report to this Markdown file", default=None, metavar="FILE")
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: LatencyOptions) -> None:
    """Measure and print."""
    if options.stages:
        table = measure_stages(options.stages, options.config)
        print(json.dumps(to_plain(table)) if options.as_json else to_text(stage_blocks(table)))
        if options.markdown:
            write_text(
                options.markdown, to_markdown("", [*stage_blocks(table), *machine_blocks(table.machine)])
            )
        return
    minutes = LiveTable(MINUTE_HEADS, sys.stderr) if options.config.duration_s else None

    def show(minute: Minute) -> None:
        if minutes is not None:
            minutes.row(minute_cells(minute))

    report = measure_latency(options.config, show)
    blocks = latency_blocks(report)
    print(json.dumps(to_plain(report)) if options.as_json else to_text(blocks))
    if options.markdown:  # after the print, so that a bad path does not lose the measurement
        write_text(options.markdown, to_markdown("", [*blocks, *machine_blocks(report.machine)]))
    if not options.as_json:
        print(f"\nnext: python -m benchmarks.stream --model {quote(str(options.config.model.file))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Time a model stage by stage, in milliseconds."
    return run_command("benchmarks.latency", description, LatencyOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
