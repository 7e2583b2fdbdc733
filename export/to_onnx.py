"""Exports a checkpoint to one proven ONNX file: `python -m export.to_onnx runs/camvid/best.pt`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import onnx

from export.parity import MIN_MASK_AGREEMENT, Parity, logit_tolerance, proof_frames, prove
from export.simplify import simplify
from export.stamp import stamp, tool_versions
from export.trace import trace
from runtime.cli import exit_code, make_parser
from runtime.contract import ModelContract
from runtime.errors import ConfigError
from runtime.files import file_sha256, replacing
from training.checkpoint import load_checkpoint

# 18 brought the Resize that PyTorch's exporter writes; onnxruntime 1.18, the oldest supported, ends at 21.
OPSETS = (18, 19, 20, 21)


@dataclass(frozen=True)
class ExportReport:
    """What was written and what was proven about it.

    Attributes:
        path: the ONNX file.
        contract: as stamped into the file.
        traced_nodes: nodes before simplification.
        nodes: nodes in the file.
        size_bytes: of the file.
        parity: how near onnxruntime came to PyTorch.
    """

    path: Path
    contract: ModelContract
    traced_nodes: int
    nodes: int
    size_bytes: int
    parity: Parity


def export_checkpoint(
    checkpoint_path: str | Path,
    output_path: str | Path | None = None,
    *,
    opset: int = OPSETS[0],
    frames: str | None = None,
) -> ExportReport:
    """Write a checkpoint's network as an ONNX file that reproduces it, or write nothing.

    Args:
        checkpoint_path: .pt file of `training.train`.
        output_path: ends in .onnx; None takes the checkpoint's path with that ending. An older file of this
            name is replaced only when everything succeeded.
        opset: ONNX operator set version, one of `OPSETS`.
        frames: images or a video to compare on, see `export.parity.proof_frames`.

    Raises:
        ConfigError: an opset or output path that cannot work.
        CheckpointError: a checkpoint that is missing, damaged or unsafe.
        SourceError: frames that cannot be read.
        ParityError: the file would not reproduce the network; the message lists every frame.
    """
    output = Path(checkpoint_path).with_suffix(".onnx") if output_path is None else Path(output_path)
    if output.suffix != ".onnx":
        raise ConfigError(f"{output}: expected an output name that ends in .onnx; correct -o")
    if opset not in OPSETS:
        raise ConfigError(f"opset: expected one of {list(OPSETS)}, got {opset}")
    checkpoint = load_checkpoint(checkpoint_path)
    contract = checkpoint.contract.with_origin(
        checkpoint_sha256=file_sha256(checkpoint_path),
        tools={**checkpoint.contract.origin.tools, **tool_versions()},
    )
    network = checkpoint.build()
    traced = trace(network.with_std_folded(), contract, opset)
    model = simplify(traced)
    stamp(model, contract)
    try:
        with replacing(output) as part:
            onnx.save(model, part)
            parity = prove(part, network, proof_frames(frames))
    except OSError as error:
        raise ConfigError(
            f"{output}: cannot write it ({error.strerror or error}); choose another place with -o"
        ) from None
    return ExportReport(
        path=output,
        contract=contract,
        traced_nodes=len(traced.graph.node),
        nodes=len(model.graph.node),
        size_bytes=output.stat().st_size,
        parity=parity,
    )


def report_text(report: ExportReport) -> str:
    """Return the report as lines for the terminal."""
    parity, (height, width) = report.parity, report.contract.input.size_hw
    return "\n".join(
        [
            f"{report.path}: {report.contract.name}, {height}x{width}, {report.size_bytes / 1e6:.2f} MB",
            f"  graph   {report.traced_nodes} nodes traced, {report.nodes} simplified",
            f"  logits  differ by at most {parity.absolute:.2g}, {parity.relative:.1e} of the largest "
            f"(allowed {logit_tolerance():.1e})",
            f"  masks   agree on {parity.mask_agreement:.4%} of {len(parity.frames)} frames' pixels "
            f"(asked for {MIN_MASK_AGREEMENT:.1%} in each)",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = make_parser("export.to_onnx", "Export a checkpoint to ONNX and prove the file in onnxruntime.")
    parser.add_argument("checkpoint", help="best.pt or last.pt of training.train")
    parser.add_argument("-o", "--output", help="ONNX file; without it the checkpoint's path, ending in .onnx")
    parser.add_argument(
        "--opset", type=int, default=OPSETS[0], choices=OPSETS, help="ONNX operator set version"
    )
    parser.add_argument(
        "--frames",
        help="images ('frames/*.png') or a video to compare on, up to 64 frames; without it 16 scenes",
    )
    args = parser.parse_args(argv)

    def command() -> None:
        report = export_checkpoint(args.checkpoint, args.output, opset=args.opset, frames=args.frames)
        print(report_text(report))
        print(f"\nnext: python -m runtime.camera --model {quote(str(report.path))} --source 0")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
