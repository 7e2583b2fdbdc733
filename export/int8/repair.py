"""Two changes of a float32 graph that make it lose less in int8: equalisation and bias correction.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graph.view import GraphView, attribute, replace_constants
from export.int8.image_input import ImagePath
from export.int8.ranges import ActivationRanges
from export.int8.target import TargetCpu
from export.int8.weights import quantize_weights

_ROUNDS = 3  # a layer that ends one pair and starts the next settles within few


def equalize(model: onnx.ModelProto, image: ImagePath | None) -> onnx.ModelProto:
    """Return a graph of the same function whose channels have more alike ranges.

    A Relu lets any positive factor of a channel through, so a channel may be made small in front of it and
    as much larger behind it:

        Conv(w1, b1) ─ Relu ─ Conv(w2)        with nothing else reading in between
        Conv(w1 / s, b1 / s) ─ Relu ─ Conv(w2 * s)

    Args:
        model: float32 graph.
        image: its first convolution, which reads pixels, is no second one of a pair.
    """
    view = GraphView(model)
    arrays = {
        name: np.array(values, np.float32)
        for name, values in view.constants.items()
        if values.dtype == np.float32
    }
    pairs = [pair for node in model.graph.node if (pair := _pair(view, node, image)) is not None]
    for _ in range(_ROUNDS):
        for first, second in pairs:
            before, after = arrays[first.input[1]], arrays[second.input[1]]
            out_range = np.abs(before).max(axis=(1, 2, 3))  # (C,)
            in_range = np.abs(after).max(axis=(0, 2, 3))  # (C,)
            is_alive = (out_range > 0) & (in_range > 0)
            factor = np.ones_like(out_range)
            factor[is_alive] = np.sqrt(out_range[is_alive] / in_range[is_alive])
            arrays[first.input[1]] = before / factor[:, None, None, None]
            arrays[second.input[1]] = after * factor[:, None, None]
            if len(first.input) > 2 and first.input[2]:
                arrays[first.input[2]] = arrays[first.input[2]] / factor
    return replace_constants(model, arrays)


def correct_biases(model: onnx.ModelProto, ranges: ActivationRanges, target: TargetCpu) -> onnx.ModelProto:
    """Return a graph whose biases take back what rounding the weights adds to each channel on average.

    The rounded weights differ from the true ones by e, so the outputs by e * x, on average e * mean(x).

    Args:
        model: float32 graph.
        ranges: with the means of its activations.
        target: says how weights are rounded.
    """
    view = GraphView(model)
    arrays: dict[str, NDArray[np.float32]] = {}
    for node in model.graph.node:
        has_constants = node.op_type == "Conv" and len(node.input) > 2 and node.input[2] in view.constants
        if not has_constants or node.input[1] not in view.constants:
            continue
        mean = ranges.channel_means.get(node.input[0])  # (I,); the image's is not watched
        if mean is None or attribute(node, "group", 1) != 1:
            continue
        weights = np.asarray(view.constants[node.input[1]], np.float32)
        error = quantize_weights(weights, target.weight_limit).dequantized.astype(np.float64) - weights
        shift = error.sum(axis=(2, 3)) @ mean  # (O,)
        arrays[node.input[2]] = (view.constants[node.input[2]] - shift).astype(np.float32)
    return replace_constants(model, arrays)


def _pair(
    view: GraphView, node: onnx.NodeProto, image: ImagePath | None
) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """Return a convolution and the one behind its Relu, if each is all that the other one knows."""
    if not _is_plain(view, node):
        return None
    relu = view.only_reader(node.output[0])
    second = None if relu is None or relu.op_type != "Relu" else view.only_reader(relu.output[0])
    if second is None or not _is_plain(view, second):
        return None
    is_first = image is not None and second.output[0] == image.conv
    return None if is_first else (node, second)


def _is_plain(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution over all channels whose constants are its own."""
    return (
        node.op_type == "Conv"
        and attribute(node, "group", 1) == 1
        and all(name in view.constants and len(view.readers[name]) == 1 for name in node.input[1:] if name)
    )
