"""A yardstick that turns a machine's milliseconds into work: six 3x3 convolutions, 64 to 64, at 90x120.

A network's time multiplied by the rate of these plain convolutions says how many multiply-adds its time
was worth, a number that can be compared between machines and with the multiply-adds it really has.
"""

from __future__ import annotations

import time

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.session import PROVIDERS, session_options

LAYERS, CHANNELS, KERNEL, HEIGHT, WIDTH = 6, 64, 3, 90, 120
GMAC = LAYERS * CHANNELS * CHANNELS * KERNEL * KERNEL * HEIGHT * WIDTH / 1e9

_FLOAT, _INT64 = 1, 7  # onnx.TensorProto.DataType


class ConvRate:
    """Measures how fast onnxruntime convolves here and now, in float32."""

    def __init__(self, threads: int, provider: str = "cpu") -> None:
        """Open the yardstick with the threads and the provider of the network it is held against."""
        self._session = ort.InferenceSession(
            conv_stack_onnx(),
            session_options(threads),
            providers=list(dict.fromkeys([PROVIDERS[provider], PROVIDERS["cpu"]])),
        )
        self._input = {"x": np.ones((1, CHANNELS, HEIGHT, WIDTH), np.float32)}

    def run_ms(self) -> float:
        """Return the milliseconds of one run, `GMAC` billion multiply-adds."""
        started_ns = time.perf_counter_ns()
        self._session.run(None, self._input)
        return (time.perf_counter_ns() - started_ns) / 1e6


def conv_stack_onnx() -> bytes:
    """Return the yardstick as an ONNX file.

    Its few bytes are put together here, with the field numbers of onnx.proto, since the base install has no
    onnx package. The weights, which all layers share, are a ConstantOfShape that onnxruntime computes once
    at load; with 1 / (64 * 9) ones stay ones, so that no value fades into slow denormal numbers.
    """
    shape = _tensor(_INT64, np.array([CHANNELS, CHANNELS, KERNEL, KERNEL], "<i8"))
    weight = _tensor(_FLOAT, np.array([1 / (CHANNELS * KERNEL * KERNEL)], "<f4"))
    value = _field(1, b"value") + _field(5, weight) + _field(20, 4)  # 4 = a tensor
    pads = _field(1, b"pads") + _field(8, KERNEL // 2) * 4 + _field(20, 7)  # 7 = integers
    nodes = [_node("ConstantOfShape", ["shape"], "weights", value)]
    last = "x"
    for layer in range(LAYERS):
        nodes.append(_node("Conv", [last, "weights"], f"conv{layer}", pads))
        nodes.append(_node("Relu", [f"conv{layer}"], f"relu{layer}"))
        last = f"relu{layer}"
    graph = [
        *(_field(1, node) for node in nodes),
        _field(2, b"conv_rate"),
        _field(5, shape + _field(8, b"shape")),
        _field(11, _planes("x")),
        _field(12, _planes(last)),
    ]
    opset = _field(1, b"") + _field(2, 17)
    return _field(1, 8) + _field(7, b"".join(graph)) + _field(8, opset)  # IR version 8


def _node(operator: str, inputs: list[str], output: str, attribute: bytes | None = None) -> bytes:
    """Return a NodeProto."""
    names = b"".join(_field(1, name.encode()) for name in inputs)
    attributes = b"" if attribute is None else _field(5, attribute)
    return names + _field(2, output.encode()) + _field(4, operator.encode()) + attributes


def _tensor(kind: int, values: NDArray[np.generic]) -> bytes:
    """Return a TensorProto of a one-dimensional, little-endian array."""
    return _field(1, len(values)) + _field(2, kind) + _field(9, values.tobytes())


def _planes(name: str) -> bytes:
    """Return a ValueInfoProto of float32 (1, CHANNELS, HEIGHT, WIDTH)."""
    dimensions = b"".join(_field(1, _field(1, size)) for size in (1, CHANNELS, HEIGHT, WIDTH))
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, dimensions)))


def _field(number: int, value: int | bytes) -> bytes:
    """Return one protobuf field: a varint, or bytes with their length in front."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Return an unsigned integer seven bits a byte, lowest first; a set top bit says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
