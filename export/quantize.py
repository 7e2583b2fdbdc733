"""Writes an int8 file that keeps its accuracy and is faster here, or none.

python -m export.quantize seg.onnx --data camvid --root DIR
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from export.int8.quantization import Pictures, QuantizeConfig, as_markdown, as_plain, quantize_file
from runtime.base.files import write_text
from runtime.base.flags import flag, nested, run_command


@dataclass(frozen=True)
class CommandOptions:
    """What the command line asks for."""

    model: Path = flag("float32 ONNX file of export.to_onnx", name="model")
    output: Path | None = flag(
        "int8 file to write", default=None, unset="the model's name with -int8", name=("-o", "--output")
    )
    pictures: Pictures = nested(Pictures)
    config: QuantizeConfig = nested(QuantizeConfig, without=("step_pairs", "final_pairs"))
    report: Path | None = flag("also write the report to this Markdown file", default=None, metavar="FILE")
    as_json: bool = flag("print one JSON object and nothing else", default=False, name="--json")


def command(options: CommandOptions) -> None:
    """Quantize and print what was found."""
    images, judge = options.pictures.open(options.model, options.config)
    report = quantize_file(options.model, options.output, images, judge, options.config)
    text = as_markdown(report)
    print(json.dumps(as_plain(report)) if options.as_json else text)
    if options.report is not None:  # after the print, so that a bad path does not lose the result
        write_text(options.report, text + "\n")
    if not options.as_json:
        print(f"\nnext: python -m benchmarks.latency --model {quote(str(report.path))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Quantize a float32 ONNX file to int8, if that pays."
    return run_command("export.quantize", description, CommandOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
