"""Tells how old masks are behind a camera at its own pace: `python -m benchmarks.stream --model seg.onnx`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from benchmarks.render import canvas
from benchmarks.render.charts import draw_ages
from benchmarks.render.document import to_text
from benchmarks.render.reports import stream_blocks
from benchmarks.timing.stream import StreamConfig, measure_stream
from runtime.base.codec import to_plain
from runtime.base.files import write_text
from runtime.base.flags import flag, nested, run_command


@dataclass(frozen=True)
class StreamOptions:
    """What the command line asks for."""

    config: StreamConfig = nested(StreamConfig)
    out: Path = flag("folder for stream.json and the chart ages.svg", default=Path("runs/stream"))
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: StreamOptions) -> None:
    """Measure, print, and leave every mask and the chart."""
    report = measure_stream(options.config, lambda line: print(line, file=sys.stderr))
    plain = json.dumps(to_plain(report))
    print(plain if options.as_json else to_text(stream_blocks(report)))
    write_text(options.out / "stream.json", plain)
    if canvas.available():
        write_text(options.out / "ages.svg", draw_ages(report.rates, report.deadline_ms).file())
    else:
        print(f"note: {canvas.MISSING}", file=sys.stderr)
    if not options.as_json:
        print(f"\nwrote {options.out / 'stream.json'}{' and ages.svg' if canvas.available() else ''}")
        model = quote(str(options.config.model.file))
        print(f"next: python -m benchmarks.accuracy --model {model} --data synthetic")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Tell how old masks are behind a camera at its own pace."
    return run_command("benchmarks.stream", description, StreamOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
