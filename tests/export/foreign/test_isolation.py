"""A stranger's file is opened in a process that must keep to limits."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from export.adapt import main as adapt_main
from export.foreign.isolation import Limits, within
from export.inspect import main as inspect_main
from runtime.errors import ConfigError, ModelLoadError
from tests.export.foreign import isolated
from tests.export.foreign.networks import node, write

FILE = Path("net.onnx")


def test_results_and_errors_come_back() -> None:
    assert within(Limits(), FILE, isolated.double, 21) == 42
    with pytest.raises(ConfigError, match="no"):
        within(Limits(), FILE, isolated.refuse)
    with pytest.raises(RuntimeError, match="a defect"):
        within(Limits(), FILE, isolated.defect)


def test_limits_are_kept() -> None:
    with pytest.raises(ModelLoadError, match=r"died \(exit code 11\)"):
        within(Limits(), FILE, isolated.die)
    with pytest.raises(ModelLoadError, match=r"stopped after 0\.5 s"):
        within(Limits(time_s=0.5), FILE, time.sleep, 60)
    with pytest.raises(ModelLoadError, match=r"needs more than 1\.0 GB"):
        within(Limits(memory_gb=1), FILE, isolated.keep)


def growing(folder: Path) -> Path:
    """A file of 1 KB whose transposed convolution makes tens of GB, which no look at its sizes tells."""
    spread = {"spread": np.eye(5, dtype=np.float32)[:, :, None, None]}
    after = [node("ConvTranspose", "logits spread", "y", strides=[2000, 2000])]
    return write(
        folder / "net.onnx",
        [node("Identity", "x", "planes")],
        after,
        input_shape=(1, 3, 64, 96),
        constants=spread,
    )


def test_commands_refuse_a_file_that_fills_the_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = growing(tmp_path)
    (tmp_path / "classes.json").write_text('["a", "b", "c", "d", "e"]')
    assert inspect_main([str(path), "--isolated", "--memory-gb", "1"]) == 1
    said = capsys.readouterr().err
    assert "needs more than 1.0 GB" in said
    assert len(said) <= 500 + len("error: \n")
    assert adapt_main([str(path), "--memory-gb", "1.5"]) == 1
    assert "GB" in capsys.readouterr().err


def test_a_trial_says_what_came_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path / "net.onnx",
        [node("Identity", "x", "planes")],
        [node("Identity", "logits", "y")],
        input_shape=(1, 3, 64, 96),
    )
    assert inspect_main([str(path), "--isolated"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert any(line.startswith("trial      opened in") for line in printed)
    assert any(line.startswith("gave       y float32 [1, 5, 16, 24]") for line in printed)
    assert "export.adapt" in printed[-1]
