from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.throughput import main
from benchmarks.timing.throughput import ThroughputConfig
from runtime.network.options import ModelOptions


def quick(model: Path) -> ThroughputConfig:
    return ThroughputConfig(ModelOptions(model, threads=1), "fake", frames=4, rounds=3)


def test_command_prints_json_or_a_table(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--model", str(tiny_onnx), "--frames", "3", "--rounds", "2", "--threads", "1"]
    assert main([*quick, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rounds"]) == 2
    assert main(quick) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("loop / network alone: ") for line in lines)
    assert lines[-1] == f"next: python -m benchmarks.tune --model {tiny_onnx}"
