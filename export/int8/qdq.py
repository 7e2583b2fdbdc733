"""Writes a float32 graph as an int8 one: QuantizeLinear and DequantizeLinear around what int8 can compute.

    x ─ Conv(w, b) ─ Relu ─ y        x, y float32

    x8 ─ DQ ─┐
    w8 ─ DQ ─ Conv ─ Q ─ y8          x8, y8 activations; w8 int8 with a scale an output channel; b32 int32
    b32 ─ DQ ┘

onnxruntime, and every other runtime that knows the form, fuses each such group into one integer operator. A
Relu needs no operator at all: the 8-bit range of its result starts at zero, so the rounding cuts off what is
below. Whatever is not written this way computes in float32 between a DequantizeLinear and a QuantizeLinear.

onnxruntime.quantization writes the same form. It cannot take a uint8 image as it is, and keeps the bilinear
Resize's input and output apart from its neighbours; hence a writer of our own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.graph.edit import (
    array_of,
    constant,
    insert_after,
    insert_before,
    is_constant,
    layer_name,
    numbers,
    only_reader,
    replace_output,
    sweep,
    typed_copy,
)
from export.int8.ranges import ActivationRanges
from export.int8.stem import ImagePath, read_blocks
from export.int8.target import TargetCpu

# Bilinear Resize is left out on purpose: onnxruntime's integer one takes 0.71 ms in the bundled s network,
# the float one with its conversions 0.29, and nearest followed by a convolution as much with a worse mask.
INT8_OPERATORS = frozenset(
    {"Conv", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "Sigmoid", "LeakyRelu", "MaxPool"}
)
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)  # zero would divide by zero
_MAX_BIAS = 2.0**30  # an int32 with room for the sums that come on top


@dataclass(frozen=True)
class QuantizedWeights:
    """A convolution's weights in int8.

    Attributes:
        values: int8 (O, I, kh, kw).
        scale: float32 (O,).
    """

    values: NDArray[np.int8]
    scale: NDArray[np.float32]

    @property
    def dequantized(self) -> NDArray[np.float32]:
        """Float32 (O, I, kh, kw), what the integers stand for."""
        return self.values * self.scale.reshape(-1, 1, 1, 1)


def quantize_weights(
    weights: NDArray[np.float32], limit: int, smallest_scale: NDArray[np.float32] | None = None
) -> QuantizedWeights:
    """Round weights to multiples of a scale of their output channel.

    Args:
        weights: float32 (O, I, kh, kw).
        limit: largest magnitude of a rounded weight.
        smallest_scale: float32 (O,), what a channel's scale must not fall below.

    >>> quantize_weights(np.array([[[[0.5, -1.0]]]], np.float32), 127).values.tolist()
    [[[[64, -127]]]]
    """
    scale = np.abs(weights).max(axis=(1, 2, 3)) / limit  # (O,)
    scale = np.maximum(scale, SMALLEST_SCALE if smallest_scale is None else smallest_scale)
    scale = scale.astype(np.float32)
    values = np.rint(weights / scale.reshape(-1, 1, 1, 1))
    return QuantizedWeights(np.clip(values, -limit, limit).astype(np.int8), scale)


def int8_nodes(model: ir.Model, image: ImagePath | None) -> list[ir.Node]:
    """Return the nodes that int8 can compute, in the graph's order.

    Args:
        model: of `export.graph.edit.typed_copy`.
        image: how the image reaches the first convolution, if that can be replaced.
    """
    skipped = frozenset() if image is None else image.removed
    return [
        node for node in model.graph if node.outputs[0].name not in skipped and _is_int8_node(node, image)
    ]


def watched_tensors(nodes: list[ir.Node], image: ImagePath | None) -> list[str]:
    """Return the tensors whose ranges `write_int8` needs for these nodes."""
    names: dict[str, None] = {}
    for node in nodes:
        if image is None or node.outputs[0].name != image.conv:
            names.update({str(value.name): None for value in node.inputs if value and not is_constant(value)})
        names[str(_result(node).name)] = None
    return list(names)


def write_int8(
    model: ir.Model,
    ranges: ActivationRanges,
    target: TargetCpu,
    image: ImagePath | None,
    excluded: frozenset[str] = frozenset(),
) -> ir.Model:
    """Return the int8 form of a float32 graph.

    Args:
        model: stays as it is; the result's inputs and outputs have the same names and types.
        ranges: of `watched_tensors`.
        target: kind of processor.
        image: how the image reaches the first convolution, if that can be replaced.
        excluded: `export.graph.edit.layer_name` of nodes that stay float32.
    """
    written = typed_copy(model)
    layers = {str(node.outputs[0].name): layer_name(node) for node in written.graph}
    if image is not None and layers[image.conv] in excluded:
        image = None
    nodes = {
        node: layer
        for node in int8_nodes(written, image)
        if (layer := layers[str(node.outputs[0].name)]) not in excluded
    }
    _Writer(written.graph, ranges, target, image, nodes).write()
    return sweep(written)


@dataclass(frozen=True)
class _Quantizer:
    """Scale and zero point of a tensor, constants of the graph."""

    scale: ir.Value
    zero_point: ir.Value

    def inputs(self, value: ir.Value) -> list[ir.Value]:
        """Return what a QuantizeLinear or DequantizeLinear of a tensor reads."""
        return [value, self.scale, self.zero_point]


class _Writer:
    """Goes through a graph once, node by node, and puts the pairs between them."""

    def __init__(
        self,
        graph: ir.Graph,
        ranges: ActivationRanges,
        target: TargetCpu,
        image: ImagePath | None,
        nodes: dict[ir.Node, str],
    ) -> None:
        self._graph, self._target, self._image, self._layers = graph, target, image, nodes
        self._results = {node: _result(node) for node in nodes}
        self._quantizers = self._chosen_quantizers(ranges)
        self._quantized: dict[ir.Value, ir.Value] = {}  # the 8 bits of a float tensor
        self._copies: Counter[str] = Counter()

    def write(self) -> None:
        made_in_int8 = set(self._results.values())
        for node in tuple(self._graph):
            is_int8 = node in self._results
            if is_int8 and self._image is not None and node.outputs[0].name == self._image.conv:
                self._read_image(node, self._image)
            elif is_int8 and node.op_type == "Conv":
                value = node.inputs[0]
                assert value is not None
                self._round(
                    node, self._in_int8(value, node), self._quantizers[value], *_weights_and_bias(node)
                )
            else:
                for place, value in enumerate(node.inputs):
                    if value is not None and (is_int8 or value in made_in_int8):
                        node.replace_input_with(place, self._in_int8(value, node))
            if is_int8:
                self._end(node, self._results[node])

    def _chosen_quantizers(self, ranges: ActivationRanges) -> dict[ir.Value, _Quantizer]:
        """Give every 8-bit tensor its scale; what only picks values keeps the scale of its input."""
        tensors = ir.convenience.create_value_mapping(self._graph)
        lowest = int(np.iinfo(self._target.activation_dtype).min)
        quantizers = {}
        for name, (low, high) in ranges.limits.items():
            scale = np.float32(max((high - low) / 255, SMALLEST_SCALE))
            place = int(np.clip(round(-low / float(scale)), 0, 255))
            quantizers[tensors[name]] = self._quantizer(name, scale, place + lowest)
        for node, result in self._results.items():
            if node.op_type == "MaxPool" and node.inputs[0] is not None:
                quantizers[result] = quantizers[node.inputs[0]]
        return quantizers

    def _quantizer(self, name: str, scale: np.float32, zero_point: int) -> _Quantizer:
        return _Quantizer(
            constant(self._graph, f"{name}:scale", np.array(scale)),
            constant(self._graph, f"{name}:zero_point", np.array(zero_point, self._target.activation_dtype)),
        )

    def _read_image(self, node: ir.Node, image: ImagePath) -> None:
        """Let the first convolution read the uint8 image."""
        pixels, zero_point = self._graph.inputs[0], image.zero_point
        sizes = [size if isinstance(size, int) else 0 for size in pixels.shape or ()]
        size_hw = (sizes[1], sizes[2]) if all(sizes) and sizes[0] == 1 else (0, 0)
        if self._target.activations == "int8":
            # Flipping the top bit and reading the byte as signed subtracts 128 from every pixel.
            top_bit = np.array(128, np.uint8)
            pixels = insert_before(node, "BitwiseXor", [pixels, top_bit], "image:flipped")
            pixels = insert_before(node, "Cast", [pixels], "image:int8", to=ir.DataType.INT8)
            zero_point -= 128
        weights, bias = image.fold(*_weights_and_bias(node))
        pixels, weights = read_blocks(node, pixels, weights, size_hw)
        planes = insert_before(node, "Transpose", [pixels], "image:planes", perm=[0, 3, 1, 2])
        quantizer = self._quantizer("image:planes", np.float32(1), zero_point)
        source = insert_before(node, "DequantizeLinear", quantizer.inputs(planes), "image:planes:dq")
        self._round(node, source, quantizer, weights, bias)

    def _round(
        self,
        node: ir.Node,
        source: ir.Value,
        quantizer: _Quantizer,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> None:
        """Let a convolution read its source with integer weights and bias."""
        scale = numbers(quantizer.scale)
        # A channel of tiny weights would need more than 32 bits for its bias.
        smallest = np.maximum(np.abs(bias) / (_MAX_BIAS * float(scale)), SMALLEST_SCALE)
        rounded = quantize_weights(weights, self._target.weight_limit, smallest.astype(np.float32))
        bias_scale = np.maximum(rounded.scale * scale, np.float32(SMALLEST_SCALE))
        rounded_bias = np.rint(bias / bias_scale).astype(np.int32)
        layer = self._layers[node]
        node.resize_inputs(3)
        node.replace_input_with(0, source)
        node.replace_input_with(1, self._weights(node, f"{layer}:weight", rounded.values, rounded.scale))
        node.replace_input_with(2, self._weights(node, f"{layer}:bias", rounded_bias, bias_scale))

    def _weights(
        self, reader: ir.Node, name: str, values: NDArray[np.integer], scale: NDArray[np.float32]
    ) -> ir.Value:
        """Return integers behind a DequantizeLinear by output channel."""
        inputs = [
            constant(self._graph, f"{name}:q", values),
            constant(self._graph, f"{name}:scale", scale),
            constant(self._graph, f"{name}:zero_point", np.zeros(len(scale), values.dtype)),
        ]
        return insert_before(reader, "DequantizeLinear", inputs, f"{name}:dq", axis=0)

    def _end(self, node: ir.Node, result: ir.Value) -> None:
        """Add the QuantizeLinear behind an int8 node, and the way back for the caller."""
        quantizer, name, source = self._quantizers[result], str(result.name), node.outputs[0]
        quantized = insert_after(source, "QuantizeLinear", quantizer.inputs(source), f"{name}:q")
        self._quantized[result] = quantized
        if result.is_graph_output():
            result.name = f"{name}:float"
            given = insert_after(quantized, "DequantizeLinear", quantizer.inputs(quantized), name)
            given.type, given.shape = result.type, result.shape
            replace_output(result, given)

    def _in_int8(self, value: ir.Value, reader: ir.Node) -> ir.Value:
        """Return the float tensor behind a DequantizeLinear of the reader's own, as fusion wants it."""
        quantizer, name = self._quantizers[value], str(value.name)
        if value not in self._quantized:
            self._quantized[value] = insert_before(
                reader, "QuantizeLinear", quantizer.inputs(value), f"{name}:q"
            )
        self._copies[name] += 1
        inputs = quantizer.inputs(self._quantized[value])
        return insert_before(reader, "DequantizeLinear", inputs, f"{name}:dq{self._copies[name]}")


