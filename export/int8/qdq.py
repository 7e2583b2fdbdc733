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

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.graph.view import GraphView, fixed_size, with_attributes
from export.int8.image_input import ImagePath
from export.int8.pixel_blocks import BLOCK_ATTRIBUTES, block_nodes, block_weights, takes_blocks
from export.int8.ranges import ActivationRanges
from export.int8.target import TargetCpu
from export.int8.weights import SMALLEST_SCALE, quantize_weights

# Bilinear Resize is left out on purpose: onnxruntime's integer one takes 0.71 ms in the bundled s network,
# the float one with its conversions 0.29, and nearest followed by a convolution as much with a worse mask.
INT8_OPERATORS = frozenset(
    {"Conv", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "Sigmoid", "LeakyRelu", "MaxPool"}
)
_MAX_BIAS = 2.0**30  # an int32 with room for the sums that come on top


@dataclass(frozen=True)
class _Quantizer:
    """Scale and zero point of a tensor."""

    scale: np.float32
    zero_point: int


def int8_nodes(view: GraphView, model: onnx.ModelProto, image: ImagePath | None) -> list[onnx.NodeProto]:
    """Return the nodes that int8 can compute, in the graph's order."""
    skipped = frozenset() if image is None else image.removed
    return [
        node
        for node in model.graph.node
        if node.output[0] not in skipped and _is_int8_node(view, node, image)
    ]


def watched_tensors(view: GraphView, nodes: list[onnx.NodeProto], image: ImagePath | None) -> list[str]:
    """Return the tensors whose ranges `write_int8` needs for these nodes."""
    names: dict[str, None] = {}
    for node in nodes:
        if image is None or node.output[0] != image.conv:
            names.update(dict.fromkeys(_activations(view, node)))
        names[_result(view, node)] = None
    return list(names)


def write_int8(
    model: onnx.ModelProto,
    ranges: ActivationRanges,
    target: TargetCpu,
    image: ImagePath | None,
    excluded: frozenset[str] = frozenset(),
) -> onnx.ModelProto:
    """Return the int8 form of a float32 graph.

    Args:
        model: its inputs and outputs keep their names and types.
        ranges: of `watched_tensors`.
        target: kind of processor.
        image: how the image reaches the first convolution, if that can be replaced.
        excluded: `GraphView.layer_name` of nodes that stay float32.
    """
    view = GraphView(model)
    if image is not None and view.layer_name(view.producer[image.conv]) in excluded:
        image = None
    nodes = [node for node in int8_nodes(view, model, image) if view.layer_name(node) not in excluded]
    return _Writer(model, view, ranges, target, image, nodes).write()


