"""Exports a checkpoint to one proven ONNX file: `python -m export.to_onnx runs/camvid/best.pt`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import get_args

from export.int8.report import as_markdown
from export.module import OPSETS, ExportOptions, ExportReport, OutputKind, export_module
from export.quantize import QuantizeConfig, labelled_pictures, quantize_file, unlabelled_pictures
from runtime.base.command import exit_code, make_parser
from runtime.base.files import file_sha256
from runtime.errors import ConfigError
from training.data import DATASETS, SegmentationDataset, open_dataset
from training.engine.bundled import checkpoint_file
from training.engine.checkpoint import load_checkpoint


def export_checkpoint(
    checkpoint_path: str | Path,
    output_path: str | Path | None = None,
    options: ExportOptions = ExportOptions(),  # noqa: B008  # frozen
    *,
    frames: str | None = None,
    dataset: SegmentationDataset | None = None,
) -> ExportReport:
    """Write a checkpoint's network as an ONNX file that reproduces it, or write nothing.

    Args:
        checkpoint_path: .pt file of `training.train`, or name of a bundled one.
        output_path: ends in .onnx; None takes the checkpoint's path or name with that ending.
        options: how to export.
        frames: images or a video to compare on, see `export.proof.parity.proof_frames`.
        dataset: labelled images to compare the mIoU on; the file's goes into its contract.

    Raises:
        CheckpointError: a checkpoint that is missing, damaged or unsafe.
        EdgesegError: as `export.module.export_module`.
    """
    output = Path(checkpoint_path).with_suffix(".onnx") if output_path is None else Path(output_path)
    file = checkpoint_file(checkpoint_path)
    checkpoint = load_checkpoint(file)
    network = checkpoint.build()
    contract = checkpoint.contract.with_origin(checkpoint_sha256=file_sha256(file)).with_input(
        size_multiple=checkpoint.config.size_multiple
    )
    return export_module(network, contract, output, options, frames=frames, dataset=dataset)


def report_text(report: ExportReport) -> str:
    """Return the report as lines for the terminal."""
    parity, tolerance = report.parity, report.parity.tolerance
    image, output = report.contract.input, report.contract.output
    (height, width) = image.size_hw
    any_size = f" or any multiple of {image.size_multiple}, any batch" if image.is_dynamic else ""
    simplified = (
        f"{report.nodes} in the file, simplified"
        if report.options.simplify
        else f"{report.nodes} in the file, not simplified (--no-simplify)"
    )
    lines = [
        f"{report.path}: {report.contract.name}, {height}x{width}{any_size}, "
        f"{'logits and mask' if output.kind == 'both' else output.kind}, {report.size_bytes / 1e6:.2f} MB",
        f"  graph   {report.traced_nodes} nodes traced, {simplified}",
        f"  logits  differ by at most {parity.absolute:.2g}, {parity.relative:.1e} of the largest "
        f"(allowed {tolerance.relative:.1e} in {tolerance.dtype})",
        f"  masks   agree on {parity.mask_agreement:.4%} of {len(parity.frames)} frames' pixels "
        f"(asked for {tolerance.mask_agreement:.1%} in each)",
    ]
    if report.options.half:
        lines.insert(2, f"  float32 {', '.join(report.islands) or 'nothing but the logits'}")
    if report.accuracy is not None:
        of_network, of_file = report.accuracy.network, report.accuracy.file
        lines.append(
            f"  mIoU    {of_network.miou:.4f} in PyTorch, {of_file.miou:.4f} in the file, difference "
            f"{report.accuracy.difference:+.4f} (allowed {tolerance.miou}), {of_file.frames} images of "
            f"{of_file.dataset} {of_file.split}"
        )
    elif report.contract.accuracy is None:
        lines.append("  mIoU    not measured for this file; --data and --root measure it")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    defaults = ExportOptions()
    parser = make_parser("export.to_onnx", "Export a checkpoint to ONNX and prove the file in onnxruntime.")
    parser.add_argument("checkpoint", help="best.pt or last.pt of training.train, or a bundled one's name")
    parser.add_argument(
        "-o", "--output-file", metavar="FILE", help="without it the checkpoint's path, ending in .onnx"
    )
    parser.add_argument(
        "--output",
        default=defaults.output,
        choices=get_args(OutputKind),
        help="logits for edgeseg's runtime, which finishes them fastest; a mask at the input's size for any "
        "other consumer",
    )
    parser.add_argument(
        "--imgsz",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="height and width of the input, pixels; without it as trained",
    )
    parser.add_argument("--dynamic", action="store_true", help="leave batch, height and width free")
    parser.add_argument("--half", action="store_true", help="float16 weights and arithmetic")
    parser.add_argument(
        "--opset", type=int, default=defaults.opset, choices=OPSETS, help="ONNX operator set version"
    )
    parser.add_argument(
        "--no-simplify", action="store_true", help="keep the graph as it was traced, without onnxsim"
    )
    parser.add_argument(
        "--frames",
        help="images ('frames/*.png') or a video to compare on, up to 64 frames; synthetic scenes fill up to "
        "16",
    )
    parser.add_argument("--data", choices=DATASETS, help="also compare the mIoU on this kind of data set")
    parser.add_argument("--root", help="the data set's folder; not needed for synthetic")
    parser.add_argument("--split", default="val", help="part of the data set")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="also write an int8 file, calibrated on --data's train split or on --frames",
    )
    args = parser.parse_args(argv)

    def command() -> None:
        if args.int8 and args.data is None and args.frames is None:
            raise ConfigError(
                "int8: expected pictures to calibrate on, got none; add --data and --root, or --frames"
            )
        if args.root is not None and args.data is None:
            raise ConfigError("root: expected --data beside it, got none; name the kind of data set")
        options = ExportOptions(
            output=args.output,
            size_hw=None if args.imgsz is None else tuple(args.imgsz),
            dynamic=args.dynamic,
            half=args.half,
            opset=args.opset,
            simplify=not args.no_simplify,
        )
        dataset = None if args.data is None else open_dataset(args.data, args.root, args.split)
        report = export_checkpoint(
            args.checkpoint, args.output_file, options, frames=args.frames, dataset=dataset
        )
        print(report_text(report))
        if args.int8:
            config = QuantizeConfig()
            if dataset is not None:
                calibrated = open_dataset(args.data, args.root, "train")
                images, judge = labelled_pictures(report.path, calibrated, dataset, config)
            else:
                images, judge = unlabelled_pictures(report.path, args.frames, config)
            print(f"\n{as_markdown(quantize_file(report.path, None, images, judge, config))}")
        print(f"\nnext: python -m runtime.camera --model {quote(str(report.path))} --source 0")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
