"""Exports any PyTorch module that gives logits to one proven ONNX file."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from torch import nn

from export.graph.finish import onnx_path, replacing_model, set_outputs, tool_versions, write_model
from export.graph.simplify import simplify
from export.graph.trace import trace
from export.half.conversion import to_half
from export.proof.accuracy import AccuracyComparison, prove_accuracy
from export.proof.parity import FLOAT16, FLOAT32, MIN_FRAMES, Parity, proof_frames, prove_parity
from runtime.base.files import file_sha256
from runtime.base.flags import check_fields, flag
from runtime.contract import ModelContract
from runtime.errors import ConfigError
from runtime.network.resize import fit_image
from runtime.network.session import NetworkSession
from training.data import SegmentationDataset
from training.engine.checkpoint import checkpoint_file, load_checkpoint
from training.network.build import CameraNetwork

# 18 brought the Resize that PyTorch's exporter writes; onnxruntime 1.18, the oldest supported, ends at 21.
OPSETS = (18, 19, 20, 21)
OutputKind = Literal["logits", "mask", "both"]


@dataclass(frozen=True)
class ExportOptions:
    """How to export."""

    output: OutputKind = flag(
        "logits for edgeseg's runtime, which finishes them fastest; a mask at the input's size for any other "
        "consumer",
        default="logits",
    )
    size_hw: tuple[int, int] | None = flag(
        "height and width of the input",
        default=None,
        unset="as trained",
        unit="pixels",
        name="--imgsz",
        metavar=("H", "W"),
    )
    dynamic: bool = flag("leave batch, height and width free", default=False)
    half: bool = flag("float16 weights and arithmetic, float32 where float16 could overflow", default=False)
    opset: int = flag("ONNX operator set version", default=OPSETS[0], choices=OPSETS)
    simplify: bool = flag("keep the graph as it was traced, without onnxsim", default=True)

    def __post_init__(self) -> None:
        """Check the choices."""
        check_fields(self)


@dataclass(frozen=True)
class ExportReport:
    """What was written and what was proven about it.

    Attributes:
        path: the ONNX file.
        contract: as stamped into the file.
        options: how it was exported.
        traced_nodes: nodes before simplification.
        nodes: nodes in the file.
        size_bytes: of the file.
        parity: how near onnxruntime came to PyTorch.
        accuracy: of both on labelled images; None if there were none.
        islands: operations that a float16 file does in float32.
    """

    path: Path
    contract: ModelContract
    options: ExportOptions
    traced_nodes: int
    nodes: int
    size_bytes: int
    parity: Parity
    accuracy: AccuracyComparison | None = None
    islands: tuple[str, ...] = ()


def export_module(
    module: nn.Module,
    contract: ModelContract,
    path: str | Path,
    options: ExportOptions = ExportOptions(),
    *,
    frames: str | None = None,
    dataset: SegmentationDataset | None = None,
) -> ExportReport:
    """Write a network as an ONNX file that reproduces it, or write nothing.

    Works on a copy in eval mode. Networks that take RGB, float or NCHW images fit after
    `export.foreign.network.ForeignNetwork`.

    Args:
        module: uint8 (N, H, W, 3) BGR → float32 logits (N, classes, H / stride, W / stride).
        contract: describes the module; input size, output and origin are filled in from what is exported.
        path: ends in .onnx. An older file of this name is replaced only when everything succeeded.
        options: how to export.
        frames: images or a video to compare on, see `export.proof.parity.proof_frames`.
        dataset: labelled images to compare the mIoU on; the file's goes into its contract.

    Raises:
        ConfigError: a size, option or output path that cannot work, or a module that cannot be traced.
        ContractError: a module that does not give what its contract promises.
        DatasetError: labels of other classes, or a sample that cannot be read.
        SourceError: frames that cannot be read.
        ParityError: the file would not reproduce the network; the message lists every frame.

    Example:
        export_module(ForeignNetwork(network, normalization), contract, "seg.onnx")
    """
    path = onnx_path(path)
    contract = _planned(contract, options)
    tolerance = FLOAT16 if options.half else FLOAT32
    network = copy.deepcopy(module).eval()
    graph_network = network.with_std_folded() if isinstance(network, CameraNetwork) else network
    model = trace(graph_network, contract, options.opset)
    traced_nodes = len(model.graph)
    if options.simplify:
        model = simplify(model, {contract.input.name: (1, *contract.input.size_hw, 3)})
    pictures = list(proof_frames(frames))
    islands: tuple[str, ...] = ()
    if options.half:
        size_hw, fit = contract.input.size_hw, contract.input.fit
        fitted = (fit_image(image, size_hw, fit) for _, image in islice(pictures, MIN_FRAMES))
        model, islands = to_half(model, fitted)
        kept = f", {len(islands)} operations in float32" if islands else ""
        contract = contract.with_origin(quantization=f"float16{kept}")
    set_outputs(model, contract)
    accuracy = None
    with replacing_model(path) as part:
        write_model(model, contract, part)
        parity = prove_parity(part, network, pictures, tolerance)
        if dataset is not None:
            accuracy = prove_accuracy(part, network, dataset, tolerance)
            contract = dataclasses.replace(contract, accuracy=accuracy.file)
            write_model(model, contract, part)
            NetworkSession(part)  # what is renamed into place did open
    return ExportReport(
        path=path,
        contract=contract,
        options=options,
        traced_nodes=traced_nodes,
        nodes=len(model.graph),
        size_bytes=path.stat().st_size,
        parity=parity,
        accuracy=accuracy,
        islands=islands,
    )


def export_checkpoint(
    checkpoint_path: str | Path,
    output_path: str | Path | None = None,
    options: ExportOptions = ExportOptions(),
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
        EdgesegError: as `export_module`.
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
        f"  masks   agree on {parity.mask_agreement:.4%} of the pixels of {len(parity.frames)} frames "
        f"(required: {tolerance.mask_agreement:.1%} in each)",
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


def _planned(contract: ModelContract, options: ExportOptions) -> ModelContract:
    """Return the contract of the file to come.

    An accuracy stays only while the file gives the very numbers that it was measured with.
    """
    stated = contract.input
    size_hw = stated.size_hw if options.size_hw is None else options.size_hw
    if min(size_hw) < 1 or any(side % stated.size_multiple for side in size_hw):
        raise ConfigError(
            f"imgsz: expected height and width in multiples of {stated.size_multiple}, got {size_hw}; choose "
            "the nearest such size"
        )
    if options.half or options.output == "mask" or size_hw != stated.size_hw:
        contract = dataclasses.replace(contract, accuracy=None)
    return (
        contract.with_input(size_hw=size_hw, is_dynamic=options.dynamic)
        .with_output(kind=options.output)
        .with_origin(tools={**contract.origin.tools, **tool_versions()})
    )
