from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import benchmarks.demo
from benchmarks.demo import main
from benchmarks.subjects.demo import DemoResult


def test_command_ends_with_the_commands_to_paste(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export: Any = SimpleNamespace(path=tmp_path / "best.onnx", size_bytes=1_000_000)
    result = DemoResult(export, 0.5, 0.5, {"p50": 1.0, "p90": 2.0, "p99": 3.0, "max": 4.0}, 500.0)
    monkeypatch.setattr(benchmarks.demo, "run_demo", lambda folder: result)
    assert main(["--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "p50 1.00 ms   p90 2.00 ms" in printed
    assert f"next: python -m runtime.camera --model {tmp_path / 'best.onnx'} --source 0" in printed


def test_folder_that_cannot_be_written_is_one_line_and_exit_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file" / "demo")]) == 1
    assert capfd.readouterr().err.count("\n") == 1
