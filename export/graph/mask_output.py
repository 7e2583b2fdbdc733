"""Adds the last steps from logits to classes to a graph, for consumers without edgeseg's runtime."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.contract import ModelContract


def set_outputs(model: onnx.ModelProto, contract: ModelContract) -> None:
    """Give a graph that ends in logits the outputs that its contract promises; changes it in place.

        logits ──┬──────────────────────────────────────▶ logits, if asked for
                 └─ Resize (bilinear) ─ ArgMax ─ Cast ──▶ mask, if asked for

    Bilinear with half-pixel centres, then the highest logit, the lowest class where some tie: the
    definition of `runtime.network.mask.class_mask`, at the input's size. Channels stay in front, although
    classes last would be a third faster in onnxruntime, since other engines resize the last two axes only.

    Args:
        model: its only output is the logits.
        contract: names and kind of the outputs, stride.
    """
    graph, output = model.graph, contract.output
    if not output.has_mask:
        return
    if not output.has_logits:
        del graph.output[:]
    scales, full_size, classes = (f"{output.mask_name}_{part}" for part in ("scales", "logits", "classes"))
    graph.initializer.append(
        numpy_helper.from_array(np.array([1, 1, output.stride, output.stride], np.float32), scales)
    )
    graph.node.extend(
        [
            helper.make_node(
                "Resize",
                [output.name, "", scales],
                [full_size],
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            ),  # (N, C, H, W)
            helper.make_node("ArgMax", [full_size], [classes], axis=1, keepdims=0),  # (N, H, W) int64
            helper.make_node("Cast", [classes], [output.mask_name], to=TensorProto.UINT8),
        ]
    )
    shape = [1, *contract.input.size_hw]
    graph.output.append(helper.make_tensor_value_info(output.mask_name, TensorProto.UINT8, shape))