class _Writer:
    """Goes through a graph once, node by node."""

    def __init__(
        self,
        model: onnx.ModelProto,
        view: GraphView,
        ranges: ActivationRanges,
        target: TargetCpu,
        image: ImagePath | None,
        nodes: list[onnx.NodeProto],
    ) -> None:
        self._model, self._view, self._ranges = model, view, ranges
        self._target, self._image = target, image
        self._int8 = {node.output[0] for node in nodes}
        self._absorbed = {
            result for node in nodes if (result := _result(view, node)) != node.output[0]
        }  # outputs of Relus
        self._made_in_int8 = {_result(view, node) for node in nodes}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._quantizers: dict[str, _Quantizer] = {}
        self._copies: dict[str, int] = {}

    def write(self) -> onnx.ModelProto:
        self._choose_quantizers()
        removed = frozenset() if self._image is None else self._image.removed
        for node in self._model.graph.node:
            name = node.output[0]
            if self._image is not None and name == self._image.conv:
                self._add_first_conv(node, self._image)
                self._end(node)
            elif name in removed or name in self._absorbed:
                continue
            elif name not in self._int8:
                self._add_float(node)
            else:
                if node.op_type == "Conv":
                    self._add_conv(node)
                else:
                    self._add(node, [self._in_int8(item) if item else "" for item in node.input])
                self._end(node)
        written = onnx.ModelProto()
        written.CopyFrom(self._model)
        graph = written.graph
        for part in (graph.node, graph.initializer, graph.value_info):
            del part[:]
        graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in node.input}
        graph.initializer.extend(
            tensor
            for tensor in (*self._model.graph.initializer, *self._constants.values())
            if tensor.name in read
        )
        return written

    def _choose_quantizers(self) -> None:
        """Give every 8-bit tensor its scale; what only picks values keeps the scale of its input."""
        dtype = self._target.activation_dtype
        lowest = int(np.iinfo(dtype).min)
        for name, (low, high) in self._ranges.limits.items():
            scale = np.float32(max((high - low) / 255, SMALLEST_SCALE))
            place = int(np.clip(round(-low / float(scale)), 0, 255))
            self._quantizers[name] = _Quantizer(scale, place + lowest)
        for node in self._model.graph.node:
            if node.output[0] in self._int8 and node.op_type == "MaxPool":
                self._quantizers[_result(self._view, node)] = self._quantizers[node.input[0]]

    def _add_first_conv(self, node: onnx.NodeProto, image: ImagePath) -> None:
        """Add the convolution that reads the uint8 image, and what takes the image there."""
        pixels, zero_point = image.image, image.zero_point
        if self._target.activations == "int8":
            # Flipping the top bit and reading the byte as signed subtracts 128 from every pixel.
            self._constant("image:top_bit", np.array(128, np.uint8))
            self._nodes.append(helper.make_node("BitwiseXor", [pixels, "image:top_bit"], ["image:flipped"]))
            self._nodes.append(
                helper.make_node("Cast", ["image:flipped"], ["image:int8"], to=TensorProto.INT8)
            )
            pixels, zero_point = "image:int8", zero_point - 128
        weights, bias = image.fold(*self._weights_and_bias(node))
        size_hw = fixed_size(self._model.graph.input[0])
        if size_hw is not None and takes_blocks(node, weights, size_hw):
            nodes, constants, pixels = block_nodes(pixels, size_hw)
            self._nodes.extend(nodes)
            for name, values in constants.items():
                self._constant(name, values)
            weights, node = block_weights(weights), with_attributes(node, BLOCK_ATTRIBUTES)
        self._nodes.append(helper.make_node("Transpose", [pixels], ["image:planes"], perm=[0, 3, 1, 2]))
        self._quantizers["image:planes"] = _Quantizer(np.float32(1), zero_point)
        planes = self._dequantize("image:planes", "image:planes", "image:planes:dq")
        self._add_rounded(node, planes, "image:planes", weights, bias)

    def _add_conv(self, node: onnx.NodeProto) -> None:
        """Add any other convolution."""
        weights, bias = self._weights_and_bias(node)
        self._add_rounded(node, self._in_int8(node.input[0]), node.input[0], weights, bias)

    def _weights_and_bias(self, node: onnx.NodeProto) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        weights = np.asarray(self._view.constants[node.input[1]], np.float32)
        if len(node.input) < 3 or not node.input[2]:
            return weights, np.zeros(len(weights), np.float32)
        return weights, np.asarray(self._view.constants[node.input[2]], np.float32)

    def _add_rounded(
        self,
        node: onnx.NodeProto,
        source: str,
        quantized_as: str,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> None:
        """Add a convolution with integer weights and bias."""
        input_scale = self._quantizers[quantized_as].scale
        # A channel of tiny weights would need more than 32 bits for its bias.
        smallest = np.maximum(np.abs(bias) / (_MAX_BIAS * float(input_scale)), SMALLEST_SCALE)
        rounded = quantize_weights(weights, self._target.weight_limit, smallest.astype(np.float32))
        bias_scale = np.maximum(rounded.scale * input_scale, np.float32(SMALLEST_SCALE))
        rounded_bias = np.rint(bias / bias_scale).astype(np.int32)
        layer = self._view.layer_name(node)
        self._add(
            node,
            [
                source,
                self._dequantized_constant(f"{layer}:weight", rounded.values, rounded.scale),
                self._dequantized_constant(f"{layer}:bias", rounded_bias, bias_scale),
            ],
        )

    def _end(self, node: onnx.NodeProto) -> None:
        """Add the QuantizeLinear behind an int8 node, and the way back for the caller."""
        result = _result(self._view, node)
        source = node.output[0]
        if result in self._view.outputs and result == source:
            source = f"{result}:float"
            self._nodes[-1].output[0] = source
        self._quantize(source, result)
        if result in self._view.outputs:
            self._dequantize(result, f"{result}:q", result)

    def _in_int8(self, name: str) -> str:
        """Return the float name behind a DequantizeLinear of its own, as fusion wants it."""
        if name not in self._made_in_int8 and name not in self._copies:
            self._quantize(name, name)
        self._copies[name] = self._copies.get(name, 0) + 1
        return self._dequantize(name, f"{name}:q", f"{name}:dq{self._copies[name]}")

    def _add_float(self, node: onnx.NodeProto) -> None:
        """Add a node that stays float32."""
        self._add(node, [self._in_int8(name) if name in self._made_in_int8 else name for name in node.input])

    def _add(self, node: onnx.NodeProto, inputs: list[str]) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:]
        copy.input.extend(inputs)
        self._nodes.append(copy)

    def _quantize(self, source: str, name: str) -> None:
        """Add source (float) → name:q (8 bits)."""
        self._nodes.append(
            helper.make_node("QuantizeLinear", [source, *self._parameters(name)], [f"{name}:q"])
        )

    def _dequantize(self, name: str, source: str, result: str) -> str:
        """Add source (8 bits) → result (float), with the scale of `name`."""
        self._nodes.append(helper.make_node("DequantizeLinear", [source, *self._parameters(name)], [result]))
        return result

    def _parameters(self, name: str) -> tuple[str, str]:
        """Return the names of a tensor's scale and zero point."""
        quantizer = self._quantizers[name]
        scale = self._constant(f"{name}:scale", np.array(quantizer.scale, np.float32))
        zero_point = np.array(quantizer.zero_point, self._target.activation_dtype)
        return scale, self._constant(f"{name}:zero_point", zero_point)

    def _dequantized_constant(
        self, name: str, values: NDArray[np.int8] | NDArray[np.int32], scale: NDArray[np.float32]
    ) -> str:
        """Add integers and their DequantizeLinear by output channel; return the float name."""
        names = [
            self._constant(f"{name}:q", values),
            self._constant(f"{name}:scale", scale),
            self._constant(f"{name}:zero_point", np.zeros(len(scale), values.dtype)),
        ]
        self._nodes.append(helper.make_node("DequantizeLinear", names, [f"{name}:dq"], axis=0))
        return f"{name}:dq"

    def _constant(self, name: str, values: NDArray[np.generic]) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(values, name)
        return name


