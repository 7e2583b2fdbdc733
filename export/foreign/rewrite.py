"""Rewrites somebody else's segmentation graph: camera pixels in, what the runtime reads out.

image uint8 (1, H, W, 3) BGR
  → Transpose → Gather (BGR to RGB), or grey, or an opaque fourth channel → Cast → Sub mean → Div std
  → Transpose (NHWC networks) → Concat (batches)
  → the network as it was
  → Reshape to four axes → Softmax or Sigmoid becomes Identity, or Log → Transpose (NHWC networks)
  → Resize (odd strides)
logits float32 (1, C, h, w), or mask uint8 (1, H, W)
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType
from onnx_ir.passes.common import RemoveUnusedOpsetsPass

from export.foreign.interface import (
    GREY_WEIGHTS_BGR,
    SMALLEST_PROBABILITY,
    ForeignInput,
    ForeignOutput,
)
from export.graph.edit import append, insert_before, opset_of

_PREFIX = "network/"  # of every name inside, so that none of them is image, logits or mask
_PASSING = ("Transpose", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


def with_size(model: ir.Model, name: str, shape: tuple[int, ...]) -> ir.Model:
    """Return a copy whose input of this name has this shape, without shapes inside that may be outdated."""
    fixed = model.clone()
    graph = fixed.graph
    (image,) = (value for value in graph.inputs if value.name == name)
    image.shape = ir.Shape(shape)
    graph.inputs.clear()  # old files list their constants here too
    graph.inputs.append(image)
    for part in fixed.graphs():
        for value in (value for node in part for value in node.outputs):
            value.shape = None
    fixed.opset_imports[""] = opset_of(fixed)  # known as ai.onnx, too
    return RemoveUnusedOpsetsPass()(fixed).model


def rewrite(
    model: ir.Model,
    source: ForeignInput,
    output: ForeignOutput,
    size_hw: tuple[int, int],
    classes: int,
    ignore_index: int = 255,
) -> ir.Model:
    """Return a graph around the network, as this module's text draws it.

    Args:
        model: of `with_size`; stays as it is.
        source: what the network wants.
        output: what it gives.
        size_hw: height and width of its input.
        classes: their number.
        ignore_index: what void is in a mask.
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
        result = _add_mask_tail(graph, raw, output, size_hw, classes, ignore_index)
        result.type, result.shape = ir.TensorType(DataType.UINT8), ir.Shape((1, *size_hw))
    else:
        if output.is_probability and _without(raw, output.last_operators):
            output = output.with_kind("logits")
        stride = output.stride(size_hw)
        result = _add_logits_tail(graph, raw, output, size_hw if stride is None else None)
        shape = (1, classes, *(side // (stride or 1) for side in size_hw))
        result.type, result.shape = ir.TensorType(DataType.FLOAT), ir.Shape(shape)
    graph.outputs.append(result)
    return wrapped


def argmax_input(model: ir.Model, name: str) -> tuple[ir.Value, int] | None:
    """Return what an output's ArgMax chooses from, and along which axis; None if it is made otherwise."""
    (value,) = (value for value in model.graph.outputs if value.name == name)
    node = value.producer()
    while node is not None and node.inputs and node.inputs[0] is not None and not node.domain:
        if node.op_type == "ArgMax":
            return node.inputs[0], node.attributes.get_int("axis", 0)
        if node.op_type not in (*_PASSING, "Cast"):
            return None
        node = node.inputs[0].producer()
    return None


def last_operator(model: ir.Model, name: str) -> str:
    """Return the operator that makes an output's numbers, before any that only move them; "" for none."""
    (value,) = (value for value in model.graph.outputs if value.name == name)
    node = value.producer()
    while node is not None and node.op_type in (*_PASSING, "Cast") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return "" if node is None or node.domain else node.op_type


def _add_head(graph: ir.Graph, source: ForeignInput, size_hw: tuple[int, int]) -> None:
    """Make the network's input of camera pixels; channels change places as whole planes, a plain copy."""
    (old,) = graph.inputs
    x = ir.val("image", DataType.UINT8, (1, *size_hw, 3))
    graph.inputs[0] = x
    first = graph[0]
    step = -1 if source.color == "rgb" else 1
    wanted = old.dtype
    assert wanted is not None
    x = insert_before(first, "Transpose", [x], "head/planes", perm=[0, 3, 1, 2])  # (1, 3, H, W)
    if source.channels == 1:
        weights = np.array(GREY_WEIGHTS_BGR, np.float32).reshape(1, 3, 1, 1)
        x = insert_before(first, "Cast", [x], "head/float", to=DataType.FLOAT)
        x = insert_before(first, "Conv", [x, weights], "head/weighed")
        x = insert_before(first, "Add", [x, np.array(0.5, np.float32)], "head/half")
        x = insert_before(first, "Floor", [x], "head/grey")  # (1, 1, H, W)
    else:
        if source.color == "rgb":
            x = insert_before(first, "Gather", [x, np.array([2, 1, 0], np.int64)], "head/rgb", axis=1)
        if source.channels == 4:
            opaque = np.full((1, 1, *size_hw), 255, np.uint8)
            x = insert_before(first, "Concat", [x, opaque], "head/opaque", axis=1)  # (1, 4, H, W)
    mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in source.in_pixels(step=step))
    if source.channels != 1 and (wanted != DataType.UINT8 or mean.any() or (std != 1).any()):
        x = insert_before(first, "Cast", [x], "head/float", to=DataType.FLOAT)
    if mean.any():
        x = insert_before(first, "Sub", [x, mean], "head/centred")
    if (std != 1).any():
        x = insert_before(first, "Div", [x, std], "head/scaled")
    if source.layout == "nhwc":
        x = insert_before(first, "Transpose", [x], "head/pixels", perm=[0, 2, 3, 1])  # (1, H, W, 3)
    if source.batch > 1:
        x = insert_before(first, "Concat", [x] * source.batch, "head/batch", axis=0)
    if wanted != DataType.FLOAT:
        x = insert_before(first, "Cast", [x], "head/typed", to=wanted)
    old.replace_all_uses_with(x)


def _add_logits_tail(
    graph: ir.Graph, x: ir.Value, output: ForeignOutput, resize_hw: tuple[int, int] | None
) -> ir.Value:
    """Make float32 logits (1, C, h, w) of the network's output."""
    x = _in_four_axes(graph, append(graph, "Cast", [x], "tail/float", to=DataType.FLOAT), output)
    smallest = np.array(SMALLEST_PROBABILITY, np.float32)
    if output.kind == "softmax":
        x = append(graph, "Max", [x, smallest], "tail/positive")
        x = append(graph, "Log", [x], "tail/log")
    elif output.kind == "sigmoid":  # log p - log (1 - p)
        one = np.array(1, np.float32)
        rest = append(graph, "Sub", [one, x], "tail/rest")
        logs = [
            append(graph, "Log", [append(graph, "Max", [part, smallest], f"{name}/positive")], f"{name}/log")
            for part, name in ((x, "tail/first"), (rest, "tail/second"))
        ]
        x = append(graph, "Sub", logs, "tail/logit")
    if output.layout == "nhwc":
        x = append(graph, "Transpose", [x], "tail/planes", perm=[0, 3, 1, 2])
    if output.is_single:  # softmax (-x/2, x/2) is the sigmoid of x; the threshold moves its zero
        threshold = math.log(output.threshold / (1 - output.threshold))
        if threshold:
            x = append(graph, "Sub", [x, np.array(threshold, np.float32)], "tail/threshold")
        x = append(graph, "Mul", [x, np.array(0.5, np.float32)], "tail/half")
        x = append(graph, "Concat", [append(graph, "Neg", [x], "tail/not"), x], "tail/two", axis=1)
    if resize_hw is not None:
        classes = 2 if output.is_single else output.channels
        x = _add_resize(graph, x, (1, classes, *resize_hw), mode="linear")
    x.name = "logits"
    return x


def _add_mask_tail(
    graph: ir.Graph,
    x: ir.Value,
    output: ForeignOutput,
    size_hw: tuple[int, int],
    classes: int,
    ignore_index: int,
) -> ir.Value:
    """Make a uint8 mask (1, H, W) of the network's class indices; what is no class must not become one."""
    if not output.is_argmax:
        x = append(graph, "Cast", [x], "tail/index", to=DataType.FLOAT)
        if output.void is not None and output.void != ignore_index:
            void = np.array(output.void, np.float32)
            is_void = append(graph, "Equal", [x, void], "tail/is_void")
            x = append(graph, "Where", [is_void, np.array(ignore_index, np.float32), x], "tail/void")
        # A byte would wrap -1 to 255 and 256 to 0; the runtime refuses this one, since no class has it.
        wrong = np.array(254 if ignore_index != 254 and classes <= 254 else ignore_index, np.float32)
        negative = append(graph, "Less", [x, np.array(0, np.float32)], "tail/is_negative")
        x = append(graph, "Where", [negative, wrong, x], "tail/positive")
        above = append(graph, "Greater", [x, np.array(255, np.float32)], "tail/is_above")
        x = append(graph, "Where", [above, wrong, x], "tail/bounded")
    x = _in_four_axes(graph, x, output)
    if output.size_hw != size_hw:
        x = append(graph, "Cast", [x], "tail/float", to=DataType.FLOAT)
        x = append(graph, "Reshape", [x, np.array([1, 1, *output.size_hw], np.int64)], "tail/planes")
        x = _add_resize(graph, x, (1, 1, *size_hw), mode="nearest", nearest_mode="round_prefer_ceil")
    x = append(graph, "Cast", [x], "tail/bytes", to=DataType.UINT8)
    return append(graph, "Reshape", [x, np.array([1, *size_hw], np.int64)], "mask")


def _in_four_axes(graph: ir.Graph, x: ir.Value, output: ForeignOutput) -> ir.Value:
    """Give an output its four axes, and leave one image of a batch."""
    if output.shape != output.view:
        x = append(graph, "Reshape", [x, np.array(output.view, np.int64)], "tail/axes")
    if output.view[0] > 1:
        x = append(graph, "Gather", [x, np.array([0], np.int64)], "tail/first_image", axis=0)
    return x


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


def _without(end: ir.Value, operators: tuple[str, ...]) -> bool:
    """Make the Softmax or Sigmoid before an output an Identity: what goes into it are logits.

    From  logits ─ Softmax ─ (Transpose)
    to    logits ─ Identity ─ (Transpose)

    Returns:
        Whether there was one that nothing else reads.
    """
    value = end
    while (node := value.producer()) is not None:
        if node.op_type in operators and not node.domain:
            node.op_type = "Identity"
            node.attributes.clear()
            return True
        inner = node.inputs[0] if node.inputs else None
        if node.op_type not in _PASSING or inner is None or len(inner.uses()) != 1:
            return False
        value = inner
    return False
