import numpy as np
import onnx
import onnx_ir as ir
import onnxsim
import pytest

from export.graph.simplify import simplify
from runtime.errors import ParityError


@pytest.fixture
def model() -> ir.Model:
    """x + (1 + 2), which simplifies to x + 3."""
    one, two = (onnx.numpy_helper.from_array(np.float32([v]), name) for v, name in ((1, "one"), (2, "two")))
    nodes = [
        onnx.helper.make_node("Add", ["one", "two"], ["three"]),
        onnx.helper.make_node("Add", ["x", "three"], ["y"]),
    ]
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in "xy")
    graph = onnx.helper.make_graph(nodes, "sum", [x], [y], [one, two])
    opsets = [onnx.helper.make_opsetid("", 18)]
    return ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))


def test_constants_are_folded_without_a_word(model: ir.Model, capfd: pytest.CaptureFixture[str]) -> None:
    assert [node.op_type for node in simplify(model).graph] == ["Add"]
    assert capfd.readouterr() == ("", "")


def test_failure_of_onnxsim_is_named(model: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("pass went wrong")

    monkeypatch.setattr(onnxsim, "simplify", fail)
    with pytest.raises(ParityError, match="pass went wrong"):
        simplify(model)


def test_changed_numbers_are_refused(model: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxsim, "simplify", lambda model, check_n, test_input_shapes: (model, check_n == 0))
    with pytest.raises(ParityError, match="changed"):
        simplify(model)
