"""The command that holds networks against the machine."""

import json

import pytest

from benchmarks.layers.limits import LimitsConfig
from benchmarks.limits import main
from benchmarks.machine import yardstick
from runtime import ConfigError

QUICK = ["--threads", "1", "--runs", "2"]


@pytest.fixture(autouse=True)
def small_copies(monkeypatch):
    monkeypatch.setattr(yardstick, "MEMORY_BYTES", 1 << 20)


def test_json_is_all_of_stdout_and_holds_every_sample(tiny_onnx, capsys):
    assert main(["--model", str(tiny_onnx), *QUICK, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["limits"]["threads"] == 1
    assert report["limits"]["conv_gmac_s"] > 0
    (model,) = report["models"]
    assert len(model["samples_ms"]) == 2
    assert len(model["ratio_samples"]) == 1
    assert model["gmacs"]["conv"] == 3 * 3 * 4 * 6 / 1e9  # 3 to 3 channels, 1x1, on 32x48 at stride 8
    assert model["ratio"] > 0
    assert model["layers_ms"] == pytest.approx(sum(each["median_ms"] for each in model["ops"]))
    assert {each["operator"] for each in model["ops"]} >= {"Conv"}
    assert report["machine"]["versions"]["onnxruntime"]


def test_text_tells_limits_networks_layers_and_the_next_command(tiny_onnx, capsys):
    assert main(["--model", str(tiny_onnx), str(tiny_onnx), *QUICK, "--layers", "2"]) == 0
    printed = capsys.readouterr().out
    assert "3x3 convolutions" in printed
    assert printed.count("the 2 of") == 2
    assert printed.splitlines()[-1] == f"next: python -m benchmarks.latency --model {tiny_onnx}"


def test_wrong_files_and_numbers_are_known_errors(tiny_onnx, tmp_path, capsys):
    (tmp_path / "noise.onnx").write_bytes(b"no network")
    assert main(["--model", str(tmp_path / "noise.onnx"), *QUICK]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(ConfigError, match="runs: expected a number of at least 1"):
        LimitsConfig(runs=0)
