"""Why a layer is slow is said from its shapes alone."""

import pytest

from benchmarks.layers.op_profile import AT_THE_LIMIT, NONE_KNOWN, layer_reason
from benchmarks.layers.ort_profile import ProfiledNode, Tensor


def node(operator, inputs, output, kind="float"):
    tensors = tuple(Tensor(kind, shape) for shape in inputs)
    return ProfiledNode("layer", 0, operator, tensors, (Tensor(kind, output),), (1.0,))


def conv(source, weights, output):
    return node("Conv", [source, weights], output)


def int8_conv(source, weights, output):
    tensors = [*(Tensor("uint8", shape) for shape in (source, (), ())), Tensor("int8", weights)]
    return ProfiledNode("layer", 0, "QLinearConv", tuple(tensors), (Tensor("uint8", output),), (1.0,))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (node("ReorderInput", [(1, 64, 9, 9)], (1, 64, 9, 9)), "layout reorder"),
        (node("Transpose", [(1, 9, 9, 3)], (1, 3, 9, 9)), "layout reorder"),
        (node("QuantizeLinear", [(1, 64, 9, 9)], (1, 64, 9, 9)), "quantize, dequantize or cast"),
        (node("DequantizeLinear", [(1, 64, 9, 9)], (1, 64, 9, 9)), "quantize, dequantize or cast"),
        (node("Resize", [(1, 64, 9, 9)], (1, 64, 18, 18)), "Resize"),
        (node("Upsample", [(1, 64, 9, 9)], (1, 64, 18, 18)), "Resize"),
        (node("Reshape", [(1, 64, 9, 9)], (1, 64, 81)), "view"),
        (node("Concat", [(1, 8, 9, 9)] * 2, (1, 16, 9, 9)), "copy"),
        (node("ArgMax", [(1, 11, 9, 9)], (1, 1, 9, 9)), "selection"),
        (node("QLinearGlobalAveragePool", [(1, 11, 9, 9)], (1, 11, 1, 1)), "pooling"),
        (conv((1, 3, 360, 480), (16, 3, 3, 3), (1, 16, 180, 240)), "few input channels: 3, .* 16"),
        (conv((1, 64, 90, 120), (11, 64, 1, 1), (1, 11, 90, 120)), "few output channels: 11, .* 16"),
        (int8_conv((1, 90, 120, 32), (64, 32, 3, 3), (1, 90, 120, 64)), "few input channels: 32, .* 64"),
        (conv((1, 64, 90, 120), (64, 1, 3, 3), (1, 64, 90, 120)), "depthwise"),
        (conv((1, 128, 11, 15), (128, 128, 3, 3), (1, 128, 11, 15)), "small spatial size: 165"),
        (conv((1, 64, 90, 120), (64, 64, 1, 1), (1, 64, 90, 120)), "1x1 kernel"),
        (conv((1, 64, 90, 120), (64, 64, 3, 3), (1, 64, 45, 60)), "stride"),
        (conv((1, 64, 90, 120), (64, 64, 3, 3), (1, 64, 90, 120)), NONE_KNOWN),
    ],
)
def test_reasons_of_layers_far_from_the_limit(layer, reason):
    import re

    assert re.match(reason, layer_reason(layer, median_ms=1.0, compute_ms=0.1, memory_ms=0.05))


def test_an_elementwise_layer_is_bound_by_memory_or_too_short():
    layer = node("Add", [(1, 64, 90, 120)] * 2, (1, 64, 90, 120))
    assert layer_reason(layer, 1.0, 0.0, 0.1).startswith("memory bound")
    assert layer_reason(layer, 0.01, 0.0, 0.001).startswith("short")


@pytest.mark.parametrize("median_ms", [0.9, 1.0, 1.1])
def test_a_layer_near_its_limit_needs_no_excuse(median_ms):
    layer = conv((1, 3, 360, 480), (16, 3, 3, 3), (1, 16, 180, 240))
    assert layer_reason(layer, median_ms, compute_ms=1.0, memory_ms=0.5) == AT_THE_LIMIT
    assert layer_reason(layer, median_ms, compute_ms=0.5, memory_ms=1.0) == AT_THE_LIMIT
