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
from typing import Any, Literal

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from runtime.contract import GraphOutput, Normalization
from runtime.errors import ConfigError

Layout = Literal["nchw", "nhwc"]
OutputKind = Literal["logits", "softmax", "argmax"]
MIN_OPSET = 11  # the first whose Resize can say where a pixel's centre is
FLOAT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
SMALLEST_PROBABILITY = 1e-30  # 0 has no logarithm
_PREFIX = "network/"


@dataclass(frozen=True)
class ForeignInput:
    """What the network wants: (pixels / scale - mean) / std, with pixels of 0 to 255.

    Attributes:
        color: order of the channels, of `mean` and of `std`.
        layout: order of the input's axes.
        scale: what the pixels are divided by first.
        mean: subtracted next, one number a channel.
        std: divided by last, one number a channel.
    """

    color: Literal["rgb", "bgr"] = "rgb"
    layout: Layout = "nchw"
    scale: float = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not all(map(math.isfinite, (self.scale, *self.mean, *self.std))):
            raise ConfigError("scale, mean and std: expected finite numbers; correct them")
        if self.scale <= 0 or min(self.std) <= 0:
            raise ConfigError(
                f"scale and std: expected positive numbers, got {self.scale:g} and {self.std}; correct them"
            )

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


def with_size(model: onnx.ModelProto, name: str, shape: tuple[int, ...]) -> onnx.ModelProto:
    """Return a copy whose input of this name has this shape, without shapes inside that may be outdated."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(onnx.inliner.inline_local_functions(model) if model.functions else model)
    element = next(value.type.tensor_type.elem_type for value in fixed.graph.input if value.name == name)
    del fixed.graph.input[:]  # old files list their constants among the inputs
    fixed.graph.input.append(helper.make_tensor_value_info(name, element, shape))
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    used = {node.domain for node in fixed.graph.node} | {"", "ai.onnx"}
    kept = [entry for entry in fixed.opset_import if entry.domain in used]
    del fixed.opset_import[:]
    fixed.opset_import.extend(kept)
    return fixed


def rewrite(
    model: onnx.ModelProto,
    source: ForeignInput,
    output: ForeignOutput,
    size_hw: tuple[int, int],
    classes: int,
) -> onnx.ModelProto:
    """Return a graph around the network, as this module's text draws it.

    Args:
        model: of `with_size`; stays as it is.
        source: what the network wants.
        output: what it gives.
        size_hw: height and width of its input.
        classes: their number.
    """
    wrapped = onnx.compose.add_prefix(model, _PREFIX)
    graph = wrapped.graph
    head = _head(source, graph.input[0].name, graph.input[0].type.tensor_type.elem_type)
    body = list(graph.node)
    raw = _PREFIX + output.name
    if output.kind == "argmax":
        tail = _mask_tail(output, raw, size_hw)
        result = helper.make_tensor_value_info("mask", TensorProto.UINT8, (1, *size_hw))
    else:
        is_probability = output.kind == "softmax" and not _without_softmax(body, raw)
        stride = output.stride(size_hw)
        tail = _logits_tail(output, raw, size_hw if stride is None else None, is_probability)
        shape = (1, classes, *(side // (stride or 1) for side in size_hw))
        result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)
    for part in (graph.node, graph.input, graph.output):
        del part[:]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, (1, *size_hw, 3)))
    graph.output.append(result)
    graph.initializer.extend([*head.constants, *tail.constants])
    graph.node.extend([*head.nodes, *body, *tail.nodes])
    return wrapped


class _Steps:
    """A chain of nodes under construction."""

    def __init__(self, name: str, start: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._name = name
        self._end = start

    def add(self, operator: str, *constants: NDArray[Any] | None, **attributes: Any) -> None:
        """Append a node that takes the chain's end and some constants; None is an input left out."""
        place = f"{self._name}/{operator}_{len(self.nodes)}"
        names = [self._end]
        for index, constant in enumerate(constants):
            names.append("" if constant is None else f"{place}/{index}")
            if constant is not None:
                self.constants.append(numpy_helper.from_array(constant, names[-1]))
        self.nodes.append(helper.make_node(operator, names, [place], name=place, **attributes))
        self._end = place

    def finish(self, name: str) -> _Steps:
        """Give the chain's end its name."""
        self.nodes[-1].output[0] = name
        return self


