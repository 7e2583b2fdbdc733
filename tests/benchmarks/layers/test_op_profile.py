"""Layers are held against the machine; times are injected, so no clock decides."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from benchmarks.layers.op_profile import ModelProfiler, op_profile
from benchmarks.layers.ort_profile import ProfiledNode, Tensor
from benchmarks.machine.yardstick import MachineLimits
from runtime import ConfigError, ModelLoadError

# 1 GMAC/s in float32 convolutions, so 1e6 multiply-adds are a millisecond; 1 GB/s in the caches.
LIMITS = MachineLimits(
    conv_gmac_s=1.0, gemm_gmac_s=0.5, int8_conv_gmac_s=4.0, memory_gb_s=0.1, threads=1, cache_gb_s=1.0
)


def node(operator, inputs, output, samples_ms=(2.0,), kind="float"):
    tensors = tuple(Tensor(kind, shape) for shape in inputs)
    return ProfiledNode("layer", 3, operator, tensors, (Tensor(kind, output),), samples_ms)


def write_network(path, *, image=(1, 8, 16, 16), channels=8):
    """Conv 3x3 + Relu, depthwise 3x3, 1x1 to 3 channels, flattened into a Gemm: macs by hand below."""
    rng = np.random.default_rng(0)
    weights = {
        "plain": (channels, 8, 3, 3),
        "depth": (channels, 1, 3, 3),
        "point": (3, channels, 1, 1),
        "gemm": (3 * 16 * 16, 5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "plain"], ["a"], "plain", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "depth"], ["c"], "depth", pads=[1] * 4, group=channels),
        helper.make_node("Conv", ["c", "point"], ["d"], "point"),
        helper.make_node("Flatten", ["d"], ["e"], "flat"),
        helper.make_node("Gemm", ["e", "gemm"], ["y"], "gemm"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


PLAIN, DEPTH, POINT, GEMM = 8 * 256 * 8 * 9, 8 * 256 * 9, 3 * 256 * 8, 3 * 256 * 5


def test_a_network_is_profiled_layer_by_layer(tmp_path):
    with ModelProfiler(write_network(tmp_path / "x.onnx"), threads=1) as profiler:
        profiler.run(3)
        ops = profiler.ops(LIMITS)
    counted = [op.macs for op in ops if op.macs]
    # Blocked layouts fill channels up to a vector's width, so convolutions may do more than was asked for.
    assert len(counted) == 4
    assert all(done >= asked for done, asked in zip(counted, (PLAIN, DEPTH, POINT, GEMM), strict=True))
    assert counted[-1] == GEMM
    assert ops[-1].operator in ("Gemm", "FusedGemm")
    assert ops[-1].output_shape == (1, 5)
    assert ops[-1].element_type == "float"
    assert ops[-1].bytes_moved == 4 * (3 * 256 + 3 * 256 * 5 + 5)
    assert all(op.median_ms >= 0 for op in ops)


def test_the_work_is_the_files_own_and_split_by_arithmetic(tmp_path):
    with ModelProfiler(write_network(tmp_path / "x.onnx"), threads=1) as profiler:
        assert profiler.macs == PLAIN + DEPTH + POINT + GEMM
        assert sum(profiler.macs_by_kind.values()) == pytest.approx(profiler.macs)
        assert set(profiler.macs_by_kind) == {"conv", "gemm"}
        assert profiler.run(2) == profiler.samples_ms
        profiler.run(1)
        assert len(profiler.samples_ms) == len(profiler.profiled_samples_ms) == 3
        assert all(op.macs is not None for op in profiler.ops(LIMITS))


def test_work_that_no_shape_tells_is_unknown(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Einsum", ["x", "x"], ["y"], equation="ij,jk->ik")],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    path = tmp_path / "x.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    with ModelProfiler(path, threads=1) as profiler:
        assert profiler.macs is None
        assert profiler.macs_by_kind == {}
        profiler.run(1)
        assert all(op.ratio is None for op in profiler.ops(LIMITS) if op.macs is None)


@pytest.mark.parametrize(
    ("layer", "macs", "limit_ms"),
    [
        # 1e6 multiply-adds at 1 GMAC/s
        (node("Conv", [(1, 100, 10, 10), (100, 100, 1, 1)], (1, 100, 10, 10)), 10**6, 1.0),
        # the same as a matrix product at 0.5
        (node("MatMul", [(100, 100), (100, 100)], (100, 100)), 10**6, 2.0),
        # 4 * (1 + 1) * 10^5 bytes at 1 GB/s
        (node("Relu", [(10**5,)], (10**5,)), 0, 0.8),
        # 32 MB are more than caches hold: 0.1 GB/s
        (node("Relu", [(10**7,)], (10**7,)), 0, 800.0),
        # of a table of 10^6 numbers ten are read and written
        (node("Gather", [(10**6,), (10,)], (10,)), 0, 80 / 1e6),
        (node("Reshape", [(10**6,), (2,)], (1000, 1000)), 0, 0.0),
    ],
)
def test_the_limit_is_the_longer_of_arithmetic_and_memory(layer, macs, limit_ms):
    op = op_profile(layer, layer, LIMITS)
    assert op.macs == macs
    assert op.limit_ms == pytest.approx(limit_ms)
    assert op.ratio == (pytest.approx(2.0 / limit_ms) if limit_ms else None)
    assert op.gmac_s == (pytest.approx(macs / 2.0 / 1e6) if macs else None)
    assert op.lost_ms == pytest.approx(2.0 - limit_ms)


def test_int8_is_held_against_int8():
    tensors = (Tensor("uint8", (1, 100, 10, 10)), Tensor("float", ()), Tensor("uint8", ()))
    weights = Tensor("int8", (100, 100, 1, 1))
    layer = ProfiledNode(
        "q", 0, "QLinearConv", (*tensors, weights), (Tensor("uint8", (1, 100, 10, 10)),), (1.0,)
    )
    assert op_profile(layer, layer, LIMITS).limit_ms == pytest.approx(0.25)


def test_weights_that_the_profiler_leaves_out_are_taken_from_the_run_that_lists_them():
    shaped = node("Conv", [(1, 100, 10, 10), (100, 100, 1, 1)], (1, 100, 10, 10))
    timed = node("Conv", [(1, 100, 10, 10)], (1, 100, 10, 10), samples_ms=(4.0, 5.0, 9.0))
    op = op_profile(timed, shaped, LIMITS)
    assert (op.macs, op.median_ms) == (10**6, 5.0)


def test_a_missing_file_and_wrong_threads_are_known_errors(tmp_path):
    with pytest.raises(ModelLoadError, match="found none"):
        ModelProfiler(tmp_path / "gone.onnx")
    with pytest.raises(ConfigError, match="threads: expected 1 to"):
        ModelProfiler(write_network(tmp_path / "x.onnx"), threads=0)
