from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import export.half.conversion
import export.module
from export.graph.trace import trace
from export.half.conversion import rounded_everywhere, to_half
from export.module import ExportOptions, export_checkpoint
from export.to_onnx import main
from runtime import Segmenter
from runtime.errors import ConfigError, ParityError
from training.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def graph_of(nodes: list[onnx.NodeProto], **weights: np.ndarray) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 4, 6, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 3])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return ir.from_proto(model)


def scaled_up_and_down(factor: float) -> ir.Model:
    """image * factor / factor."""
    return graph_of(
        [
            helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["x", "factor"], ["large"]),
            helper.make_node("Div", ["large", "factor"], ["small"]),
            helper.make_node("Neg", ["small"], ["y"]),
        ],
        factor=np.float32([factor]),
    )


def run(model: ir.Model) -> np.ndarray:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"image": IMAGE[None]})
    return result


def test_weights_and_arithmetic_are_float16_and_the_output_is_float32() -> None:
    half, islands = to_half(scaled_up_and_down(2), [IMAGE])
    assert islands == ()
    assert [value.dtype for value in half.graph.initializers.values()] == [ir.DataType.FLOAT16]
    assert [node.op_type for node in half.graph] == ["Cast", "Mul", "Div", "Neg", "Cast"]
    assert run(half).dtype == np.float32
    np.testing.assert_array_equal(run(half), run(scaled_up_and_down(2)))


def test_what_overflows_stays_float32_and_no_more() -> None:
    half, islands = to_half(scaled_up_and_down(1000), [IMAGE])
    assert islands == ("large", "small")
    assert [node.op_type for node in half.graph].count("Cast") == 4  # image, in, out, logits
    np.testing.assert_allclose(run(rounded_everywhere(half)), run(scaled_up_and_down(1000)), atol=0.2)


def test_without_islands_it_would_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.half.conversion, "LARGEST", float("inf"))
    half, _ = to_half(scaled_up_and_down(1000), [IMAGE])
    assert not np.isfinite(run(rounded_everywhere(half))).all()


def test_weight_beyond_float16_stays_float32() -> None:
    _, islands = to_half(scaled_up_and_down(1e6), [IMAGE * 0])
    assert islands == ("large", "small")


def test_pooling_whose_sum_overflows_stays_float32() -> None:
    model = graph_of(
        [
            helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["x", "factor"], ["large"]),
            helper.make_node("GlobalAveragePool", ["large"], ["mean"]),
            helper.make_node("Add", ["x", "mean"], ["y"]),
        ],
        factor=np.float32([60]),
    )
    _, islands = to_half(model, [IMAGE // 2 + 64])
    assert islands == ("mean",)


def test_a_tensor_that_both_kinds_read_is_cast_once() -> None:
    model = graph_of(
        [
            helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["x", "factor"], ["a"]),
            helper.make_node("Mul", ["x", "factor"], ["b"]),
            helper.make_node("Sub", ["a", "b"], ["zero"]),
            helper.make_node("Add", ["x", "zero"], ["y"]),
        ],
        factor=np.float32([1000]),
    )
    half, islands = to_half(model, [IMAGE])
    assert islands == ("a", "b", "zero")
    assert sum(node.op_type == "Cast" and node.inputs[0].name == "x_half" for node in half.graph) == 1
    np.testing.assert_array_equal(run(half), run(model))


def test_constants_and_types_inside_nodes_change_too() -> None:
    model = graph_of(
        [
            helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Constant", [], ["two"], value_float=2.0),
            helper.make_node(
                "Constant", [], ["three"], value=numpy_helper.from_array(np.float32([3]), "three")
            ),
            helper.make_node("Add", ["two", "three"], ["five"]),
            helper.make_node("Mul", ["x", "five"], ["y"]),
        ]
    )
    half, _ = to_half(model, [IMAGE])
    np.testing.assert_array_equal(run(half), run(model))
    np.testing.assert_array_equal(run(rounded_everywhere(half)), run(model))


def test_rounded_graph_rounds_between_operations() -> None:
    half, _ = to_half(scaled_up_and_down(1.0009766), [IMAGE])  # 1 + 2^-10
    x = IMAGE[None].astype(np.float16)
    factor = np.float16(1.0009766)
    np.testing.assert_array_equal(run(rounded_everywhere(half)), -((x * factor) / factor).astype(np.float32))


def test_graph_with_branches_is_refused() -> None:
    empty = helper.make_graph([], "empty", [], [])
    branching = graph_of(
        [helper.make_node("If", ["condition"], ["y"], then_branch=empty, else_branch=empty)],
        condition=np.array([True]),
    )
    with pytest.raises(ConfigError, match="without branches"):
        to_half(branching, [IMAGE])


@pytest.mark.usefixtures("quick_trace")
def test_half_file_is_proven_twice_and_half_as_large(
    checkpoint_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkpoint_path), "--half", "-o", str(tmp_path / "half.onnx")]) == 0
    assert "float32 nothing but the logits" in capfd.readouterr().out
    report = export_checkpoint(checkpoint_path, options=ExportOptions(half=True))
    full = export_checkpoint(checkpoint_path, tmp_path / "full.onnx")
    assert report.size_bytes < 0.65 * full.size_bytes
    assert len(report.parity.frames) == 32
    assert report.parity.frames[1].name.endswith(", rounded to float16")
    assert full.parity.relative < 1e-5 < report.parity.relative < report.parity.tolerance.relative
    assert report.contract.accuracy is None
    with Segmenter(report.path) as segment:
        assert segment.contract.origin.quantization == "float16"


def huge_activations(checkpoint_path: Path) -> None:
    """Make the stem's output too large for float16, and the next layer undo it."""
    checkpoint = load_checkpoint(checkpoint_path)
    weights = {name: value.clone() for name, value in checkpoint.weights.items()}
    for part in ("weight", "bias"):
        weights[f"body.stem.0.1.{part}"] *= 2.5e4
    weights["body.stem.1.0.weight"] /= 2.5e4
    save_checkpoint(
        checkpoint_path, Checkpoint(checkpoint.kind, checkpoint.config, checkpoint.contract, weights)
    )


def test_island_saves_a_network_that_overflows(
    checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge_activations(checkpoint_path)
    checkpoint = load_checkpoint(checkpoint_path)
    traced = trace(checkpoint.build().with_std_folded(), checkpoint.contract, 18)
    monkeypatch.setattr(export.module, "trace", lambda *_: traced)  # once is enough
    report = export_checkpoint(checkpoint_path, options=ExportOptions(half=True))
    assert report.islands
    assert report.contract.origin.quantization == f"float16, {len(report.islands)} operations in float32"
    monkeypatch.setattr(export.half.conversion, "LARGEST", float("inf"))
    with pytest.raises(ParityError, match="rounded to float16: logits differ by inf"):
        export_checkpoint(checkpoint_path, options=ExportOptions(half=True))
