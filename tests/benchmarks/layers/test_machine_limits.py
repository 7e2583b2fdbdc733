"""The yardsticks are valid files that hold the work they count."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from benchmarks.layers import machine_limits
from benchmarks.layers.machine_limits import GEMM_GMAC, Yardsticks, measure_limits
from benchmarks.machine.conv_rate import GMAC, LAYERS, ConvRate, int8_conv_stack_onnx
from export.graph.multiply_adds import multiply_adds
from runtime import ConfigError

RATES = ("conv_gmac_s", "gemm_gmac_s", "int8_conv_gmac_s", "memory_gb_s", "cache_gb_s")


def counted_gmac(content):
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
    return (
        sum(
            multiply_adds(node.op_type, [shapes[name] for name in node.input], shapes[node.output[0]])
            for node in graph.node
        )
        / 1e9
    )


def test_the_int8_yardstick_holds_the_work_it_counts():
    assert counted_gmac(int8_conv_stack_onnx()) == pytest.approx(GMAC)


def test_the_matrix_yardstick_holds_the_work_it_counts():
    assert counted_gmac(machine_limits.gemm_onnx()) == pytest.approx(GEMM_GMAC)


def test_int8_ones_stay_ones_away_from_the_border():
    session = ort.InferenceSession(int8_conv_stack_onnx(), providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"x": np.ones((1, 64, 90, 120), np.uint8)})
    assert out.dtype == np.uint8
    assert (out[:, :, LAYERS:-LAYERS, LAYERS:-LAYERS] == 1).all()
    assert ConvRate(threads=1, is_int8=True).run_ms() > 0


def test_limits_are_medians_of_samples_that_are_kept(monkeypatch):
    monkeypatch.setattr(machine_limits, "MEMORY_BYTES", 1 << 20)
    yardsticks = Yardsticks(threads=1)
    now = yardsticks.run()
    assert all(yardsticks.samples[name] == [getattr(now, name)] for name in RATES)
    yardsticks.samples = {name: [1.0, 5.0, 2.0] for name in RATES}
    limits = yardsticks.limits()
    assert limits.threads == 1
    assert all(getattr(limits, name) == 2.0 for name in RATES)


def test_every_rate_is_measured(monkeypatch):
    monkeypatch.setattr(machine_limits, "MEMORY_BYTES", 1 << 20)
    limits = measure_limits(threads=2, runs=1)
    assert limits.threads == 2
    assert all(getattr(limits, name) > 0 for name in RATES)


def test_no_runs_and_no_threads_are_refused():
    with pytest.raises(ConfigError, match="runs: expected at least 1"):
        measure_limits(threads=1, runs=0)
    with pytest.raises(ConfigError, match="threads: expected 1 to"):
        measure_limits(threads=0)
