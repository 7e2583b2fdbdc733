"""Writes the yardsticks' ONNX files: `python tests/benchmarks/machine/make_yardsticks.py`.

They lie in the package since the base install, which measures with them, has no library that writes ONNX.
Their weights are a ConstantOfShape, which onnxruntime computes once at load, so a file is tiny.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from benchmarks.machine.yardstick import CHANNELS, FOLDER, HEIGHT, KERNEL, LAYERS, MATRIX, WIDTH

SHAPE = (1, CHANNELS, HEIGHT, WIDTH)
# Ones stay ones, so that no value fades into slow denormal numbers.
WEIGHT = np.float32(1 / (CHANNELS * KERNEL * KERNEL))
PADS = {"pads": [KERNEL // 2] * 4}


class Graph:
    """Nodes and constants of a file with the input x."""

    def __init__(self, shape: tuple[int, ...], dtype: ir.DataType) -> None:
        self.x = ir.Value(name="x", shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self._nodes: list[ir.Node] = []
        self._constants: list[ir.Value] = []

    def constant(self, name: str, values: np.ndarray) -> ir.Value:
        """Add a constant tensor."""
        tensor = ir.tensor(values, name=name)
        kind = ir.TensorType(tensor.dtype)
        self._constants.append(ir.Value(name=name, const_value=tensor, shape=tensor.shape, type=kind))
        return self._constants[-1]

    def node(
        self, operator: str, inputs: list[ir.Value], output: str, attributes: dict[str, Any]
    ) -> ir.Value:
        """Add a node with one output."""
        node = ir.node(operator, inputs, attributes, name=output, outputs=[ir.Value(name=output)])
        self._nodes.append(node)
        return node.outputs[0]

    def filled(self, shape: tuple[int, ...], value: np.generic) -> ir.Value:
        """Add weights of one value."""
        size = self.constant("shape", np.array(shape, np.int64))
        return self.node("ConstantOfShape", [size], "weights", {"value": ir.tensor(value[None])})

    def model(self, name: str, last: ir.Value) -> ir.Model:
        """Return the file; its output is of the input's shape and type."""
        last.shape, last.type = self.x.shape, self.x.type
        graph = ir.Graph(
            [self.x],
            [last],
            nodes=self._nodes,
            initializers=self._constants,
            opset_imports={"": 17},
            name=name,
        )
        return ir.Model(graph, ir_version=8)


def conv() -> ir.Model:
    """Return the convolutions in float32."""
    graph = Graph(SHAPE, ir.DataType.FLOAT)
    weights = graph.filled((CHANNELS, CHANNELS, KERNEL, KERNEL), WEIGHT)
    last = graph.x
    for layer in range(LAYERS):
        last = graph.node("Conv", [last, weights], f"conv{layer}", PADS)
        last = graph.node("Relu", [last], f"relu{layer}", {})
    return graph.model("conv_rate", last)


def int8_conv() -> ir.Model:
    """Return the same convolutions in int8: uint8 in and out, int8 weights, ReLU in the rounding.

    They are the QLinearConv that onnxruntime makes of a quantized file's QuantizeLinear and DequantizeLinear.
    """
    graph = Graph(SHAPE, ir.DataType.UINT8)
    weights = graph.filled((CHANNELS, CHANNELS, KERNEL, KERNEL), np.int8(1))
    weight_scale, weight_zero = (
        graph.constant("weight_scale", WEIGHT),
        graph.constant("weight_zero", np.array(0, np.int8)),
    )
    scale, zero = graph.constant("scale", np.float32(1)), graph.constant("zero", np.uint8(0))
    last = graph.x
    for layer in range(LAYERS):
        inputs = [last, scale, zero, weights, weight_scale, weight_zero, scale, zero]
        last = graph.node("QLinearConv", inputs, f"conv{layer}", PADS)
    return graph.model("int8_conv_rate", last)


def gemm() -> ir.Model:
    """Return a float32 product of two matrices; of a row of ones it makes ones."""
    graph = Graph((MATRIX, MATRIX), ir.DataType.FLOAT)
    weights = graph.filled((MATRIX, MATRIX), np.float32(1 / MATRIX))
    return graph.model("gemm_rate", graph.node("MatMul", [graph.x, weights], "y", {}))


YARDSTICKS = {"conv": conv, "int8_conv": int8_conv, "gemm": gemm}

if __name__ == "__main__":
    for name, make in YARDSTICKS.items():
        ir.save(make(), FOLDER / f"{name}.onnx")
