"""Two changes of a float32 graph that make it lose less in int8: equalisation and bias correction.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph.edit import is_constant, numbers, only_reader, set_array
from export.int8.qdq import quantize_weights
from export.int8.ranges import ActivationRanges
from export.int8.stem import ImagePath
from export.int8.target import TargetCpu

_ROUNDS = 3  # a layer that ends one pair and starts the next settles within few


def equalize(model: ir.Model, image: ImagePath | None) -> ir.Model:
    """Return a graph of the same function whose channels have more alike ranges.

    A Relu lets any positive factor of a channel through, so a channel may be made small in front of it and
    as much larger behind it:

        Conv(w1, b1) ─ Relu ─ Conv(w2)        with nothing else reading in between
        Conv(w1 / s, b1 / s) ─ Relu ─ Conv(w2 * s)

    Args:
        model: float32 graph; stays as it is.
        image: its first convolution, which reads pixels, is no second one of a pair.
    """
    equalized = model.clone()
    pairs = [
        (_constants(node), _constants(second))
        for node in equalized.graph
        if (second := _second(node, image)) is not None
    ]
    for _ in range(_ROUNDS):
        for (weights, *bias), (next_weights, *_) in pairs:
            before, after = numbers(weights), numbers(next_weights)
            out_range = np.abs(before).max(axis=(1, 2, 3))  # (C,)
            in_range = np.abs(after).max(axis=(0, 2, 3))  # (C,)
            is_alive = (out_range > 0) & (in_range > 0)
            factor = np.ones_like(out_range)
            factor[is_alive] = np.sqrt(out_range[is_alive] / in_range[is_alive])
            set_array(weights, before / factor[:, None, None, None])
            set_array(next_weights, after * factor[:, None, None])
            for value in bias:
                set_array(value, numbers(value) / factor)
    return equalized


def correct_biases(model: ir.Model, ranges: ActivationRanges, target: TargetCpu) -> ir.Model:
    """Return a graph whose biases take back what rounding the weights adds to each channel on average.

        Conv(w, b)
        Conv(w, b - e * mean(x))

    The rounded weights differ from the true ones by e, so the outputs by e * x, on average e * mean(x).

    Args:
        model: float32 graph; stays as it is.
        ranges: with the means of its activations.
        target: says how weights are rounded.
    """
    corrected = model.clone()
    for node in corrected.graph:
        constants = _constants(node)
        if node.op_type != "Conv" or len(constants) < 2 or not all(map(is_constant, constants)):
            continue
        source = node.inputs[0]
        mean = None if source is None else ranges.channel_means.get(str(source.name))  # (I,)
        if mean is None or node.attributes.get_int("group", 1) != 1:
            continue  # the image's mean is not watched
        weights, bias = map(numbers, constants)
        error = quantize_weights(weights, target.weight_limit).dequantized.astype(np.float64) - weights
        shift = error.sum(axis=(2, 3)) @ mean  # (O,)
        set_array(constants[1], (bias - shift).astype(np.float32))
    return corrected


def _second(node: ir.Node, image: ImagePath | None) -> ir.Node | None:
    """Return the convolution behind a convolution's Relu, if each is all that the other one knows."""
    if not _is_plain(node):
        return None
    relu = only_reader(node.outputs[0])
    second = None if relu is None or relu.op_type != "Relu" else only_reader(relu.outputs[0])
    if second is None or not _is_plain(second):
        return None
    is_first = image is not None and second.outputs[0].name == image.conv
    return None if is_first else second


def _is_plain(node: ir.Node) -> bool:
    """Whether a node is a convolution over all channels whose constants are its own."""
    return (
        node.op_type == "Conv"
        and node.attributes.get_int("group", 1) == 1
        and all(is_constant(value) and len(value.uses()) == 1 for value in _constants(node))
    )


def _constants(node: ir.Node) -> list[ir.Value]:
    """Return weights and bias, if there is one."""
    return [value for value in node.inputs[1:] if value is not None]
