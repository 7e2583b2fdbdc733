"""Compares models on one machine, honestly, as one page.

`python -m benchmarks.report --models a.onnx b.onnx --data camvid --root DIR --video clip.mp4 --out DIR`
writes report.html (one file that needs no other), report.md with its figures as SVG, readme.md with what a
README shows, and results.json with every sample. Models run in turns. Needs the base install only; figures
need the extra `bench`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from tempfile import TemporaryFile

from benchmarks.render import canvas
from benchmarks.render.document import to_text
from benchmarks.render.page import main_table, write_report
from benchmarks.results.measuring import ReportConfig, measure_results
from benchmarks.results.results import read_results
from runtime.base.flags import flag, nested, run_command
from runtime.errors import ConfigError


@dataclass(frozen=True)
class ReportOptions:
    """What the command line asks for."""

    out: Path = flag("folder for the report", metavar="DIR")
    config: ReportConfig = nested(ReportConfig)
    source: Path | None = flag(
        "a results.json to write the report of anew", default=None, name="--from", metavar="FILE"
    )


def command(options: ReportOptions) -> None:
    """Measure, or read what was measured, and write the folder."""
    _check_writable(options.out)
    results = measure_results(options.config) if options.source is None else read_results(options.source)
    write_report(options.out, results)
    print(to_text([main_table(results)]))
    if not canvas.available():
        print(f"note: {canvas.MISSING}", file=sys.stderr)
    print(f"\nlook at   {options.out / 'report.html'}\n")
    print(f"next: python -m benchmarks.compare OLD/results.json {quote(str(options.out / 'results.json'))}")


def _check_writable(out: Path) -> None:
    """Find out before the measurement, not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ConfigError(f"{out}: cannot write there ({error.strerror}); choose another --out") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Compare ONNX files on this machine: accuracy, times, and how sure they are."
    return run_command("benchmarks.report", description, ReportOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
