"""Rewrites somebody else's segmentation graph: camera pixels in, what the runtime reads out.

image uint8 (1, H, W, 3) BGR
  → Transpose → Gather (BGR to RGB) → Cast → Sub mean → Div std → Transpose (NHWC networks)
  → the network as it was
  → Softmax becomes Identity, or Log → Transpose (NHWC networks) → Resize (odd strides)
logits float32 (1, C, h, w), or mask uint8 (1, H, W)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir import DataType
from onnx_ir.passes.common import RemoveUnusedOpsetsPass

from export.graph.edit import append, insert_before, opset_of
from runtime.base.flags import check_fields, flag
from runtime.contract import GraphOutput, Normalization
from runtime.errors import ConfigError

Layout = Literal["nchw", "nhwc"]
OutputKind = Literal["logits", "softmax", "argmax"]
MIN_OPSET = 11  # the first whose Resize can say where a pixel's centre is
FLOAT_TYPES = (DataType.FLOAT, DataType.FLOAT16, DataType.DOUBLE)
SMALLEST_PROBABILITY = 1e-30  # 0 has no logarithm
_PREFIX = "network/"  # of every name inside, so that none of them is image, logits or mask


@dataclass(frozen=True)
class ForeignInput:
    """What the network wants: (pixels / scale - mean) / std, with pixels of 0 to 255."""

    color: Literal["rgb", "bgr"] = flag(
        "order of the input's channels, of --mean and of --std", default="rgb"
    )
    layout: Layout = flag("order of the input's axes", default="nchw")
    scale: float = flag("what the pixels of 0 to 255 are divided by first", default=255.0, above=0)
    mean: tuple[float, float, float] = flag(
        "what is subtracted next, for each channel", default=(0.0, 0.0, 0.0)
    )
    std: tuple[float, float, float] = flag(
        "what is divided by last, for each channel", default=(1.0, 1.0, 1.0), above=0
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_fields(self)
        if not all(map(math.isfinite, self.mean)):
            raise ConfigError(f"mean: expected finite numbers, got {self.mean}; correct it")

    @property
    def normalization(self) -> Normalization:
        """The same arithmetic in the contract's words: in units of 0..255, channels as B, G, R."""
        step = -1 if self.color == "rgb" else 1
        mean = [value * self.scale for value in self.mean[::step]]
        std = [value * self.scale for value in self.std[::step]]
        return Normalization((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))

    def prepare(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Do the preprocessing by hand: uint8 (H, W, 3) BGR → float32 (1, 3, H, W) or (1, H, W, 3)."""
        image = image_bgr[..., ::-1] if self.color == "rgb" else image_bgr
        scaled = (image / np.float64(self.scale) - np.array(self.mean)) / np.array(self.std)  # (H, W, 3)
        ordered = scaled if self.layout == "nhwc" else scaled.transpose(2, 0, 1)
        prepared: NDArray[np.float32] = ordered[None].astype(np.float32)
        return prepared


@dataclass(frozen=True)
class ForeignOutput:
    """What the network gives.

    Attributes:
        name: of the graph's output.
        kind: what its numbers are.
        layout: order of its axes; of class indices without a class axis it is "nhwc".
        shape: its shape at the input's size.
    """

    name: str
    kind: OutputKind
    layout: Layout
    shape: tuple[int, ...]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the output."""
        first = 2 if self.layout == "nchw" else 1
        return self.shape[first], self.shape[first + 1]

    def stride(self, size_hw: tuple[int, int]) -> int | None:
        """Return the input pixels of one output pixel; None if that is not one whole number."""
        stride = size_hw[0] // self.size_hw[0]
        fits = stride >= 1 and size_hw == (self.size_hw[0] * stride, self.size_hw[1] * stride)
        return stride if fits else None

    def graph_output(self, size_hw: tuple[int, int]) -> GraphOutput:
        """Return what the rewritten graph gives for an input of this size."""
        if self.kind == "argmax":
            return GraphOutput(stride=1, kind="mask")
        return GraphOutput(stride=self.stride(size_hw) or 1)


def with_size(model: ir.Model, name: str, shape: tuple[int, ...]) -> ir.Model:
    """Return a copy whose input of this name has this shape, without shapes inside that may be outdated."""
    fixed = model.clone()
    graph = fixed.graph
    (image,) = (value for value in graph.inputs if value.name == name)
    image.shape = ir.Shape(shape)
    graph.inputs.clear()  # old files list their constants here too
    graph.inputs.append(image)
    for node in graph:
        for value in node.outputs:
            value.shape = None
    fixed.opset_imports[""] = opset_of(fixed)  # known as ai.onnx, too
    return RemoveUnusedOpsetsPass()(fixed).model


def rewrite(
    model: ir.Model,
    source: ForeignInput,
    output: ForeignOutput,
    size_hw: tuple[int, int],
    classes: int,
) -> ir.Model:
    """Return a graph around the network, as this module's text draws it.

    Args:
        model: of `with_size`; stays as it is.
        source: what the network wants.
        output: what it gives.
        size_hw: height and width of its input.
        classes: their number.
    """
    wrapped = model.clone()
    graph = wrapped.graph
    (raw,) = (value for value in graph.outputs if value.name == output.name)
    for part in wrapped.graphs():
        made = [value for node in part for value in node.outputs]
        for value in dict.fromkeys((*part.inputs, *part.initializers.values(), *made)):
            value.name = f"{_PREFIX}{value.name}" if value.name else ""
    graph.outputs.clear()
    _add_head(graph, source, size_hw)
    if output.kind == "argmax":
        result = _add_mask_tail(graph, raw, output, size_hw)
        result.type, result.shape = ir.TensorType(DataType.UINT8), ir.Shape((1, *size_hw))
    else:
        is_probability = output.kind == "softmax" and not _without_softmax(raw)
        stride = output.stride(size_hw)
        result = _add_logits_tail(graph, raw, output, size_hw if stride is None else None, is_probability)
        shape = (1, classes, *(side // (stride or 1) for side in size_hw))
        result.type, result.shape = ir.TensorType(DataType.FLOAT), ir.Shape(shape)
    graph.outputs.append(result)
    return wrapped


def _add_head(graph: ir.Graph, source: ForeignInput, size_hw: tuple[int, int]) -> None:
    """Make the network's input of camera pixels; channels change places as whole planes, a plain copy."""
    (old,) = graph.inputs
    x = ir.val("image", DataType.UINT8, (1, *size_hw, 3))
    graph.inputs[0] = x
    first = graph[0]
    step = -1 if source.color == "rgb" else 1
    normalization = source.normalization
    mean = np.array(normalization.mean_bgr[::step], np.float32).reshape(1, 3, 1, 1)
    std = np.array(normalization.std_bgr[::step], np.float32).reshape(1, 3, 1, 1)
    x = insert_before(first, "Transpose", [x], "head/planes", perm=[0, 3, 1, 2])  # (1, 3, H, W)
    if source.color == "rgb":
        x = insert_before(first, "Gather", [x, np.array([2, 1, 0], np.int64)], "head/rgb", axis=1)
    x = insert_before(first, "Cast", [x], "head/float", to=DataType.FLOAT)
    if mean.any():
        x = insert_before(first, "Sub", [x, mean], "head/centred")
    if (std != 1).any():
        x = insert_before(first, "Div", [x, std], "head/scaled")
    if source.layout == "nhwc":
        x = insert_before(first, "Transpose", [x], "head/pixels", perm=[0, 2, 3, 1])  # (1, H, W, 3)
    if old.dtype != DataType.FLOAT:
        x = insert_before(first, "Cast", [x], "head/typed", to=old.dtype)
    old.replace_all_uses_with(x)


def _add_logits_tail(
    graph: ir.Graph,
    x: ir.Value,
    output: ForeignOutput,
    resize_hw: tuple[int, int] | None,
    is_probability: bool,
) -> ir.Value:
    """Make float32 logits (1, C, h, w) of the network's output."""
    x = append(graph, "Cast", [x], "tail/float", to=DataType.FLOAT)
    if is_probability:
        x = append(graph, "Max", [x, np.array(SMALLEST_PROBABILITY, np.float32)], "tail/positive")
        x = append(graph, "Log", [x], "tail/log")
    if output.layout == "nhwc":
        x = append(graph, "Transpose", [x], "tail/planes", perm=[0, 3, 1, 2])
    if resize_hw is not None:
        classes = output.shape[1 if output.layout == "nchw" else 3]
        x = _add_resize(graph, x, (1, classes, *resize_hw), mode="linear")
    x.name = "logits"
    return x


def _add_mask_tail(graph: ir.Graph, x: ir.Value, output: ForeignOutput, size_hw: tuple[int, int]) -> ir.Value:
    """Make a uint8 mask (1, H, W) of the network's class indices."""
    if output.size_hw != size_hw:
        x = append(graph, "Cast", [x], "tail/float", to=DataType.FLOAT)
        x = append(graph, "Reshape", [x, np.array([1, 1, *output.size_hw], np.int64)], "tail/planes")
        x = _add_resize(graph, x, (1, 1, *size_hw), mode="nearest", nearest_mode="round_prefer_ceil")
    x = append(graph, "Cast", [x], "tail/bytes", to=DataType.UINT8)
    return append(graph, "Reshape", [x, np.array([1, *size_hw], np.int64)], "mask")


def _add_resize(graph: ir.Graph, x: ir.Value, shape: tuple[int, ...], **modes: str) -> ir.Value:
    # None would be an error before opset 13: regions and scales are then empty, not absent.
    empty, sizes = np.array([], np.float32), np.array(shape, np.int64)
    return append(
        graph,
        "Resize",
        [x, empty, empty, sizes],
        "tail/resized",
        coordinate_transformation_mode="half_pixel",
        **modes,
    )


def _without_softmax(end: ir.Value) -> bool:
    """Make the Softmax before an output an Identity: what goes into it are logits. Return whether it is.

    From  logits ─ Softmax ─ (Transpose)
    to    logits ─ Identity ─ (Transpose)
    """
    node = end.producer()
    while node is not None:
        if node.op_type in ("Softmax", "LogSoftmax") and not node.domain:
            node.op_type = "Identity"
            node.attributes.clear()
            return True
        if node.op_type not in ("Transpose", "Identity") or node.inputs[0] is None:
            return False
        node = node.inputs[0].producer()
    return False
