"""Who makes and who reads each tensor of an ONNX graph."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class GraphView:
    """Look-ups into a graph, made once; later changes of the graph do not show.

    Attributes:
        constants: initializers as arrays.
        producer: node that makes a tensor.
        readers: nodes that read a tensor, once for each of their inputs that is it.
        outputs: names of the graph's outputs.
        element_types: `onnx.TensorProto` type of each tensor, as far as shape inference knows it.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Read a graph."""
        graph = model.graph
        self.constants: dict[str, NDArray[np.generic]] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        self.producer = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in graph.output}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self.element_types = {
            value.name: value.type.tensor_type.elem_type
            for value in (*inferred.value_info, *inferred.input, *inferred.output)
        }

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """Return the node that alone reads a tensor; None if there are more, or the caller reads it too."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def is_float_activation(self, name: str) -> bool:
        """Whether a tensor is float32 and computed from the image."""
        return name not in self.constants and self.element_types.get(name) == onnx.TensorProto.FLOAT

    def layer_name(self, node: onnx.NodeProto) -> str:
        """Return how reports and `excluded` name a node: by weights of its own, else by its output."""
        if node.op_type == "Conv" and len(self.readers[node.input[1]]) == 1:
            return str(node.input[1]).removesuffix(".weight")
        return str(node.output[0])


def attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    """Return a node's attribute."""
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def with_attributes(node: onnx.NodeProto, changes: dict[str, list[int]]) -> onnx.NodeProto:
    """Return a copy of a node with some attributes replaced."""
    changed = onnx.NodeProto()
    changed.CopyFrom(node)
    del changed.attribute[:]
    changed.attribute.extend(item for item in node.attribute if item.name not in changes)
    changed.attribute.extend(helper.make_attribute(name, value) for name, value in changes.items())
    return changed


def fixed_size(image: onnx.ValueInfoProto) -> tuple[int, int] | None:
    """Return height and width of an input (1, H, W, 3); None where any of its sizes is chosen at run time."""
    sizes = [axis.dim_value for axis in image.type.tensor_type.shape.dim]  # 0 if chosen at run time
    return (sizes[1], sizes[2]) if len(sizes) == 4 and sizes[0] == 1 and all(sizes) else None


def replace_constants(model: onnx.ModelProto, arrays: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Return a copy of a graph with other values in some of its initializers."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return changed
