"""A file may announce little and still make onnxruntime fill the memory or never end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.errors import ModelLoadError
from runtime.network import protobuf
from runtime.network.onnx_file import parse_onnx, read_onnx_file
from runtime.network.protobuf import ProtobufError

FLOAT = TensorProto.FLOAT


def model_of(
    nodes: list[onnx.NodeProto],
    shape: tuple[object, ...] = (1, 3, 8, 8),
    constants: dict[str, np.ndarray | list[int]] | None = None,
    functions: list[onnx.FunctionProto] | None = None,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [constant(name, value) for name, value in (constants or {}).items()],
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=domains, functions=functions or [])
    return model.SerializeToString()


def constant(name: str, value: np.ndarray | list[int]) -> onnx.TensorProto:
    """Return an array as a constant, or ones of a shape that numpy may be unable to have."""
    if isinstance(value, list):
        return helper.make_tensor(name, FLOAT, value, [1.0] * math.prod(value))
    return numpy_helper.from_array(value, name)


def node(operator: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def doubling_concats() -> bytes:
    steps = [node("Concat", f"v{step} v{step}", f"v{step + 1}", axis=0) for step in range(40)]
    return model_of([node("Relu", "x", "v0"), *steps, node("Identity", "v40", "y")])


def growing_tiles() -> bytes:
    steps = [node("Tile", f"v{step} many", f"v{step + 1}") for step in range(4)]
    nodes = [node("Relu", "x", "v0"), *steps, node("Identity", "v4", "y")]
    return model_of(nodes, constants={"many": np.array([1, 1, 50, 50])})


def expands_and_joins() -> bytes:
    wide = [node("Expand", "x size", f"w{part}") for part in range(8)]
    join = node("Concat", " ".join(f"w{part}" for part in range(8)), "y", axis=0)
    return model_of([*wide, join], (1,), constants={"size": np.array([500_000_000])})


PADS = np.array([0, 0, 40_000, 40_000, 0, 0, 40_000, 40_000])


def pads(old: bool = False) -> bytes:
    """A contract may promise a small picture and small logits; between them is this."""
    padded = node("Pad", "x", "p", pads=PADS.tolist()) if old else node("Pad", "x pads", "p")
    return model_of([padded, node("GlobalMaxPool", "p", "y")], constants={} if old else {"pads": PADS})


def resizes(constant: np.ndarray, inputs: str) -> bytes:
    nodes = [node("Resize", f"x {inputs}", "r", mode="nearest"), node("GlobalMaxPool", "r", "y")]
    return model_of(nodes, constants={"c": constant, "none": np.array([], np.float32)})


def loop(rounds: object, body_nodes: list[onnx.NodeProto] | None = None) -> onnx.NodeProto:
    body = helper.make_graph(
        [*(body_nodes or []), node("Identity", "go", "on"), node("Identity", "state", "next")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, None),
        ],
    )
    return helper.make_node("Loop", [str(rounds), "", "x"], ["y"], body=body)


def endless_loop() -> bytes:
    return model_of([loop("")])


def loop_of_many_rounds() -> bytes:
    return model_of([loop("rounds")], constants={"rounds": np.array(10**12)})


def loop_in_a_loop() -> bytes:
    inner = loop("rounds")
    inner.output[0] = "unused"
    return model_of([loop("rounds", [inner])], constants={"rounds": np.array(5000)})


def loop_of_computed_rounds() -> bytes:
    nodes = [node("Size", "x", "count"), loop("count")]
    return model_of(nodes)


def nested_functions() -> bytes:
    def function(name: str, nodes: list[onnx.NodeProto]) -> onnx.FunctionProto:
        return helper.make_function("own", name, ["a"], ["b"], nodes, [helper.make_opsetid("", 18)])

    def ten(called: str) -> list[onnx.NodeProto]:
        names = ["a", *(f"s{step}" for step in range(9)), "b"]
        domain = "" if called == "Relu" else "own"
        return [
            helper.make_node(called, [one], [other], domain=domain)
            for one, other in itertools.pairwise(names)
        ]

    functions = [function(f"F{level}", ten(f"F{level - 1}" if level else "Relu")) for level in range(12)]
    return model_of([helper.make_node("F11", ["x"], ["y"], domain="own")], functions=functions)


def recursive_function() -> bytes:
    calls = [helper.make_node("F", ["a"], ["b"], domain="own")]
    recursive = helper.make_function("own", "F", ["a"], ["b"], calls, [helper.make_opsetid("own", 1)])
    return model_of([helper.make_node("F", ["x"], ["y"], domain="own")], functions=[recursive])


def deep_graphs() -> bytes:
    made = helper.make_tensor_value_info("b", FLOAT, None)
    leaf = graph = helper.make_graph([node("Identity", "x", "b")], "leaf", [], [made])
    for _ in range(20):
        one = helper.make_node("If", ["yes"], ["b"], then_branch=graph, else_branch=leaf)
        graph = helper.make_graph([one], "outer", [], [made])
    return model_of([helper.make_node("If", ["yes"], ["y"], then_branch=graph, else_branch=graph)])


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda: model_of([node("Relu", "x", "y")], (1,) * 300), "300 axes"),
        (
            lambda: model_of([node("Add", "x w", "y")], constants={"w": [1] * 60}),
            "60 axes",
        ),
        (lambda: model_of([node("Relu", "x", "y", numbers=list(range(60)))]), "more than 100 fields"),
        (doubling_concats, "Concat makes a tensor of at least"),
        (growing_tiles, "Tile makes a tensor of at least"),
        (expands_and_joins, "Concat makes a tensor of at least"),
        (pads, "Pad makes a tensor of at least 6.4"),
        (lambda: pads(old=True), "Pad makes a tensor of at least 6.4"),
        (lambda: model_of([node("Conv", "x w", "y", pads=[9000] * 4)]), "Conv pads by 9000"),
        (lambda: resizes(np.array([1, 3, 99_999, 99_999]), "none none c"), "Resize makes a tensor"),
        (lambda: resizes(np.array([1, 1, 4000, 4000], np.float32), "none c"), "Resize makes a tensor"),
        (lambda: resizes(np.array([1, 1, 4000, 4000], np.float32), "c"), "Resize makes a tensor"),
        (endless_loop, "number of rounds is no constant"),
        (loop_of_many_rounds, "Loop of 1000000000000 rounds"),
        (loop_in_a_loop, "Loop of 25000000 rounds"),
        (loop_of_computed_rounds, "number of rounds is no constant"),
        (nested_functions, r"functions make 1.*e\+12 nodes"),
        (recursive_function, "calls itself"),
        (deep_graphs, "nested more than 16 deep"),
    ],
)
def test_what_has_no_bound_is_refused(
    write: Callable[[], bytes], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "fields" in says:
        monkeypatch.setattr(protobuf, "MAX_NUMBERS", 100)
    with pytest.raises(ProtobufError, match=says):
        parse_onnx(write())


def test_what_has_a_bound_is_taken() -> None:
    parse_onnx(model_of([loop("rounds")], constants={"rounds": np.array(12)}))
    joined = [node("Concat", f"v{step} x", f"v{step + 1}", axis=0) for step in range(60)]
    parse_onnx(model_of([node("Relu", "x", "v0"), *joined, node("Identity", "v60", "y")]))
    # A dense block joins what it has to what it made of it; the convolutions between keep it small.
    dense = [
        part
        for step in range(60)
        for part in (
            node("Conv", f"v{step} w", f"c{step}"),
            node("Concat", f"v{step} c{step}", f"v{step + 1}", axis=1),
        )
    ]
    weights = {"w": np.ones((8, 3, 1, 1), np.float32)}
    parse_onnx(model_of([node("Relu", "x", "v0"), *dense, node("Identity", "v60", "y")], constants=weights))


def test_a_size_of_minus_one_is_free() -> None:
    (image,) = parse_onnx(model_of([node("Relu", "x", "y")], (1, 3, -1, -1))).inputs
    assert image.shape == (1, 3, None, None)


def split(folder: Path) -> Path:
    path = folder / "split.onnx"
    weights = {"w": np.ones((1, 3, 8, 8), np.float32)}
    model = onnx.load_model_from_string(model_of([node("Add", "x w", "y")], constants=weights))
    onnx.save_model(model, path, save_as_external_data=True, location="split.data", size_threshold=0)
    return path


def relocated(path: Path, **entries: str) -> Path:
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_beside_a_file_are_counted_where_they_may_be(tmp_path: Path) -> None:
    path = split(tmp_path)
    with pytest.raises(ModelLoadError, match="in another file, expected them inside"):
        read_onnx_file(path)
    assert read_onnx_file(path, beside=True).beside == 4 * 3 * 8 * 8


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"location": "../split.data"}, "outside of its folder"),
        ({"location": "/etc/passwd"}, "outside of its folder"),
        ({"location": "gone.data"}, "is missing"),
        ({"location": ""}, "outside of its folder"),
        ({"offset": "99999"}, "end at byte"),
        ({"offset": "-4"}, "end at byte"),
        ({"length": "8"}, "needs 768 bytes and has 8"),
        ({"length": "many"}, "no number of bytes"),
    ],
)
def test_weights_that_lie_elsewhere_are_refused(tmp_path: Path, entries: dict[str, str], says: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = relocated(split(inner), **entries)
    (tmp_path / "split.data").write_bytes(b"secret" * 500)
    with pytest.raises(ModelLoadError, match=says):
        read_onnx_file(path, beside=True)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = split(inner)
    (inner / "split.data").rename(tmp_path / "secret")
    (inner / "split.data").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelLoadError, match=r"a link that may lead outside of its folder.*cp -rL"):
        read_onnx_file(path, beside=True)


def test_more_weights_than_one_file_holds_are_said_in_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[600, 1 << 20], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="large.data")
    model = onnx.load_model_from_string(model_of([node("Add", "x w", "y")]))
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    with open(tmp_path / "large.data", "wb") as file:
        file.truncate(600 << 22)  # a hole of the file system
    with pytest.raises(ModelLoadError, match=r"hold 2\.3 GiB, and one ONNX file holds 2 GiB"):
        read_onnx_file(path, beside=True)


def test_messages_stay_short(tmp_path: Path) -> None:
    path = tmp_path / f"{'long' * 60}.onnx"
    path.write_bytes(model_of([node("Add", "x w", "y")], constants={"w" * 9000: [1] * 40}))
    with pytest.raises(ModelLoadError) as caught:
        read_onnx_file(path)
    assert len(str(caught.value)) <= 500
