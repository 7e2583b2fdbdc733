"""Exports a checkpoint to one proven ONNX file: `python -m export.to_onnx runs/camvid/best.pt`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from export.int8.quantization import Pictures, QuantizeConfig, as_markdown, quantize_file
from export.module import ExportOptions, export_checkpoint, report_text
from runtime.base.flags import flag, nested, run_command
from runtime.errors import ConfigError
from training.data.catalog import OptionalData


@dataclass(frozen=True)
class CommandOptions:
    """What the command line asks for."""

    checkpoint: Path = flag(
        "best.pt or last.pt of training.train, or a bundled one's name", name="checkpoint"
    )
    output_file: Path | None = flag(
        "file to write",
        default=None,
        unset="the checkpoint's path, ending in .onnx",
        name=("-o", "--output-file"),
        metavar="FILE",
    )
    export: ExportOptions = nested(ExportOptions)
    frames: str | None = flag(
        "images ('frames/*.png') or a video to compare on, up to 64 frames; synthetic scenes fill up to 16",
        default=None,
    )
    dataset: OptionalData = nested(OptionalData)
    split: str = flag("part of the data set", default="val")
    int8: bool = flag(
        "also write an int8 file, calibrated on --data's train split or on --frames", default=False
    )

    def __post_init__(self) -> None:
        """Check that int8 has something to calibrate on."""
        if self.int8 and self.dataset.data is None and self.frames is None:
            raise ConfigError(
                "int8: expected pictures to calibrate on, got none; add --data and --root, or --frames"
            )


def command(options: CommandOptions) -> None:
    """Export, then perhaps quantize; print what was proven."""
    dataset = options.dataset.open(options.split)
    report = export_checkpoint(
        options.checkpoint, options.output_file, options.export, frames=options.frames, dataset=dataset
    )
    print(report_text(report))
    if options.int8:
        frames = options.frames if dataset is None else None
        config, pictures = QuantizeConfig(), Pictures(options.dataset, frames, judge_split=options.split)
        images, judge = pictures.open(report.path, config)
        print(f"\n{as_markdown(quantize_file(report.path, None, images, judge, config))}")
    print(f"\nnext: python -m runtime.camera --model {quote(str(report.path))} --source 0")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    description = "Export a checkpoint to ONNX and prove the file in onnxruntime."
    return run_command("export.to_onnx", description, CommandOptions, command, argv)


if __name__ == "__main__":
    sys.exit(main())
