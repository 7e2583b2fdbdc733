"""What onnxruntime really runs of a QDQ file on this machine."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort

from export.graph.view import attribute
from runtime.network.session import session_options

_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")  # no arithmetic
_IMAGE_MOVES = (*_MOVES, "BitwiseXor", "Gather", "Split", "Slice", "Concat")  # on bytes; on floats it is work
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class OptimizedGraph:
    """The operators after onnxruntime's fusions.

    Attributes:
        integer: how many of each integer operator.
        floating: how many of each operator computes in float32.
        quantize: QuantizeLinear operators that are left.
        dequantize: DequantizeLinear operators that are left; one is the caller's logits.
        image_stays_integer: whether the image reaches an integer convolution without a float in between.
    """

    integer: dict[str, int]
    floating: dict[str, int]
    quantize: int
    dequantize: int
    image_stays_integer: bool


def optimized_graph(path: Path) -> OptimizedGraph:
    """Open a file with the runtime's session options and look at the graph that onnxruntime made of it."""
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = session_options(1)
        options.optimized_model_filepath = str(optimized)
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(str(optimized)).graph
    image_side = _image_side(graph)
    counted = [node for node in graph.node if node not in (image_side or []) and node.op_type not in _MOVES]
    operators = Counter(node.op_type for node in counted)
    integer = {name: count for name, count in operators.items() if name.startswith("QLinear")}
    floating = {
        name: count for name, count in operators.items() if name not in integer and name not in _CONVERSIONS
    }
    return OptimizedGraph(
        integer=integer,
        floating=floating,
        quantize=operators["QuantizeLinear"],
        dequantize=operators["DequantizeLinear"],
        image_stays_integer=image_side is not None,
    )


def _image_side(graph: onnx.GraphProto) -> list[onnx.NodeProto] | None:
    """Return what moves the image's bytes to an integer convolution; None if anything else reads them."""
    moves: list[onnx.NodeProto] = []
    reached = False
    names = [graph.input[0].name]
    for name in names:  # grows while it is read
        for node in graph.node:
            if name not in node.input or node in moves:
                continue
            if node.op_type == "QLinearConv":
                reached = True
                continue
            to_int8 = node.op_type == "Cast" and attribute(node, "to", None) == onnx.TensorProto.INT8
            if node.op_type not in _IMAGE_MOVES and not to_int8:
                return None
            moves.append(node)
            names.extend(node.output)
    return moves if reached else None
