"""Counts a node's multiply-accumulates from the shapes of what it reads and writes, whoever knows them.

Shapes are enough, whatever an attribute says: the strides are in the output's shape, the groups in the
weights', and of a matrix product the three numbers below say the same with either side transposed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = Sequence[int]

# Place of the weights, (out, in / groups, rows, columns). ORT's fused forms bear other names.
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
_MATRICES = {"Gemm": 1, "FusedGemm": 1, "FusedMatMul": 1, "QGemm": 3}  # place of the second one
_PRODUCTS = (
    "MatMul",
    "MatMulInteger",
    "QLinearMatMul",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
)
# Not counted, so the number for their graph is unknown rather than too small.
_UNKNOWN = (
    "Attention",
    "DeformConv",
    "Einsum",
    "GRU",
    "GroupQueryAttention",
    "LSTM",
    "MatMulNBits",
    "MultiHeadAttention",
    "QAttention",
    "RNN",
)


def multiply_adds(operator: str, inputs: Sequence[Shape | None], output: Shape | None) -> int | None:
    """Return the multiply-accumulates of convolutions and matrix products; 0 for every other operator.

    Args:
        operator: of ONNX, or one that onnxruntime makes of it.
        inputs: shapes of the node's inputs by place; None where one is unknown.
        output: shape of its first output.

    Returns:
        None if a shape that is needed, or how the operator computes, is unknown.

    >>> multiply_adds("Conv", [(1, 3, 352, 480), (16, 3, 3, 3)], (1, 16, 176, 240))
    18247680
    >>> multiply_adds("Gemm", [(3, 16), (5, 16)], (3, 5))
    240
    """
    if operator in _UNKNOWN:
        return None
    if operator in _PRODUCTS:
        source = _at(inputs, 0)
        return None if source is None or output is None else math.prod(output) * source[-1]
    if operator in _MATRICES:
        return _matrix_product(_at(inputs, 0), _at(inputs, _MATRICES[operator]), output)
    if operator == "ConvTranspose":  # each number that it reads is spread by a kernel
        return _kernels(_at(inputs, 0), _at(inputs, 1))
    if operator in CONVOLUTIONS:  # each number that it writes is gathered by one
        return _kernels(output, _at(inputs, CONVOLUTIONS[operator]))
    return 0


def _kernels(moved: Shape | None, weights: Shape | None) -> int | None:
    """Return the work of one kernel, which covers weights.shape[1:], for each number."""
    return None if moved is None or weights is None else math.prod(moved) * math.prod(weights[1:])


def _matrix_product(first: Shape | None, second: Shape | None, output: Shape | None) -> int | None:
    """Return batch * M * N * K, where M*K, K*N and M*N are the matrices' sizes, so their product's root."""
    if first is None or second is None or output is None or min(len(first), len(second), len(output)) < 2:
        return None
    sizes = [math.prod(shape[-2:]) for shape in (first, second, output)]
    return math.prod(output[:-2]) * math.isqrt(math.prod(sizes))


def _at(inputs: Sequence[Shape | None], place: int) -> Shape | None:
    return inputs[place] if place < len(inputs) else None
