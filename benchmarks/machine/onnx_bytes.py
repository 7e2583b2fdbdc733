"""Writes small ONNX files with the field numbers of onnx.proto: the base install has no onnx package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FLOAT, UINT8, INT8, INT64 = 1, 2, 3, 7  # onnx.TensorProto.DataType
_KINDS = {"float32": FLOAT, "uint8": UINT8, "int8": INT8, "int64": INT64}
_INTEGERS, _TENSOR = 7, 4  # onnx.AttributeProto.AttributeType


def model(
    name: str, nodes: Sequence[bytes], constants: Sequence[bytes], inputs: bytes, outputs: bytes
) -> bytes:
    """Return a ModelProto of opset 17 with one input and one output."""
    graph = [
        *(field(1, each) for each in nodes),
        field(2, name.encode()),
        *(field(5, each) for each in constants),
        field(11, inputs),
        field(12, outputs),
    ]
    opset = field(1, b"") + field(2, 17)
    return field(1, 8) + field(7, b"".join(graph)) + field(8, opset)  # IR version 8


def node(operator: str, inputs: Sequence[str], output: str, attribute: bytes | None = None) -> bytes:
    """Return a NodeProto."""
    names = b"".join(field(1, name.encode()) for name in inputs)
    attributes = b"" if attribute is None else field(5, attribute)
    return names + field(2, output.encode()) + field(4, operator.encode()) + attributes


def integers(name: str, values: Sequence[int]) -> bytes:
    """Return an AttributeProto."""
    return field(1, name.encode()) + b"".join(field(8, value) for value in values) + field(20, _INTEGERS)


def tensor_attribute(name: str, value: bytes) -> bytes:
    """Return an AttributeProto that holds a TensorProto."""
    return field(1, name.encode()) + field(5, value) + field(20, _TENSOR)


def tensor(values: NDArray[np.generic], name: str = "") -> bytes:
    """Return a TensorProto of a little-endian array."""
    dims = b"".join(field(1, size) for size in values.shape)
    return dims + field(2, _KINDS[values.dtype.name]) + field(8, name.encode()) + field(9, values.tobytes())


def value(name: str, kind: int, shape: Sequence[int]) -> bytes:
    """Return a ValueInfoProto of a tensor."""
    dims = b"".join(field(1, field(1, size)) for size in shape)
    return field(1, name.encode()) + field(2, field(1, field(1, kind) + field(2, dims)))


def field(number: int, content: int | bytes) -> bytes:
    """Return one protobuf field: a varint, or bytes with their length in front."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Return an unsigned integer seven bits a byte, lowest first; a set top bit says that more follow."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
