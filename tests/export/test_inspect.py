"""A file is described without being run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graph.inspection import inspect
from export.inspect import main
from export.module import ExportReport
from runtime.errors import ModelLoadError


def write_graph(
    path: Path, node: onnx.NodeProto, weights: tuple[int, ...], shape: tuple[object, ...]
) -> Path:
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(weights, np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_an_exported_file_is_described(exported: tuple[Path, ExportReport]) -> None:
    report = exported[1]
    found = inspect(report.path)
    assert found.contract == report.contract
    assert found.is_sealed
    assert found.size_bytes == report.path.stat().st_size
    assert [(value.name, value.type, value.shape) for value in found.inputs] == [
        ("image", "tensor(uint8)", (1, 64, 96, 3))
    ]
    assert found.outputs[0].shape == report.contract.logits_shape
    assert sum(found.operators.values()) == report.nodes
    assert found.opset == 18
    assert found.gmacs is not None
    assert found.gmacs > 0


# Multiply-accumulates by hand: outputs times what each sums, or inputs times what each is spread to.
@pytest.mark.parametrize(
    ("node", "weights", "shape", "macs"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"]), (8, 3, 3, 3), (1, 3, 10, 12), 8 * 8 * 10 * 27),
        (helper.make_node("Conv", ["x", "w"], ["y"], group=6), (6, 1, 3, 3), (1, 6, 5, 5), 6 * 9 * 9),
        (
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]),
            (4, 5, 2, 2),
            (1, 4, 6, 7),
            4 * 6 * 7 * 5 * 4,
        ),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (16, 5), (3, 16), 3 * 16 * 5),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), (5, 16), (3, 16), 3 * 16 * 5),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transA=1), (16, 5), (16, 3), 3 * 16 * 5),
        (helper.make_node("Add", ["x", "w"], ["y"]), (3,), (1, 3), 0),
    ],
)
def test_the_work_is_counted(
    tmp_path: Path, node: onnx.NodeProto, weights: tuple[int, ...], shape: tuple[int, ...], macs: int
) -> None:
    found = inspect(write_graph(tmp_path / "one.onnx", node, weights, shape))
    assert found.gmacs == macs / 1e9
    assert found.parameters == np.prod(weights)


def test_work_of_free_sizes_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    path = write_graph(tmp_path / "one.onnx", node, (8, 3, 3, 3), (1, 3, "height", "width"))
    assert inspect(path).gmacs is None
    assert main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "unknown, since sizes are free" in printed
    assert "[1, 3, height, width]" in printed
    assert "python -m export.adapt" in printed.splitlines()[-1]


def test_the_command_prints_contract_and_next_step(
    exported: tuple[Path, ExportReport], capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported[1].path
    assert main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "sky, building" in printed
    assert "mIoU 0.5000 on 2 frames of synthetic val" in printed
    assert printed.splitlines()[-1].endswith(f"python -m benchmarks.latency --model {path}")
    assert main([str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["contract"]["name"] == "tiny"


@pytest.mark.parametrize("content", [b"", b"no network" * 9, b"\x08\x08", b"\x3a\x00"])
def test_what_is_no_onnx_file_is_refused(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"noise\.onnx: expected a"):
        inspect(path)
    assert main([str(path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_file_without_a_contract_is_described(tmp_path: Path, write_tiny_onnx: Callable[..., Path]) -> None:
    assert inspect(write_tiny_onnx(tmp_path / "bare.onnx", metadata=None)).contract is None
