import hashlib
import json
from dataclasses import replace

import pytest

from benchmarks.latency import main
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

QUICK = ["--size", "90", "120", "--frames", "3", "--warmup", "1", "--threads", "1", "--cold-starts", "0"]


@pytest.fixture(autouse=True)
def short_noise(monkeypatch):
    """No test needs two seconds of it; `test_noise` tries the real one."""
    noisy = replace(this_machine(), noise=Noise(20, 5.0, 25.0, 90.0, 0.0, 40.0))
    monkeypatch.setattr(latency, "machine_with_noise", lambda threads: noisy)


def test_json_is_all_of_stdout_and_has_every_stage(tiny_onnx, capsys):
    assert main(["--model", str(tiny_onnx), *QUICK, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["latency_ms"]) == list(STAGES)
    for row in report["latency_ms"].values():
        assert list(row) == ["p50", "p90", "p99", "p99.9", "max"]
        assert 0 <= row["p50"] <= row["p90"] <= row["p99"] <= row["p99.9"] <= row["max"]
    assert report["fps"] > 0
    assert report["network_time_gmac"] > 0
    assert (report["frames"], report["warmup"], report["threads"], report["provider"]) == (3, 1, 1, "cpu")
    assert report["frame_size_hw"] == [90, 120]
    assert report["machine"]["versions"]["onnxruntime"]
    assert report["model"]["sha256"] == hashlib.sha256(tiny_onnx.read_bytes()).hexdigest()
    assert report["model"]["bytes"] == tiny_onnx.stat().st_size


def test_text_shows_the_stages_and_ends_with_the_next_command(tiny_onnx, capsys):
    assert main(["--model", str(tiny_onnx), *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Latency of tiny"
    assert lines[1].split() == ["ms", "p50", "p90", "p99", "p99.9", "max"]
    assert [line.split()[0] for line in lines[2:8]] == [*STAGES, "jitter"]
    assert lines[-1] == f"next: python -m benchmarks.stream --model {tiny_onnx}"


def test_markdown_holds_the_table_and_the_machine(tiny_onnx, tmp_path, capsys):
    target = tmp_path / "reports" / "latency.md"
    assert main(["--model", str(tiny_onnx), *QUICK, "--json", "--markdown", str(target)]) == 0
    text = target.read_text()
    machine = json.loads(capsys.readouterr().out)["machine"]
    assert (
        "| ms | p50 | p90 | p99 | p99.9 | max |\n| --- | ---: | ---: | ---: | ---: | ---: |\n| resize |"
        in text
    )
    assert "| network |" in text
    assert machine["cpu"] in text


def test_markdown_that_cannot_be_written_is_a_known_error(tiny_onnx, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--model", str(tiny_onnx), *QUICK, "--markdown", str(tmp_path / "file" / "a.md")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "network" in captured.out  # the measurement is not lost with it


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


def test_all_parts_are_in_json_text_and_markdown(tiny_onnx, capsys, tmp_path):
    target = tmp_path / "latency.md"
    flags = ["--cold-starts", "1", "--duration", "0.05s", "--scaling", "--json", "--markdown", str(target)]
    assert main(["--model", str(tiny_onnx), *QUICK, *flags]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert list(report["cold_start"]["samples_ms"]) == ["start", "import", "open", "first mask", "total"]
    assert report["sustained"][-1]["frames"] > 0
    assert report["scaling"]["threads"][0]["threads"] == 1
    assert report["scaling"]["why_no_batches"]
    assert report["cpu"]["percent"] > 0
    assert report["energy"]["joules"] or report["energy"]["why_not"]
    assert captured.err.split()[:3] == ["until", "s", "frames"]
    text = target.read_text()
    for title in ("## Cold start: 1 fresh", "## Sustained for", "## Threads", "## The machine"):
        assert title in text
    assert "batches: not measured, this file takes one image a run; export it with --dynamic" in text


def test_a_noisy_machine_is_called_noisy(tiny_onnx):
    config = quick(tiny_onnx, frames=1, warmup=0)
    report = measure_latency(config)
    blocks = [*latency_blocks(report), *machine_blocks(report.machine)]
    for text in (to_text(blocks), to_markdown("", blocks)):
        assert "NOISY: a tenth of 20 equal runs of plain convolutions took 25 % longer" in text
        assert "other programs took 40 % of the processor" in text


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
    with pytest.raises(ConfigError, match=f"{name}: expected a number at least [01]"):
        LatencyConfig(**wrong)


def test_a_missing_model_gives_1_and_one_line(tmp_path, capsys):
    assert main(["--model", str(tmp_path / "gone.onnx"), *QUICK, "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "gone.onnx" in captured.err


def test_an_unknown_provider_is_wrong_usage(tiny_onnx):
    with pytest.raises(SystemExit) as stopped:
        main(["--model", str(tiny_onnx), "--provider", "gpu"])
    assert stopped.value.code == 2
