import hashlib
import json
from dataclasses import replace

import pytest

from benchmarks import latency
from benchmarks.latency import STAGES, LatencyConfig, main, measure_latency
from runtime import ConfigError, Segmenter

QUICK = ["--size", "90", "120", "--frames", "3", "--warmup", "1", "--threads", "1"]


def test_json_is_all_of_stdout_and_has_every_stage(tiny_onnx, capsys):
    assert main(["--model", str(tiny_onnx), *QUICK, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["latency_ms"]) == list(STAGES)
    for row in report["latency_ms"].values():
        assert 0 <= row["p50"] <= row["p90"] <= row["p99"] <= row["max"]
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
    assert lines[0].split() == ["ms", "p50", "p90", "p99", "max"]
    assert [line.split()[0] for line in lines[1:6]] == list(STAGES)
    assert lines[-1] == f"next: python -m benchmarks.accuracy --model {tiny_onnx} --data synthetic"


def test_markdown_holds_the_table_and_the_machine(tiny_onnx, tmp_path, capsys):
    target = tmp_path / "reports" / "latency.md"
    assert main(["--model", str(tiny_onnx), *QUICK, "--json", "--markdown", str(target)]) == 0
    text = target.read_text()
    machine = json.loads(capsys.readouterr().out)["machine"]
    assert "| ms | p50 | p90 | p99 | max |" in text
    assert "| network |" in text
    assert machine["cpu"] in text


def test_markdown_that_cannot_be_written_is_a_known_error(tiny_onnx, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--model", str(tiny_onnx), *QUICK, "--markdown", str(tmp_path / "file" / "a.md")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "network" in captured.out  # the measurement is not lost with it


def test_the_warm_up_is_left_out_and_no_outlier_is_clipped(tiny_onnx, monkeypatch):
    network_ms = iter([999.0, 999.0, 5.0, 7.0, 500.0])

    class Timed(Segmenter):
        def __call__(self, frame):
            result = super().__call__(frame)
            return replace(result, latency_ms={**result.latency_ms, "network": next(network_ms)})

    monkeypatch.setattr(latency, "Segmenter", Timed)
    report = measure_latency(tiny_onnx, LatencyConfig((90, 120), frames=3, warmup=2, threads=1))
    assert report.latency_ms["network"] == {"p50": 7.0, "p90": 500.0, "p99": 500.0, "max": 500.0}
    assert report.network_time_gmac == pytest.approx(report.conv_gmac_per_s * 0.007)


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"warmup": -1}, {"frame_size_hw": (0, 480)}])
def test_refuses_numbers_that_measure_nothing(wrong):
    with pytest.raises(ConfigError, match="expected a positive size"):
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
