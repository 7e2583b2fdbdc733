from dataclasses import replace

import pytest

from benchmarks.machine.description import this_machine
from benchmarks.machine.energy import Energy
from benchmarks.machine.yardstick import Noise
from benchmarks.render.document import to_markdown, to_text
from benchmarks.render.reports import latency_blocks, machine_blocks
from benchmarks.timing import latency
from benchmarks.timing.frames import STAGES
from benchmarks.timing.latency import FRAMES_A_BLOCK, SETTLE, LatencyConfig, measure_latency
from runtime import ConfigError, Segmenter
from runtime.network import options
from runtime.network.options import ModelOptions


@pytest.fixture(autouse=True)
def short_noise(monkeypatch):
    """No test needs two seconds of it; `test_yardstick` tries the real one."""
    noisy = replace(this_machine(), noise=Noise(20, 5.0, 25.0, 90.0, 0.0, 40.0))
    monkeypatch.setattr(latency, "machine_with_noise", lambda threads: noisy)


def quick(model, **settings):
    """Return settings of a measurement that takes no time."""
    return LatencyConfig(ModelOptions(model, threads=1), (90, 120), cold_starts=0, **settings)


def with_network_ms(monkeypatch, network_ms):
    """Let the network seem to take given milliseconds."""
    given = iter(network_ms)

    class Timed(Segmenter):
        def __call__(self, frame):
            result = super().__call__(frame)
            return replace(result, latency_ms={**result.latency_ms, "network": next(given)})

    monkeypatch.setattr(options, "Segmenter", Timed)


def test_the_warm_up_is_left_out_and_no_outlier_is_clipped(tiny_onnx, monkeypatch):
    with_network_ms(monkeypatch, [999.0, 999.0, 5.0, 7.0, 500.0] + [999.0] * SETTLE)
    config = quick(tiny_onnx, frames=3, warmup=2)
    report = measure_latency(config)
    upper = dict.fromkeys(("p90", "p99", "p99.9", "max"), 500.0)
    assert report.latency_ms["network"] == {"p50": 7.0, **upper}
    assert report.network_time_gmac == pytest.approx(report.conv_gmac_per_s * 0.007)


def test_frames_after_the_convolutions_do_not_count(tiny_onnx, monkeypatch):
    blocks = [5.0] * FRAMES_A_BLOCK + [999.0] * SETTLE + [6.0] + [999.0] * SETTLE
    with_network_ms(monkeypatch, blocks)
    config = quick(tiny_onnx, frames=FRAMES_A_BLOCK + 1, warmup=0)
    report = measure_latency(config)
    assert (report.latency_ms["network"]["p50"], report.latency_ms["network"]["max"]) == (5.0, 6.0)
    assert report.noise_meanwhile.samples == 2


def test_jitter_is_the_difference_of_two_frames_in_a_row(tiny_onnx, monkeypatch):
    totals_ms = iter([10.0, 14.0, 11.0, 11.5] + [99.0] * SETTLE)
    monkeypatch.setattr(
        latency, "FrameTimer", lambda segment: lambda image_bgr: dict.fromkeys(STAGES, next(totals_ms))
    )
    config = quick(tiny_onnx, frames=4, warmup=0)
    jitter_ms = measure_latency(config).jitter_ms  # of 4, 3 and 0.5
    assert (jitter_ms["p50"], jitter_ms["max"]) == (3.0, 4.0)


def test_one_frame_has_no_jitter(tiny_onnx):
    config = quick(tiny_onnx, frames=1, warmup=0)
    report = measure_latency(config)
    assert report.jitter_ms is None
    assert "\njitter " not in to_text(latency_blocks(report))


def test_a_noisy_machine_is_called_noisy(tiny_onnx):
    config = quick(tiny_onnx, frames=1, warmup=0)
    report = measure_latency(config)
    blocks = [*latency_blocks(report), *machine_blocks(report.machine)]
    for text in (to_text(blocks), to_markdown("", blocks)):
        assert "NOISY: p90 of 20 equal runs of plain convolutions is 25 % above the median" in text
        assert "other programs took 40 % of the CPU" in text


def test_energy_is_given_a_frame_and_in_watts(tiny_onnx):
    config = quick(tiny_onnx, frames=4, warmup=0)
    report = replace(measure_latency(config), energy=Energy({"package-0": 2.0}), wall_s=0.1)
    assert "energy: package-0 500.0 mJ a frame, 20.0 W" in to_text(latency_blocks(report))


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 0},
        {"warmup": -1},
        {"frame_size_hw": (0, 480)},
        {"cold_starts": -1},
        {"duration_s": -1.0},
        {"duration_s": float("nan")},
    ],
)
def test_refuses_numbers_that_measure_nothing(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"{name}: expected a number of at least [01]"):
        LatencyConfig(**wrong)
