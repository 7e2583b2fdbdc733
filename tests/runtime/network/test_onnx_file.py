"""What an ONNX file says of itself is checked before onnxruntime believes it."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.errors import ContractError, EdgesegError, ModelLoadError
from runtime.network import onnx_file
from runtime.network.onnx_file import SEAL_KEY, parse_onnx, read_onnx_file
from runtime.network.protobuf import ProtobufError, fields
from runtime.network.session import NetworkSession

HUGE = 50_000  # squared, in float32: 10 GB
Change = Callable[[onnx.ModelProto], None]


def changed(path: Path, change: Change) -> Path:
    """Rewrite a file in place."""
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def announce_huge_raw(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [HUGE, HUGE]


def announce_huge_typed(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    values = numpy_helper.to_array(tensor).ravel().tolist()
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values)
    tensor.dims[:] = [HUGE, HUGE]


def announce_a_negative_size(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -3


def announce_an_unknown_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


def announce_sparse_weights(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [HUGE, HUGE]))


def hide_a_huge_tensor_in_a_constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[HUGE, HUGE], name="hidden", raw_data=b"1234")
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))


def hide_a_huge_tensor_in_a_branch(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[HUGE, HUGE], name="hidden", raw_data=b"1234")
    branch = helper.make_graph([], "branch", [], [], [tensor])
    model.graph.node.append(helper.make_node("If", ["x"], ["unused"], then_branch=branch, else_branch=branch))


def nest_graphs(model: onnx.ModelProto) -> None:
    graph = helper.make_graph([], "innermost", [], [])
    for _ in range(20):
        node = helper.make_node(
            "If", ["x"], ["y"], then_branch=graph, else_branch=helper.make_graph([], "", [], [])
        )
        graph = helper.make_graph([node], "outer", [], [])
    model.graph.node.extend(graph.node)


def expand_a_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([HUGE, HUGE]), "shape"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["unused"]))


def expand_the_input(model: onnx.ModelProto) -> None:
    axes = model.graph.input[0].type.tensor_type.shape.dim
    axes[1].dim_value = axes[2].dim_value = HUGE


def repeat_the_contract(model: onnx.ModelProto) -> None:
    model.metadata_props.append(model.metadata_props[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (announce_huge_raw, "announces 10000000000 bytes"),
        (announce_huge_typed, "announces 2500000000 elements"),
        (announce_a_negative_size, r"announces the shape \[-3"),
        (announce_an_unknown_type, "unknown element type 99"),
        (announce_sparse_weights, "sparse"),
        (hide_a_huge_tensor_in_a_constant, "'hidden' announces"),
        (hide_a_huge_tensor_in_a_branch, "'hidden' announces"),
        (nest_graphs, "nested more than 16 deep"),
        (expand_a_constant, "ConstantOfShape makes a tensor of 2500000000 elements"),
        (expand_the_input, "more than any frame needs"),
        (repeat_the_contract, "twice"),
    ],
)
def test_a_small_file_cannot_announce_something_huge(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, change: Change, says: str
) -> None:
    monkeypatch.setattr(ort, "InferenceSession", None)  # it must not come that far
    path = changed(tiny_onnx, change)
    assert path.stat().st_size < 5000
    with pytest.raises(ModelLoadError, match=rf"tiny\.onnx: .*{says}"):
        NetworkSession(path)


def test_an_expanding_graph_takes_no_memory_to_open(tiny_onnx: Path) -> None:
    if tuple(map(int, ort.__version__.split(".")[:2])) < (1, 24):
        pytest.skip("this onnxruntime cannot be told how much to compute while it opens a file")

    def expand(model: onnx.ModelProto) -> None:
        # 320 MB from a shape that is itself computed, so that no constant in the file says so.
        model.graph.initializer.append(numpy_helper.from_array(np.array([80_000_000]), "half"))
        model.graph.node.extend(
            [
                helper.make_node("Abs", ["half"], ["shape"]),
                helper.make_node("ConstantOfShape", ["shape"], ["ones"]),
                helper.make_node("ReduceMax", ["ones"], ["nothing"], keepdims=0),
                helper.make_node("Add", [model.graph.node[-1].output[0], "nothing"], ["sum"]),
            ]
        )
        model.graph.node[3].output[0] = "scores"
        model.graph.node[-1].input[0] = "scores"
        model.graph.node[-1].output[0] = "logits"

    path = changed(tiny_onnx, expand)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    NetworkSession(path, threads=1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize("location", ["split.data", "../split.data", "/etc/passwd"])
def test_weights_in_another_file_are_refused(
    tmp_path: Path, write_tiny_onnx: Callable[..., Path], location: str
) -> None:
    path = write_tiny_onnx(tmp_path / "split.onnx", external_data=True)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = location if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelLoadError, match="in another file, expected them inside"):
        read_onnx_file(path)


def test_a_contract_of_another_size_is_refused_before_a_session_is_made(
    tmp_path: Path, write_tiny_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "InferenceSession", None)
    with pytest.raises(ContractError, match=r"promises inputs image .*\[1, 32, 48, 3\].*\[1, 40, 48, 3\]"):
        NetworkSession(write_tiny_onnx(tmp_path / "odd.onnx", input_hw=(40, 48)))


def seal(path: Path) -> Path:
    """Write a file's checksum into it, by the definition: of all its bytes but the entry's."""
    model = onnx.load(path)
    digest = hashlib.sha256(model.SerializeToString()).hexdigest()
    model.metadata_props.add(key=SEAL_KEY, value=digest)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_sealed_file_opens(tiny_onnx: Path) -> None:
    assert not read_onnx_file(tiny_onnx).is_sealed
    assert read_onnx_file(seal(tiny_onnx)).is_sealed
    NetworkSession(tiny_onnx)


def test_every_flipped_bit_of_a_sealed_file_is_noticed(tiny_onnx: Path) -> None:
    content = bytearray(seal(tiny_onnx).read_bytes())
    places = range(0, len(content) * 8, 37)
    key = content.index(SEAL_KEY.encode())
    unnoticed = []
    for place in places:
        content[place // 8] ^= 1 << place % 8
        try:
            parse_onnx(bytes(content))
        except ProtobufError:
            pass
        else:
            unnoticed.append(place // 8)
        content[place // 8] ^= 1 << place % 8
    # Only a flip that makes the checksum's own entry another one passes: nothing else is damaged then.
    assert all(key - 4 <= place <= key + len(SEAL_KEY) for place in unnoticed)


def test_an_edited_file_is_called_damaged_or_edited(tiny_onnx: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        model.graph.name = "edited"

    with pytest.raises(ModelLoadError, match=r"does not match the checksum inside it.*edited"):
        read_onnx_file(changed(seal(tiny_onnx), rename))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x80", "ends within a number"),
        (b"\x80" * 11, "more than ten bytes"),
        (b"\x00", "no number"),
        (b"\x0b", "wire type 3"),
        (b"\x0a\x05abc", "announces 5 bytes where 3 are left"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "announces -1 bytes"),
    ],
)
def test_bytes_that_are_no_protobuf_are_named(content: bytes, says: str) -> None:
    with pytest.raises(ProtobufError, match=says):
        list(fields(memoryview(content)))


def test_a_file_that_cannot_be_read_is_a_known_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "seg.onnx").write_bytes(b"x")
    monkeypatch.setattr(onnx_file, "open_regular", fail)
    with pytest.raises(EdgesegError, match=r"seg\.onnx: cannot read it \(Permission denied\)"):
        read_onnx_file(tmp_path / "seg.onnx")


def test_a_file_larger_than_onnx_files_can_be_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.onnx"
    with open(path, "wb") as file:
        file.truncate(2**31)
    with pytest.raises(ModelLoadError, match="at most 2147483647 bytes"):
        read_onnx_file(path)