def _is_int8_node(view: GraphView, node: onnx.NodeProto, image: ImagePath | None) -> bool:
    if node.op_type not in INT8_OPERATORS or len(node.output) != 1:
        return False
    if image is not None and node.output[0] == image.conv:
        return True
    if node.op_type == "Conv":
        return view.is_float_activation(node.input[0]) and all(
            name in view.constants for name in node.input[1:] if name
        )
    return all(view.is_float_activation(name) for name in node.input)


def _activations(view: GraphView, node: onnx.NodeProto) -> list[str]:
    """Return the inputs of a node that depend on the image."""
    return [name for name in node.input if name and name not in view.constants]


def _result(view: GraphView, node: onnx.NodeProto) -> str:
    """Return what a node's QuantizeLinear stands for: its output, or that of the Relu behind it."""
    reader = view.only_reader(node.output[0])
    if reader is None or node.op_type in ("MaxPool", "Sigmoid"):
        return str(node.output[0])
    if reader.op_type == "Relu" or _is_clip_from_zero(view, reader):
        return str(reader.output[0])
    return str(node.output[0])


def _is_clip_from_zero(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether a node is ReLU6 or alike, whose upper bound its calibrated range keeps."""
    if node.op_type != "Clip" or len(node.input) < 2 or node.input[1] not in view.constants:
        return False
    is_bounded_by_constants = all(name in view.constants for name in node.input[2:] if name)
    return is_bounded_by_constants and float(view.constants[node.input[1]]) == 0
