"""A yardstick that turns a machine's milliseconds into work: six 3x3 convolutions, 64 to 64, at 90x120.

A network's time multiplied by the rate of these plain convolutions says how many multiply-adds its time
was worth, a number that can be compared between machines and with the multiply-adds it really has.
"""

from __future__ import annotations

import time

import numpy as np
import onnxruntime as ort

from benchmarks.machine import onnx_bytes as onnx
from runtime.network.session import PROVIDERS, session_options

LAYERS, CHANNELS, KERNEL, HEIGHT, WIDTH = 6, 64, 3, 90, 120
GMAC = LAYERS * CHANNELS * CHANNELS * KERNEL * KERNEL * HEIGHT * WIDTH / 1e9

_SHAPE = (1, CHANNELS, HEIGHT, WIDTH)
_PADS = onnx.integers("pads", [KERNEL // 2] * 4)
_WEIGHT = 1 / (
    CHANNELS * KERNEL * KERNEL
)  # ones stay ones, so that no value fades into slow denormal numbers


class ConvRate:
    """Measures how fast onnxruntime convolves here and now, in float32 or int8."""

    def __init__(self, threads: int, provider: str = "cpu", *, is_int8: bool = False) -> None:
        """Open the yardstick with the threads and the provider of the network it is held against."""
        self._session = ort.InferenceSession(
            int8_conv_stack_onnx() if is_int8 else conv_stack_onnx(),
            session_options(threads),
            providers=list(dict.fromkeys([PROVIDERS[provider], PROVIDERS["cpu"]])),
        )
        self._input = {"x": np.ones(_SHAPE, np.uint8 if is_int8 else np.float32)}

    def run_ms(self) -> float:
        """Return the milliseconds of one run, `GMAC` billion multiply-adds."""
        started_ns = time.perf_counter_ns()
        self._session.run(None, self._input)
        return (time.perf_counter_ns() - started_ns) / 1e6


def conv_stack_onnx() -> bytes:
    """Return the yardstick as an ONNX file.

    The weights, which all layers share, are a ConstantOfShape that onnxruntime computes once at load.
    """
    shape = np.array([CHANNELS, CHANNELS, KERNEL, KERNEL], "<i8")
    value = onnx.tensor_attribute("value", onnx.tensor(np.array([_WEIGHT], "<f4")))
    nodes = [onnx.node("ConstantOfShape", ["shape"], "weights", value)]
    last = "x"
    for layer in range(LAYERS):
        nodes.append(onnx.node("Conv", [last, "weights"], f"conv{layer}", _PADS))
        nodes.append(onnx.node("Relu", [f"conv{layer}"], f"relu{layer}"))
        last = f"relu{layer}"
    return onnx.model(
        "conv_rate",
        nodes,
        [onnx.tensor(shape, "shape")],
        onnx.value("x", onnx.FLOAT, _SHAPE),
        onnx.value(last, onnx.FLOAT, _SHAPE),
    )


def int8_conv_stack_onnx() -> bytes:
    """Return the same convolutions in int8: uint8 in and out, int8 weights, ReLU in the rounding.

    They are the QLinearConv that onnxruntime makes of a quantized file's QuantizeLinear and DequantizeLinear.
    """
    constants = [
        onnx.tensor(np.ones((CHANNELS, CHANNELS, KERNEL, KERNEL), np.int8), "weights"),
        onnx.tensor(np.array(_WEIGHT, "<f4"), "weight_scale"),
        onnx.tensor(np.array(0, np.int8), "weight_zero"),
        onnx.tensor(np.array(1, "<f4"), "scale"),
        onnx.tensor(np.array(0, np.uint8), "zero"),
    ]
    nodes = []
    last = "x"
    for layer in range(LAYERS):
        inputs = [last, "scale", "zero", "weights", "weight_scale", "weight_zero", "scale", "zero"]
        last = f"conv{layer}"
        nodes.append(onnx.node("QLinearConv", inputs, last, _PADS))
    return onnx.model(
        "int8_conv_rate",
        nodes,
        constants,
        onnx.value("x", onnx.UINT8, _SHAPE),
        onnx.value(last, onnx.UINT8, _SHAPE),
    )
