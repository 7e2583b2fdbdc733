"""Rounds as float16 arithmetic does on a processor without it, so that a float16 file can be proven here."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper


def rounded_everywhere(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 graph that rounds as a processor with float16 arithmetic does.

    onnxruntime has few float16 operations on x86 and computes the rest in float32 without rounding in
    between, so that running the file itself would prove its weights only. Here every float16 tensor is
    cast to float16 and back, explicitly, which onnxruntime keeps.

    Args:
        model: of `export.half.conversion.to_half`; not changed.
    """
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    halves = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    nodes = []
    for node in rounded.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            if attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT16:
                attribute.t.CopyFrom(_widened(attribute.t))
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name in halves:
                node.output[place] = f"{name}_exact"
                nodes.append(
                    helper.make_node("Cast", [f"{name}_exact"], [f"{name}_rounded"], to=TensorProto.FLOAT16)
                )
                nodes.append(helper.make_node("Cast", [f"{name}_rounded"], [name], to=TensorProto.FLOAT))
    weights = [
        _widened(tensor) if tensor.data_type == TensorProto.FLOAT16 else tensor
        for tensor in model.graph.initializer
    ]
    del rounded.graph.node[:], rounded.graph.initializer[:], rounded.graph.value_info[:]
    rounded.graph.node.extend(nodes)
    rounded.graph.initializer.extend(weights)
    return rounded


def _widened(tensor: TensorProto) -> TensorProto:
    """Return a float16 tensor's values as float32."""
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
