"""Exports any PyTorch module that gives logits to one proven ONNX file."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import onnx
from torch import nn

from export.graph.mask_output import set_outputs
from export.graph.simplify import simplify
from export.graph.stamp import stamp, tool_versions
from export.graph.trace import trace
from export.half.conversion import to_half
from export.proof.accuracy import AccuracyParity, prove_accuracy
from export.proof.parity import FLOAT16, FLOAT32, MIN_FRAMES, Parity, proof_frames, prove
from runtime.base.files import replacing
from runtime.contract import ModelContract
from runtime.errors import ConfigError
from runtime.network.resize import fit_image
from runtime.network.session import NetworkSession
from training.data import SegmentationDataset
from training.network import CameraNetwork

# 18 brought the Resize that PyTorch's exporter writes; onnxruntime 1.18, the oldest supported, ends at 21.
OPSETS = (18, 19, 20, 21)
OutputKind = Literal["logits", "mask", "both"]


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Attributes:
        output: what the file gives, see `runtime.contract.GraphOutput`. Logits by default: the runtime makes
            a mask of them at the frame's own size in less time than a graph needs for its input's size.
        size_hw: height and width in pixels of the input; None takes the contract's.
        dynamic: leave batch, height and width free.
        half: float16 weights and arithmetic, float32 where float16 could overflow.
        opset: ONNX operator set version, one of `OPSETS`.
        simplify: False keeps the graph as it was traced.
    """

    output: OutputKind = "logits"
    size_hw: tuple[int, int] | None = None
    dynamic: bool = False
    half: bool = False
    opset: int = OPSETS[0]
    simplify: bool = True

    def __post_init__(self) -> None:
        """Check the choices."""
        if self.output not in ("logits", "mask", "both"):
            raise ConfigError(f"output: expected logits, mask or both, got {self.output!r}")
        if self.opset not in OPSETS:
            raise ConfigError(f"opset: expected one of {list(OPSETS)}, got {self.opset}")


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
    accuracy: AccuracyParity | None = None
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
    path = Path(path)
    if path.suffix != ".onnx":
        raise ConfigError(f"{path}: expected an output name that ends in .onnx; correct -o")
    contract = _planned(contract, options)
    tolerance = FLOAT16 if options.half else FLOAT32
    network = copy.deepcopy(module).eval()
    graph_network = network.with_std_folded() if isinstance(network, CameraNetwork) else network
    traced = trace(graph_network, contract, options.opset)
    model = traced
    if options.simplify:
        model = simplify(traced, {contract.input.name: (1, *contract.input.size_hw, 3)})
    pictures = list(proof_frames(frames))
    islands: tuple[str, ...] = ()
    if options.half:
        fitted = (fit_image(image, contract.input.size_hw) for _, image in islice(pictures, MIN_FRAMES))
        model, islands = to_half(model, fitted)
        kept = f", {len(islands)} operations in float32" if islands else ""
        contract = contract.with_origin(quantization=f"float16{kept}")
    set_outputs(model, contract)
    accuracy = None
    try:
        with replacing(path) as part:
            _save(model, contract, part)
            parity = prove(part, network, pictures, tolerance)
            if dataset is not None:
                accuracy = prove_accuracy(part, network, dataset, tolerance)
                contract = dataclasses.replace(contract, accuracy=accuracy.file)
                _save(model, contract, part)
                NetworkSession(part)  # what is renamed into place did open
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot write it ({error.strerror or error}); choose another place with -o"
        ) from None
    return ExportReport(
        path=path,
        contract=contract,
        options=options,
        traced_nodes=len(traced.graph.node),
        nodes=len(model.graph.node),
        size_bytes=path.stat().st_size,
        parity=parity,
        accuracy=accuracy,
        islands=islands,
    )


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


def _save(model: onnx.ModelProto, contract: ModelContract, path: Path) -> None:
    """Write the graph with its contract."""
    stamp(model, contract)
    onnx.save(model, path)
