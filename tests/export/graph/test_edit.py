"""The steps that rewrites are made of, on a graph that can be read at a glance: y = relu(x * w) + 1."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from export.graph.edit import (
    append,
    array_of,
    constant,
    insert_after,
    insert_before,
    layer_name,
    numbers,
    only_reader,
    opset_of,
    replace_output,
    set_array,
    sweep,
    typed_copy,
    value_named,
)
from export.graph.probe import open_graph, watch

X = np.float32([[-2, 0, 3]])


@pytest.fixture
def model() -> ir.Model:
    x = ir.val("x", ir.DataType.FLOAT, (1, 3))
    graph = ir.Graph([x], [], nodes=[], name="toy", opset_imports={"": 18})
    product = append(graph, "Mul", [x, np.float32([2])], "product")
    positive = append(graph, "Relu", [product], "positive")
    y = append(graph, "Add", [positive, np.float32([1])], "y")
    y.type, y.shape = ir.TensorType(ir.DataType.FLOAT), x.shape
    graph.outputs.append(y)
    return ir.Model(graph, ir_version=8)


def run(model: ir.Model) -> np.ndarray:
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    (result,) = open_graph(model, threads=1).run(None, {"x": X})
    return result


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_arrays_become_constants(model: ir.Model) -> None:
    assert list(model.graph.initializers) == ["product/1", "y/1"]
    assert opset_of(model) == 18
    assert run(model).tolist() == [[1, 1, 7]]


def test_nodes_go_where_they_are_put(model: ir.Model) -> None:
    positive = value_named(model, "positive")
    add = only_reader(positive)
    halved = insert_before(add, "Div", [positive, np.float32([2])], "halved")
    add.replace_input_with(0, halved)
    negative = insert_after(positive, "Neg", [positive], "negative")
    halved.producer().replace_input_with(0, negative)
    assert operators(model) == ["Mul", "Relu", "Neg", "Div", "Add"]
    assert run(model).tolist() == [[1, 1, -2]]


def test_a_constant_is_made_once(model: ir.Model) -> None:
    one = constant(model.graph, "y/1", np.float32([5]))
    assert array_of(one).tolist() == [1]
    set_array(one, np.float32([5, 6, 7]))
    assert run(model).tolist() == [[5, 6, 13]]
    assert array_of(value_named(model, "product")) is None
    assert array_of(None) is None


def test_a_graph_gives_another_tensor_under_the_old_name(model: ir.Model) -> None:
    (old,) = model.graph.outputs
    old.name = "inside"
    new = append(model.graph, "Neg", [old], "y")
    new.type, new.shape = old.type, old.shape
    replace_output(old, new)
    assert run(model).tolist() == [[-1, -1, -7]]


def test_what_the_caller_reads_too_has_no_only_reader(model: ir.Model) -> None:
    positive = value_named(model, "positive")
    assert only_reader(positive).op_type == "Add"
    model.graph.outputs.append(positive)
    assert only_reader(positive) is None
    assert only_reader(value_named(model, "y")) is None


def test_what_nothing_reads_is_swept_out(model: ir.Model) -> None:
    (add,) = (node for node in model.graph if node.op_type == "Add")
    add.replace_input_with(0, model.graph.inputs[0])
    swept = sweep(model)
    assert operators(swept) == ["Add"]
    assert list(swept.graph.initializers) == ["y/1"]


def test_a_copy_knows_its_types_and_changes_alone(model: ir.Model) -> None:
    typed = typed_copy(model)
    assert value_named(typed, "product").dtype == ir.DataType.FLOAT
    assert value_named(model, "product").dtype is None
    set_array(typed.graph.initializers["y/1"], np.float32([9]))
    assert numbers(model.graph.initializers["y/1"]).tolist() == [1]


def test_a_layer_is_named_by_weights_of_its_own() -> None:
    image = ir.val("image", ir.DataType.FLOAT, (1, 3, 4, 4))
    graph = ir.Graph([image], [], nodes=[], opset_imports={"": 18})
    weights = constant(graph, "stem.conv.weight", np.zeros((3, 3, 1, 1), np.float32))
    first = append(graph, "Conv", [image, weights], "a")
    assert layer_name(first.producer()) == "stem.conv"
    second = append(graph, "Conv", [first, weights], "b")
    assert (layer_name(first.producer()), layer_name(second.producer())) == ("a", "b")


def test_tensors_inside_are_seen_and_the_graph_stays(model: ir.Model) -> None:
    seen = watch(model, ["product", "y"])(X)
    assert {name: values.tolist() for name, values in seen.items()} == {
        "product": [[-4, 0, 6]],
        "y": [[1, 1, 7]],
    }
    assert [value.name for value in model.graph.outputs] == ["y"]
