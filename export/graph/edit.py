"""What every rewrite of a graph is made of: small steps on onnx-ir's nodes and values.

onnx-ir knows who makes a tensor (`value.producer()`) and who reads it (`value.uses()`), so that a rewrite is
a walk over `model.graph` with these steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

Array: TypeAlias = NDArray[Any]
Input: TypeAlias = ir.Value | Array | None  # what a node reads; None is an input left out


def typed_copy(model: ir.Model, *, strict: bool = True) -> ir.Model:
    """Return a copy in which every tensor has the element type and the shape that ONNX's rules give it.

    Args:
        model: stays as it is.
        strict: False leaves out what the rules do not tell.

    Raises:
        onnx.shape_inference.InferenceError: the graph contradicts itself.
    """
    proto = ir.to_proto(model)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=strict, data_prop=True))


def opset_of(model: ir.Model) -> int:
    """Return the version of ONNX's operator set that a graph is written in; 0 if it names none."""
    return next((version for domain, version in model.opset_imports.items() if domain in ("", "ai.onnx")), 0)


def value_named(model: ir.Model, name: str) -> ir.Value:
    """Return the tensor of this name.

    Raises:
        KeyError: there is none.
    """
    return ir.convenience.create_value_mapping(model.graph)[name]


def constant(graph: ir.Graph, name: str, values: Array) -> ir.Value:
    """Return the graph's constant of this name; it gets `values` if it is new."""
    if name not in graph.initializers:
        graph.register_initializer(ir.val(name, const_value=ir.tensor(np.asarray(values), name=name)))
    return graph.initializers[name]


def array_of(value: ir.Value | None) -> Array | None:
    """Return a constant's numbers; None of a tensor that is computed, given by the caller or left out."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value.const_value.numpy()


def is_constant(value: ir.Value) -> bool:
    """Whether a tensor is a constant of the graph."""
    return array_of(value) is not None


def numbers(value: ir.Value) -> Array:
    """Return the numbers of what is known to be a constant."""
    assert value.const_value is not None
    return value.const_value.numpy()


def set_array(value: ir.Value, values: Array) -> None:
    """Give a constant other numbers."""
    value.const_value = ir.tensor(values, name=value.name)
    value.type, value.shape = ir.TensorType(value.const_value.dtype), ir.Shape(values.shape)


def append(graph: ir.Graph, operator: str, inputs: Sequence[Input], name: str, **attributes: Any) -> ir.Value:
    """Add a node with one output behind all others; return the output, which has this name.

    Arrays among the inputs become constants.
    """
    node = _node(graph, operator, inputs, name, attributes)
    graph.append(node)
    return node.outputs[0]


def insert_before(
    place: ir.Node, operator: str, inputs: Sequence[Input], name: str, **attributes: Any
) -> ir.Value:
    """Add a node in front of another one; otherwise as `append`."""
    node = _node(place.graph, operator, inputs, name, attributes)
    place.prepend(node)
    return node.outputs[0]


def insert_after(
    place: ir.Value, operator: str, inputs: Sequence[Input], name: str, **attributes: Any
) -> ir.Value:
    """Add a node behind the one that makes a tensor; otherwise as `append`."""
    maker = place.producer()
    assert maker is not None
    node = _node(maker.graph, operator, inputs, name, attributes)
    maker.append(node)
    return node.outputs[0]


def replace_output(old: ir.Value, new: ir.Value) -> None:
    """Let a graph give another tensor in the place of one of its outputs; both keep their names."""
    graph = old.graph
    assert isinstance(graph, ir.Graph)
    graph.outputs[graph.outputs.index(old)] = new


def only_reader(value: ir.Value) -> ir.Node | None:
    """Return the node that alone reads a tensor; None if there are more, or the caller reads it too."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def layer_name(node: ir.Node) -> str:
    """Return how reports and `excluded` name a node: by weights of its own, else by its output."""
    weights = node.inputs[1] if node.op_type == "Conv" else None
    if weights is not None and len(weights.uses()) == 1:
        return str(weights.name).removesuffix(".weight")
    return str(node.outputs[0].name)


def sweep(model: ir.Model) -> ir.Model:
    """Return the model without what nothing reads any more, and without types inside that may be stale."""
    swept = RemoveUnusedNodesPass()(model).model
    for value in (value for node in swept.graph for value in node.outputs):
        if not value.is_graph_output():
            value.type = value.shape = None
    return swept


def _node(
    graph: ir.Graph | None, operator: str, inputs: Sequence[Input], name: str, attributes: dict[str, Any]
) -> ir.Node:
    assert graph is not None
    values = [
        constant(graph, f"{name}/{place}", item) if isinstance(item, np.ndarray) else item
        for place, item in enumerate(inputs)
    ]
    return ir.node(operator, values, attributes, outputs=[ir.val(name)])
