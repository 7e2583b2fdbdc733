"""Work counted from shapes, against numbers multiplied by hand."""

import pytest

from export.graph.multiply_adds import multiply_adds


@pytest.mark.parametrize(
    ("operator", "inputs", "output", "macs"),
    [
        # plain 3x3, stride 2, grouped by 4, depthwise
        ("Conv", [(1, 3, 10, 12), (8, 3, 3, 3)], (1, 8, 8, 10), 8 * 8 * 10 * 27),
        ("Conv", [(1, 16, 20, 20), (32, 16, 3, 3), (32,)], (1, 32, 10, 10), 32 * 10 * 10 * 144),
        ("Conv", [(1, 16, 9, 9), (8, 4, 1, 1)], (1, 8, 9, 9), 8 * 81 * 4),
        ("Conv", [(2, 6, 5, 5), (6, 1, 3, 3)], (2, 6, 3, 3), 2 * 6 * 9 * 9),
        ("ConvTranspose", [(1, 4, 6, 7), (4, 5, 2, 2)], (1, 5, 12, 14), 4 * 6 * 7 * 5 * 4),
        # onnxruntime's own forms: channels last, int8
        (
            "QLinearConv",
            [(1, 10, 10, 16), (), (), (32, 16, 3, 3), (), (), (), ()],
            (1, 8, 8, 32),
            32 * 64 * 144,
        ),
        ("Gemm", [(3, 16), (16, 5), (5,)], (3, 5), 3 * 16 * 5),
        ("Gemm", [(16, 3), (5, 16)], (3, 5), 3 * 16 * 5),  # both transposed
        ("FusedMatMul", [(7, 16, 3), (7, 16, 5)], (7, 3, 5), 7 * 3 * 16 * 5),
        ("MatMul", [(2, 4, 16), (16, 5)], (2, 4, 5), 2 * 4 * 16 * 5),
        ("MatMul", [(16,), (16, 5)], (5,), 16 * 5),
        ("Add", [(1, 3), (3,)], (1, 3), 0),
        ("Resize", [(1, 3, 4, 4)], (1, 3, 8, 8), 0),
        ("Attention", [(1, 3, 4)], (1, 3, 4), None),
        ("Conv", [(1, 3, 10, 12), None], (1, 8, 8, 10), None),
        ("Conv", [(1, 3, 10, 12)], (1, 8, 8, 10), None),
        ("Conv", [(1, 3, 10, 12), (8, 3, 3, 3)], None, None),
        ("MatMul", [None, (16, 5)], (3, 5), None),
        ("Gemm", [(3, 16), None], (3, 5), None),
    ],
)
def test_work_by_hand(operator, inputs, output, macs):
    assert multiply_adds(operator, inputs, output) == macs