def _head(source: ForeignInput, name: str, element: int) -> _Steps:
    """Camera pixels to the network's input; channels change places as whole planes, a plain copy."""
    steps = _Steps("head", "image")
    step = -1 if source.color == "rgb" else 1
    normalization = source.normalization
    mean = np.array(normalization.mean_bgr[::step], np.float32).reshape(1, 3, 1, 1)
    std = np.array(normalization.std_bgr[::step], np.float32).reshape(1, 3, 1, 1)
    steps.add("Transpose", perm=[0, 3, 1, 2])  # (1, 3, H, W)
    if source.color == "rgb":
        steps.add("Gather", np.array([2, 1, 0], np.int64), axis=1)
    steps.add("Cast", to=TensorProto.FLOAT)
    if mean.any():
        steps.add("Sub", mean)
    if (std != 1).any():
        steps.add("Div", std)
    if source.layout == "nhwc":
        steps.add("Transpose", perm=[0, 2, 3, 1])  # (1, H, W, 3)
    if element != TensorProto.FLOAT:
        steps.add("Cast", to=element)
    return steps.finish(name)


def _logits_tail(
    output: ForeignOutput, raw: str, resize_hw: tuple[int, int] | None, is_probability: bool
) -> _Steps:
    """The network's output to float32 logits (1, C, h, w)."""
    steps = _Steps("tail", raw)
    steps.add("Cast", to=TensorProto.FLOAT)
    if is_probability:
        steps.add("Max", np.array(SMALLEST_PROBABILITY, np.float32))
        steps.add("Log")
    if output.layout == "nhwc":
        steps.add("Transpose", perm=[0, 3, 1, 2])
    if resize_hw is not None:
        sizes = np.array([1, output.shape[1 if output.layout == "nchw" else 3], *resize_hw], np.int64)
        # None would be an error before opset 13: regions and scales are then empty, not absent.
        empty = np.array([], np.float32)
        steps.add("Resize", empty, empty, sizes, mode="linear", coordinate_transformation_mode="half_pixel")
    return steps.finish("logits")


def _mask_tail(output: ForeignOutput, raw: str, size_hw: tuple[int, int]) -> _Steps:
    """The network's class indices to a uint8 mask (1, H, W)."""
    steps = _Steps("tail", raw)
    if output.size_hw != size_hw:
        steps.add("Cast", to=TensorProto.FLOAT)
        steps.add("Reshape", np.array([1, 1, *output.size_hw], np.int64))
        empty = np.array([], np.float32)
        steps.add(
            "Resize",
            empty,
            empty,
            np.array([1, 1, *size_hw], np.int64),
            mode="nearest",
            coordinate_transformation_mode="half_pixel",
            nearest_mode="round_prefer_ceil",
        )
    steps.add("Cast", to=TensorProto.UINT8)
    steps.add("Reshape", np.array([1, *size_hw], np.int64))
    return steps.finish("mask")


def _without_softmax(nodes: list[onnx.NodeProto], end: str) -> bool:
    """Make the Softmax before an output an Identity: what goes into it are logits. Return whether it is."""
    makers = {name: node for node in nodes for name in node.output}
    while end in makers:
        node = makers[end]
        if node.op_type in ("Softmax", "LogSoftmax") and not node.domain:
            node.op_type = "Identity"
            del node.attribute[:]
            return True
        if node.op_type not in ("Transpose", "Identity"):
            return False
        end = node.input[0]
    return False
