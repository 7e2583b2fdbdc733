"""The yardsticks are valid files that hold the work they count, and tell how noisy a machine is."""

import math
import runpy
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from benchmarks.machine import usage, yardstick
from benchmarks.machine.usage import CpuShares
from benchmarks.machine.yardstick import (
    CONV_GMAC,
    FOLDER,
    GEMM_GMAC,
    LAYERS,
    LEAST_SAMPLES,
    Noise,
    Yardstick,
    Yardsticks,
    measure_noise,
    noise_of,
)
from export.graph.multiply_adds import multiply_adds
from runtime import ConfigError

YARDSTICKS = runpy.run_path(str(Path(__file__).parent / "make_yardsticks.py"))["YARDSTICKS"]
RATES = ("conv_gmac_s", "gemm_gmac_s", "int8_conv_gmac_s", "memory_gb_s", "cache_gb_s")


@pytest.mark.parametrize("kind", YARDSTICKS)
def test_the_bundled_file_is_what_the_maker_makes(kind):
    assert onnx.load(FOLDER / f"{kind}.onnx") == ir.serde.serialize_model(YARDSTICKS[kind]())


@pytest.mark.parametrize(
    ("kind", "gmac"), [("conv", CONV_GMAC), ("int8_conv", CONV_GMAC), ("gemm", GEMM_GMAC)]
)
def test_a_yardstick_holds_the_work_it_counts(kind, gmac):
    model = onnx.load(FOLDER / f"{kind}.onnx")
    onnx.checker.check_model(model, full_check=True)
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
    macs = [
        multiply_adds(node.op_type, [shapes[name] for name in node.input], shapes[node.output[0]])
        for node in graph.node
    ]
    assert sum(macs) / 1e9 == pytest.approx(gmac) == pytest.approx(Yardstick(1, kind=kind).gmac)


def test_the_convolutions_are_six_of_64_channels():
    assert round(CONV_GMAC, 3) == 2.389  # 6 layers * 64 * 64 * 9 weights * 90 * 120 pixels


@pytest.mark.parametrize(
    ("kind", "kernels"), [("conv", ["Conv"] * 6), ("int8_conv", ["QLinearConv"] * 6), ("gemm", ["MatMul"])]
)
def test_onnxruntime_folds_the_weights_and_runs_nothing_else(kind, kernels, tmp_path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that such a file is for this machine only
    ort.InferenceSession(FOLDER / f"{kind}.onnx", options, providers=["CPUExecutionProvider"])
    nodes = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    layout = ("ReorderInput", "ReorderOutput", "Transpose")  # at the ends
    assert [name for name in nodes if name not in layout] == kernels


@pytest.mark.parametrize("kind", YARDSTICKS)
def test_ones_stay_ones_away_from_the_border(kind):
    session = ort.InferenceSession(FOLDER / f"{kind}.onnx", providers=["CPUExecutionProvider"])
    (described,) = session.get_inputs()
    dtype = np.uint8 if kind == "int8_conv" else np.float32
    (out,) = session.run(None, {described.name: np.ones(described.shape, dtype)})
    assert out.dtype == dtype
    np.testing.assert_allclose(out[..., LAYERS:-LAYERS, LAYERS:-LAYERS], 1, rtol=1e-4)


def test_a_run_takes_time():
    assert Yardstick(threads=1).run_ms() > 0
    assert Yardstick(threads=1, kind="int8_conv").gmac_s() > 0


def test_limits_are_medians_of_samples_that_are_kept(monkeypatch):
    monkeypatch.setattr(yardstick, "MEMORY_BYTES", 1 << 20)
    yardsticks = Yardsticks(threads=1)
    now = yardsticks.run()
    assert all(yardsticks.samples[name] == [getattr(now, name)] for name in RATES)
    yardsticks.samples = {name: [1.0, 5.0, 2.0] for name in RATES}
    limits = yardsticks.limits()
    assert limits.threads == 1
    assert all(getattr(limits, name) == 2.0 for name in RATES)


def test_every_rate_is_measured(monkeypatch):
    monkeypatch.setattr(yardstick, "MEMORY_BYTES", 1 << 20)
    limits = Yardsticks(threads=2).run()
    assert limits.threads == 2
    assert all(getattr(limits, name) > 0 for name in RATES)


def test_no_threads_are_refused():
    with pytest.raises(ConfigError, match="threads: expected 1 to"):
        Yardsticks(threads=0)


def test_noise_by_hand():
    noise = noise_of([10.0] * 8 + [12.0, 15.0], CpuShares(0.0, 3.0))
    assert (noise.samples, noise.p50_ms) == (10, 10.0)
    assert noise.spread_percent == pytest.approx(20)  # the nearest rank of p90 is the ninth of ten
    assert noise.worst_percent == pytest.approx(50)
    assert noise.is_noisy
    assert str(noise).startswith("NOISY: p90 of 10 equal runs of plain convolutions is 20 % above the median")


@pytest.mark.parametrize(
    ("spread", "steal", "others", "is_noisy"),
    [
        (3, 0.0, 1.0, False),
        (3, None, None, False),
        (11, 0.0, 1.0, True),
        (3, 2.5, 1.0, True),
        (3, 0.0, 12.0, True),
    ],
)
def test_what_is_called_noisy(spread, steal, others, is_noisy):
    noise = Noise(100, 5.0, spread, 2 * spread, steal, others)
    assert noise.is_noisy is is_noisy
    assert ("NOISY" in str(noise)) is is_noisy
    assert ("host" in str(noise)) is (steal is not None)


def test_the_first_run_does_not_count_and_enough_are_taken(monkeypatch):
    monkeypatch.setattr(usage, "psutil", None)
    runs = iter([999.0] + [10.0] * 1000)
    noise = measure_noise(1e-9, run_ms=lambda: next(runs))
    assert noise.samples == LEAST_SAMPLES
    assert (noise.spread_percent, noise.worst_percent) == (0, 0)
    assert noise.steal_percent is None


def test_noise_is_measured_for_a_while():
    noise = measure_noise(0.01, threads=1)
    assert noise.samples >= LEAST_SAMPLES
    assert noise.p50_ms > 0
    assert math.isfinite(noise.worst_percent)
