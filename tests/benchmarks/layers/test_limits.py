"""The command that holds networks against the machine."""

from dataclasses import replace

import pytest

from benchmarks.layers import limits
from benchmarks.layers.limits import LimitsConfig, LimitsReport, ModelLimits, measure_limits
from benchmarks.layers.op_profile import OpProfile
from benchmarks.machine import yardstick
from benchmarks.machine.description import this_machine
from benchmarks.machine.yardstick import MachineLimits
from benchmarks.render.document import to_text
from benchmarks.render.reports import limits_blocks
from runtime.network.options import ModelOptions


@pytest.fixture(autouse=True)
def small_copies(monkeypatch):
    monkeypatch.setattr(yardstick, "MEMORY_BYTES", 1 << 20)


def op(name, median_ms, limit_ms, ratio=1.0):
    return OpProfile(name, "Conv", (1, 8, 4, 4), "float", median_ms, 10, 10, 1.0, limit_ms, ratio, "reason")


def model_of(*ops):
    return ModelLimits("x.onnx", {"conv": 1.0}, 2.0, 1.0, 2.0, (2.0,), 1.0, 1.0, 2.0, (2.0,), ops)


def test_the_layer_that_loses_most_time_is_first():
    ops = [op("far but short", 0.02, 0.0001, 200.0), op("long at the limit", 5.0, 4.9), op("slow", 2.0, 1.0)]
    assert [each.name for each in model_of(*ops).slowest(2)] == ["slow", "long at the limit"]


def test_a_network_without_known_work_is_called_unknown():
    model = ModelLimits("x.onnx", {}, 2.0, None, None, (), 1.0, 1.0, 2.0, (2.0,), (op("a", 1.0, 0.0, None),))
    report = LimitsReport(MachineLimits(1.0, 1.0, 1.0, 1.0, 1, 1.0), {}, (model,), 2, this_machine())
    assert "unknown" in to_text(limits_blocks(report, 1))


def test_an_int8_file_tells_what_stays_float():
    ops = (op("a", 1.0, 1.0), replace(op("b", 0.25, 0.1), operator="Resize"), op("c", 2.0, 1.0))
    in_bytes = replace(op("d", 4.0, 1.0), operator="QLinearConv", element_type="uint8")
    model = replace(model_of(*ops, in_bytes), gmacs={"int8": 0.9, "conv": 0.1})
    report = LimitsReport(MachineLimits(1.0, 1.0, 1.0, 1.0, 1, 1.0), {}, (model,), 2, this_machine())
    *_, title, heads, convolutions, resize = to_text(limits_blocks(report, 0)).splitlines()
    assert "x.onnx: the layers of 4 that stay float32" in title
    assert heads.split() == ["operator", "layers", "ms", "why"]
    assert convolutions.split() == ["Conv", "2", "3.000", "reason"]
    assert resize.split() == ["Resize", "1", "0.250", "reason"]


def test_the_ratio_pairs_each_round_with_the_rate_beside_it(tiny_onnx, monkeypatch):
    """A machine that halves its speed half-way changes no ratio."""
    speeds = iter([1.0, 0.5, 0.5])

    class Drifting(limits.Yardsticks):
        def run(self):
            self.speed = next(speeds)
            rates = dict.fromkeys(("conv_gmac_s", "gemm_gmac_s", "int8_conv_gmac_s"), self.speed)
            now = MachineLimits(memory_gb_s=1.0, threads=1, cache_gb_s=1.0, **rates)
            for name in self.samples:
                self.samples[name].append(getattr(now, name))
            Profiler.speed = self.speed
            return now

    class Profiler(limits.ModelProfiler):
        speed = 1.0

        def run(self, count):
            super().run(count)
            return [2 * self.macs / 1e6 / Profiler.speed] * count

    monkeypatch.setattr(limits, "Yardsticks", Drifting)
    monkeypatch.setattr(limits, "ModelProfiler", Profiler)
    (model,) = measure_limits([tiny_onnx], LimitsConfig(15, ModelOptions(threads=1))).models
    assert model.ratio_samples == pytest.approx((2.0, 2.0, 2.0))
    assert model.ratio == pytest.approx(2.0)
