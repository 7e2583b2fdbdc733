"""Any file gets input that fits it, or an error that says what is missing."""

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from benchmarks.subjects.any_model import open_any_model
from runtime import ConfigError, ContractError, ModelLoadError
from runtime.network.session import session_options


def write_foreign(path, shape, kind=TensorProto.FLOAT):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "foreign",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_our_file_is_fed_by_its_contract(tiny_onnx):
    model = open_any_model(tiny_onnx)
    assert model.contract is not None
    assert {name: (x.shape, x.dtype) for name, x in model.inputs.items()} == {
        "image": ((1, 32, 48, 3), np.dtype(np.uint8))
    }
    assert model.fetches == ("logits",)
    model.run(model.session(session_options(1)))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.FLOAT, np.float32),
        (TensorProto.FLOAT16, np.float16),
        (TensorProto.DOUBLE, np.float64),
        (TensorProto.UINT8, np.uint8),
        (TensorProto.INT8, np.int8),
        (TensorProto.INT64, np.int64),
        (TensorProto.BOOL, np.bool_),
    ],
)
def test_a_foreign_file_is_fed_noise_of_its_type(tmp_path, kind, dtype):
    model = open_any_model(write_foreign(tmp_path / "x.onnx", [1, 3, 8, 8], kind))
    assert model.contract is None
    x = model.inputs["x"]
    assert x.dtype == dtype
    assert x.shape == (1, 3, 8, 8)
    assert (len(np.unique(x)) > 1) == (kind != TensorProto.INT64)
    model.run(model.session(session_options(1)))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (["batch", 3, 8, 8], (1, 3, 8, 8)),
        ([None, 3, "height", "width"], (1, 3, 24, 40)),
        ([1, "h", "w", 3], (1, 24, 40, 3)),
        ([1, 3, 16, "w"], (1, 3, 16, 40)),
        (["n", 7], (1, 7)),
    ],
)
def test_free_sizes_are_filled(tmp_path, shape, expected):
    model = open_any_model(write_foreign(tmp_path / "x.onnx", shape), (24, 40))
    assert model.inputs["x"].shape == expected


def test_free_sizes_without_a_number_are_an_error_that_names_the_flag(tmp_path):
    path = write_foreign(tmp_path / "x.onnx", ["batch", 3, "height", "width"])
    with pytest.raises(
        ConfigError, match=r"'x' leaves the sizes of \[batch, 3, height, width\] free.*--foreign-size"
    ):
        open_any_model(path)


@pytest.mark.parametrize("shape", [["n", "tokens"], [1, "channels", 8, 8], [1, "c", "h", "w"]])
def test_free_sizes_of_no_image_are_an_error(tmp_path, shape):
    with pytest.raises(ConfigError, match="to be an image"):
        open_any_model(write_foreign(tmp_path / "x.onnx", shape), (24, 40))


def test_types_that_cannot_be_made_up_are_an_error(tmp_path):
    with pytest.raises(ModelLoadError, match="to be one of tensor"):
        open_any_model(write_foreign(tmp_path / "x.onnx", [1], TensorProto.STRING))


def test_a_damaged_contract_is_an_error(tmp_path, write_tiny_onnx):
    with pytest.raises(ContractError, match=r"x\.onnx"):
        open_any_model(write_tiny_onnx(tmp_path / "x.onnx", metadata="{"))


def test_a_graph_that_cannot_be_computed_is_an_error(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("shape", TensorProto.INT64, [1], [12])],
    )
    path = tmp_path / "x.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    model = open_any_model(path)
    session = model.session(session_options(1))
    with pytest.raises(ModelLoadError, match=r"takes x \[1, 4\], but onnxruntime cannot compute it"):
        model.run(session)
