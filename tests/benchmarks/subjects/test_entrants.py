"""Ours by their contract, others by the shapes they declare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.subjects.entrants import ForeignEntrant, OurEntrant, labels, open_entrants
from runtime.errors import ConfigError, ModelLoadError

FREE_HW = (64, 96)
FRAME = np.zeros((48, 64, 3), np.uint8)


def write_foreign(path: Path, *inputs: tuple[list[int | str], int]) -> Path:
    """Write a network without a contract that sums up each of its inputs."""
    names = [f"in{index}" for index in range(len(inputs))]
    nodes = []
    for name in names:
        nodes.append(helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("ReduceSum", [f"{name}_float"], [f"{name}_sum"], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "foreign",
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, (shape, kind) in zip(names, inputs, strict=True)
        ],
        [helper.make_tensor_value_info(f"{name}_sum", TensorProto.FLOAT, []) for name in names],
    )
    onnx.save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path)
    )
    return path


def opened(path: Path) -> OurEntrant | ForeignEntrant:
    return open_entrants([path], 1, "cpu", FREE_HW)[0]


def test_ours_gives_every_stage(tiny_onnx: Path) -> None:
    entrant = opened(tiny_onnx)
    times = entrant.time(FRAME)
    assert tuple(times) == entrant.stages == ("resize", "network", "mask", "draw", "total")
    assert times["total"] >= sum(times[name] for name in ("resize", "network", "mask", "draw"))
    assert entrant.file.kind == "edgeseg"
    assert (entrant.file.input, entrant.file.arithmetic) == ("48x32", "float32")


@pytest.mark.parametrize(
    ("shape", "kind", "filled"),
    [
        ([1, 3, 32, 48], TensorProto.FLOAT, "1x3x32x48"),
        (["N", 3, "H", "W"], TensorProto.FLOAT16, "1x3x64x96"),
        (["N", "H", "W", 3], TensorProto.UINT8, "1x64x96x3"),
        (["N", 3, 32, "W"], TensorProto.DOUBLE, "1x3x32x96"),
        (["N", 10], TensorProto.INT64, "1x10"),
    ],
)
def test_a_foreign_file_is_fed_by_its_shape(
    tmp_path: Path, shape: list[int | str], kind: int, filled: str
) -> None:
    entrant = opened(write_foreign(tmp_path / "theirs.onnx", (shape, kind)))
    assert list(entrant.time(FRAME)) == list(entrant.stages) == ["network"]
    assert entrant.file.kind == "foreign"
    assert entrant.file.input == filled


def test_a_foreign_file_may_have_several_inputs(tmp_path: Path) -> None:
    image, flag = ([1, 3, 8, 8], TensorProto.FLOAT), ([1], TensorProto.BOOL)
    entrant = opened(write_foreign(tmp_path / "theirs.onnx", image, flag))
    assert entrant.file.input == "1x3x8x8, 1"
    assert entrant.time(FRAME)["network"] > 0


@pytest.mark.parametrize("shape", [["N", "C", "H", "W"], ["N", "T"], ["N", 3, "T", "H", "W"]])
def test_sizes_that_cannot_be_told_are_refused(tmp_path: Path, shape: list[int | str]) -> None:
    path = write_foreign(tmp_path / "theirs.onnx", (shape, TensorProto.FLOAT))
    with pytest.raises(ConfigError, match=r"theirs\.onnx.*in0"):
        opened(path)


def test_inputs_that_cannot_be_random_are_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "theirs.onnx", ([1, 4], TensorProto.BFLOAT16))
    with pytest.raises((ConfigError, ModelLoadError), match=r"theirs\.onnx"):
        opened(path)


def test_a_foreign_graph_that_cannot_be_computed_is_a_known_error(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["in0", "shape"], ["out"])],
        "foreign",
        [helper.make_tensor_value_info("in0", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [helper.make_tensor("shape", TensorProto.INT64, [1], [12])],
    )
    path = tmp_path / "theirs.onnx"
    onnx.save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path)
    )
    with pytest.raises(ModelLoadError, match=r"(?s)1, 3, 64, 96.*--foreign-size"):
        opened(path)


def test_a_file_that_is_no_model_is_a_known_error(tmp_path: Path) -> None:
    (tmp_path / "theirs.onnx").write_bytes(b"hello")
    with pytest.raises(ModelLoadError):
        opened(tmp_path / "theirs.onnx")


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["m/a.onnx", "m/b.onnx"], ["a", "b"]),
        (["x/best.onnx", "y/best.onnx", "y/n.onnx"], ["x/best", "y/best", "n"]),
        (["x/1/best.onnx", "y/1/best.onnx"], ["x/1/best", "y/1/best"]),
        (["x/a.onnx", "x/a.ort"], ["a.onnx", "a.ort"]),
    ],
)
def test_labels_are_as_short_as_they_can_be(paths: list[str], expected: list[str]) -> None:
    assert labels([Path(path) for path in paths]) == expected


def test_a_file_named_twice_is_refused(
    tmp_path: Path, tiny_onnx: Path, write_tiny_onnx: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError, match="2 times"):
        open_entrants([tiny_onnx, tiny_onnx.parent / "." / tiny_onnx.name], 1, "cpu", FREE_HW)


def test_a_foreign_file_runs_on_the_processor_only(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "theirs.onnx", ([1, 3, 8, 8], TensorProto.FLOAT))
    with pytest.raises(ConfigError, match="provider cpu"):
        open_entrants([path], 1, "openvino", FREE_HW)


def test_no_file_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        open_entrants([], 1, "cpu", FREE_HW)


def test_a_label_can_be_drawn_and_printed():
    assert labels([Path("caf\udce9.onnx"), Path("evil\x1b[2J.onnx")]) == ["caf\\udce9", "evil\\x1b[2J"]
