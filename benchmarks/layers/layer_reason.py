"""Says why a layer stays below the machine's limit, as far as its operator and its shapes tell."""

from __future__ import annotations

import math

from benchmarks.layers.ort_profile import ProfiledNode
from export.graph.multiply_adds import CONVOLUTIONS

VECTOR_BYTES = 64  # of the widest vectors, which hold 16 float32 or 64 int8
SMALL_PLANE = 512  # pixels of a layer's output, too few to keep several threads busy
SHORT_MS = 0.02  # starting a node and waking its threads are a share of less
NEAR_LIMIT = 1.15  # times the limit, within which a layer needs no excuse

VIEWS = ("Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze")  # whose data stays where it is
PICKS = ("Gather", "Slice")  # read no more than they write
_REORDERS = ("ReorderInput", "ReorderOutput", "Transpose")
_CONVERSIONS = ("Cast", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear")
_RESIZES = ("Resize", "Upsample")
_COPIES = ("Concat", "DepthToSpace", "Expand", "Pad", "SpaceToDepth", "Split", "Tile", *PICKS)
_SELECTIONS = ("ArgMax", "ArgMin", "Softmax", "TopK")

AT_THE_LIMIT = "at the limit"
NONE_KNOWN = "none that its shape tells"
_SHORT = "short: starting it is a large share"
_MEMORY_BOUND = "memory bound: little arithmetic for each number moved"
# Operators whose time is no multiply-adds, with what it is.
_WORDS: dict[str, str] = {
    **dict.fromkeys(VIEWS, "view: nothing to do but to be started"),
    **dict.fromkeys(_REORDERS, "layout reorder: moves every number, computes nothing"),
    **dict.fromkeys(_CONVERSIONS, "quantize, dequantize or cast: converts every number, computes nothing"),
    **dict.fromkeys(_RESIZES, "Resize: its interpolation does not count as multiply-adds"),
    **dict.fromkeys(_COPIES, "copy: moves every number, computes nothing"),
    **dict.fromkeys(_SELECTIONS, "selection: its arithmetic does not count as multiply-adds"),
}


def layer_reason(node: ProfiledNode, median_ms: float, compute_ms: float, memory_ms: float) -> str:
    """Return the reason in a few words.

    Args:
        node: with the shapes of all its inputs.
        median_ms: its time.
        compute_ms: its multiply-adds at the machine's limit.
        memory_ms: its bytes at the machine's limit.
    """
    if 0 < median_ms <= NEAR_LIMIT * max(compute_ms, memory_ms):
        return AT_THE_LIMIT
    if node.operator in _WORDS:
        return _WORDS[node.operator]
    if "Pool" in node.operator:
        return "pooling: its arithmetic does not count as multiply-adds"
    place = CONVOLUTIONS.get(node.operator)
    reason = _convolution(node, place) if place is not None and place < len(node.inputs) else ""
    if reason:
        return reason
    if median_ms < SHORT_MS:
        return _SHORT
    return _MEMORY_BOUND if memory_ms > compute_ms else NONE_KNOWN


def _convolution(node: ProfiledNode, place: int) -> str:
    """Return what in a convolution's shapes keeps it from the rate of 3x3, 64 to 64 channels; or nothing."""
    source, weights, output = node.inputs[0].shape, node.inputs[place], node.outputs[0].shape
    out_channels, group_channels = weights.shape[:2]
    pixels = math.prod(output) // (output[0] * out_channels)
    full_vector = VECTOR_BYTES * math.prod(weights.shape) // weights.bytes
    if group_channels == 1 and out_channels > 1 and out_channels in source[1:]:
        return "depthwise: one kernel a channel, so memory bound"
    if group_channels < full_vector:
        return f"few input channels: {group_channels}, where a vector holds {full_vector}"
    if out_channels < full_vector:
        return f"few output channels: {out_channels}, where a vector holds {full_vector}"
    if pixels < SMALL_PLANE:
        return f"small spatial size: {pixels} pixels share the start and the weights"
    if math.prod(weights.shape[2:]) == 1:
        return "1x1 kernel: a number loaded serves fewer multiply-adds than in 3x3"
    if math.prod(source) >= 4 * output[0] * group_channels * pixels:
        return "stride: a number loaded serves fewer multiply-adds"
    return ""
