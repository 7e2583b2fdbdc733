"""Adds the last steps from logits to classes to a graph, for consumers without edgeseg's runtime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.graph.edit import append
from runtime.contract import ModelContract


def set_outputs(model: ir.Model, contract: ModelContract) -> None:
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
    (logits,) = graph.outputs
    if not output.has_logits:
        graph.outputs.clear()
    name = output.mask_name
    scales = np.array([1, 1, output.stride, output.stride], np.float32)
    full_size = append(
        graph,
        "Resize",
        [logits, None, scales],
        f"{name}_logits",
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )  # (N, C, H, W)
    classes = append(graph, "ArgMax", [full_size], f"{name}_classes", axis=1, keepdims=0)  # (N, H, W) int64
    mask = append(graph, "Cast", [classes], name, to=ir.DataType.UINT8)
    mask.type, mask.shape = ir.TensorType(ir.DataType.UINT8), ir.Shape([1, *contract.input.size_hw])
    graph.outputs.append(mask)