def _is_float_activation(value: ir.Value | None) -> bool:
    """Whether a tensor is float32 and computed from the image."""
    return value is not None and not is_constant(value) and value.dtype == ir.DataType.FLOAT


def _is_int8_node(node: ir.Node, image: ImagePath | None) -> bool:
    if node.op_type not in INT8_OPERATORS or len(node.outputs) != 1:
        return False
    if image is not None and node.outputs[0].name == image.conv:
        return True
    if node.op_type == "Conv":
        has_constants = all(is_constant(value) for value in node.inputs[1:] if value)
        return _is_float_activation(node.inputs[0]) and has_constants
    return all(_is_float_activation(value) for value in node.inputs)


def _weights_and_bias(node: ir.Node) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    weights, bias = (array_of(value) for value in (*node.inputs[1:], None)[:2])
    assert weights is not None
    return weights, np.zeros(len(weights), np.float32) if bias is None else bias


def _result(node: ir.Node) -> ir.Value:
    """Return what a node's QuantizeLinear stands for: its output, or that of the Relu behind it."""
    output = node.outputs[0]
    reader = only_reader(output)
    if reader is None or node.op_type in ("MaxPool", "Sigmoid"):
        return output
    return reader.outputs[0] if reader.op_type == "Relu" or _is_clip_from_zero(reader) else output


def _is_clip_from_zero(node: ir.Node) -> bool:
    """Whether a node is ReLU6 or alike, whose upper bound its calibrated range keeps."""
    if node.op_type != "Clip" or len(node.inputs) < 2:
        return False
    lowest = array_of(node.inputs[1])
    is_bounded_by_constants = all(is_constant(value) for value in node.inputs[2:] if value)
    return lowest is not None and is_bounded_by_constants and float(lowest) == 0
