"""The profiler's JSON becomes nodes with shapes and a time for each run that counts."""

import json
from pathlib import Path

import pytest

from benchmarks.layers.ort_profile import ProfiledSession, Tensor, parse_profile, shapes_session
from benchmarks.subjects.any_model import open_any_model
from runtime import ModelLoadError
from runtime.network.session import session_options


def kernel(name, operator, ts, dur, index="0", inputs=(), outputs=({"float": [1, 2]},)):
    arguments = {
        "op_name": operator,
        "node_index": index,
        "input_type_shape": list(inputs),
        "output_type_shape": list(outputs),
    }
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": arguments}


def run(ts):
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": 90}


def test_each_run_that_counts_gives_a_sample():
    events = [kernel("a", "Relu", 5, 999), run(0), kernel("a", "Relu", 105, 7), run(100)]
    events += [kernel("a", "Relu", 205, 9), run(200), {"cat": "Session", "name": "other", "ts": 1, "dur": 1}]
    (node,) = parse_profile(json.dumps(events), [False, True, True])
    assert (node.name, node.operator, node.samples_ms) == ("a", "Relu", (0.007, 0.009))
    assert node.outputs == (Tensor("float", (1, 2)),)


def test_a_node_inside_a_loop_is_summed_and_the_loop_is_not_counted_twice():
    events = [kernel("body", "Relu", 1, 3, "5"), kernel("body", "Relu", 5, 4, "5")]
    events += [kernel("loop", "Loop", 1, 9, "1"), run(0)]
    (node,) = parse_profile(json.dumps(events), [True])
    assert (node.name, node.samples_ms) == ("body", (0.007,))


def test_two_nodes_of_one_name_stay_two():
    events = [kernel("", "Relu", 1, 3, "5"), kernel("", "Relu", 5, 4, "6"), run(0)]
    assert [node.samples_ms for node in parse_profile(json.dumps(events), [True])] == [(0.003,), (0.004,)]


def test_a_tensor_knows_its_bytes():
    assert Tensor("float", (2, 3)).bytes == 24
    assert Tensor("uint8", (2, 3)).bytes == 6
    assert Tensor("float16", ()).bytes == 2


def test_a_session_profiles_into_a_folder_that_goes_away(tiny_onnx, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with ProfiledSession(open_any_model(tiny_onnx), session_options(1)) as session:
        session.run_ms(counts=False)
        session.run_ms()
        session.run_ms()
        nodes = session.nodes()
        assert len(list(tmp_path.glob("edgeseg-profile-*"))) == 1
    assert not list(tmp_path.glob("edgeseg-profile-*"))
    assert all(len(node.samples_ms) == 2 for node in nodes)
    assert "Conv" in {node.operator for node in nodes}


def test_a_file_that_cannot_be_opened_leaves_no_folder(tiny_onnx, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = open_any_model(tiny_onnx)
    object.__setattr__(model, "content", b"")
    with pytest.raises(ModelLoadError, match="cannot open it"):
        ProfiledSession(model, session_options(1))
    assert not list(tmp_path.glob("edgeseg-profile-*"))


def test_the_shapes_of_the_weights_are_known_in_the_written_and_the_optimized_graph(tiny_onnx: Path):
    for is_optimized in (False, True):
        with shapes_session(open_any_model(tiny_onnx), is_optimized=is_optimized) as session:
            session.run_ms()
            (conv,) = (node for node in session.nodes() if node.operator == "Conv")
        source, weights = (tensor.shape for tensor in conv.inputs[:2])
        assert source == (1, 3, 4, 6)
        assert weights[1:] == (3, 1, 1)
        assert weights[0] >= 3 if is_optimized else weights[0] == 3  # blocked layouts fill channels up
