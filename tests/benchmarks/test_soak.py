from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.machine.usage import Footprint
from benchmarks.soak import main
from benchmarks.timing import soak as soak_module
from benchmarks.timing.soak import SoakConfig
from runtime.network.options import ModelOptions


def short(model: Path, **settings: float) -> SoakConfig:
    return replace(
        SoakConfig(ModelOptions(model, threads=1), "fake", duration_s=0.4, every_s=0.1, warmup_s=0.1),
        **settings,
    )


@pytest.fixture
def grown(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """What each look adds to the footprint."""
    by: dict[str, float] = {"memory_mb": 0, "threads": 0, "files": 0}
    looks = itertools.count()

    def look() -> Footprint:
        n = next(looks)
        return Footprint(100 + n * by["memory_mb"], int(5 + n * by["threads"]), int(9 + n * by["files"]))

    monkeypatch.setattr(soak_module, "footprint", look)
    return by


def test_command_exits_1_with_the_problem(
    tiny_onnx: Path, grown: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    grown["memory_mb"] = 50
    short = ["--duration", "2s", "--every", "0.5s", "--warmup", "0.5s"]
    assert main(["--model", str(tiny_onnx), *short, "--json"]) == 1
    out, err = capsys.readouterr()
    assert "memory grew by" in json.loads(out)["problems"][0]
    assert "error: synthetic: memory grew by" in err


def test_command_prints_a_table_and_the_next_command(
    tiny_onnx: Path, grown: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--duration", "2s", "--every", "0.5s", "--warmup", "0.5s"]
    assert main(["--model", str(tiny_onnx), *short]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["s", "frames", "fps"]
    assert len(lines) >= 6
    assert lines[-1] == f"next: python -m benchmarks.latency --model {tiny_onnx}"
