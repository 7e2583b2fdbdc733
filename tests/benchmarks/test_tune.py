from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.tune import main

QUICK = ["--size", "90", "120", "--frames", "2"]


def test_command_names_the_flags_of_the_best(
    tmp_path: Path, tiny: ModuleType, write_tiny_onnx: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    contract = tiny.tiny_contract((64, 96)).with_input(is_dynamic=True, size_multiple=16)
    model = write_tiny_onnx(
        tmp_path / "any.onnx", contract=contract, input_hw=("height", "width"), batch="batch"
    )
    given = ["--model", str(model), *QUICK, "--threads", "1", "--imgsz", "32", "48", "--imgsz", "64", "96"]
    assert main([*given, "--target-ms", "60000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith("  best") for line in lines) == 1
    ladder = f"--target-ms 60000 --steps {model}:64x96 {model}:32x48"
    assert lines[-3] == f"to step down under load: python -m runtime.camera {ladder}"
    assert lines[-1] == f"next: python -m runtime.camera --model {model} --threads 1 --imgsz 64 96"


def test_a_target_that_nothing_holds_is_an_error_after_the_table(
    tiny_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", str(tiny_onnx), *QUICK, "--threads", "1", "--target-ms", "1e-9", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["best"] is None
    assert "expected a p90 of at most 1e-09 ms" in err
