from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.accuracy import main as measure
from benchmarks.tune import main
from runtime.contract import CAMVID_CLASSES

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


def test_with_a_data_set_the_file_of_the_highest_miou_comes_first_wherever_it_was_named(
    tmp_path: Path,
    tiny: ModuleType,
    write_tiny_onnx: Callable[..., Path],
    camvid_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    contract = tiny.tiny_contract((32, 64), classes=CAMVID_CLASSES)
    files = [
        write_tiny_onnx(tmp_path / f"{name}.onnx", contract=contract, scale=scale)
        for name, scale in (("one", 1 / 255), ("other", -1 / 255))
    ]
    data = ["--data", "camvid", "--root", str(camvid_root)]
    mious = {}
    for file in files:
        assert measure([*data, "--model", str(file), "--json"]) == 0
        mious[file] = json.loads(capsys.readouterr().out)["miou"]
    best, worse = sorted(files, key=lambda file: -mious[file])
    assert mious[best] > mious[worse]
    given = ["--steps", str(worse), str(best), *QUICK, "--threads", "1", "--target-ms", "60000"]
    assert main([*given, *data, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {Path(trial["setting"]["model"]): trial["miou"] for trial in report["trials"]} == mious
    assert report["best"]["setting"]["model"] == str(best)
    assert main([*given, *data]) == 0
    out = capsys.readouterr().out
    assert f"--steps {best}:32x64 {worse}:32x64\n" in out
    assert all(f"{miou:.4f}" in out for miou in mious.values())
    assert main([*given, "--json"]) == 0  # without a data set the order given counts
    assert json.loads(capsys.readouterr().out)["best"]["setting"]["model"] == str(worse)
