from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.timing import tune as tune_module
from benchmarks.timing.tune import Trial, TuneConfig, best_of, settings_for
from runtime.deadline import Choice, Setting
from runtime.errors import ConfigError
from runtime.network.options import ModelOptions

FILE = Path("m.onnx")


def trial(width: int, threads: int, p90: float, processor_ms: float, miou: float | None = None) -> Trial:
    ms = {"p50": p90, "p90": p90, "p99": p90, "max": p90}
    return Trial(Setting(FILE, (32, width), threads, spin=False), ms, processor_ms, miou)


@pytest.mark.parametrize(
    ("target_ms", "best"),
    [
        (None, 1),  # the fastest of the largest
        (30.0, 0),  # both hold it, this takes less of the processor
        (10.0, 1),
        (6.0, 2),  # only the smaller resolution holds it
        (1.0, None),
    ],
)
def test_the_best_is_the_largest_that_holds_the_target_at_the_least_cost(
    target_ms: float | None, best: int | None
) -> None:
    trials = [trial(64, 1, 12.0, 12.0), trial(64, 2, 8.0, 15.0), trial(32, 1, 5.0, 5.0)]
    assert best_of(trials, target_ms) is (None if best is None else trials[best])


def test_a_measured_accuracy_goes_before_the_size() -> None:
    trials = [trial(64, 1, 9.0, 9.0, miou=0.5), trial(32, 1, 5.0, 5.0, miou=0.6)]
    assert best_of(trials, 10.0) is trials[1]


def test_sweeps_threads_and_spinning_at_the_files_own_size(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_module, "thread_counts", lambda: (1, 2))
    assert settings_for(TuneConfig(ModelOptions(tiny_onnx))) == [
        Setting(tiny_onnx, (32, 48), 1, spin=False),
        Setting(tiny_onnx, (32, 48), 2, spin=False),
        Setting(tiny_onnx, (32, 48), 2, spin=True),
    ]


def test_sweeps_resolutions_of_a_file_that_takes_any(
    tmp_path: Path, tiny: ModuleType, write_tiny_onnx: Callable[..., Path]
) -> None:
    contract = tiny.tiny_contract((64, 96)).with_input(is_dynamic=True, size_multiple=16)
    path = write_tiny_onnx(
        tmp_path / "any.onnx", contract=contract, input_hw=("height", "width"), batch="batch"
    )
    swept = settings_for(TuneConfig(ModelOptions(path), threads=(1,)))
    assert [setting.size_hw for setting in swept] == [(64, 96), (48, 64), (32, 48)]
    steps = (Choice(path, (32, 48)), Choice(path))
    swept = settings_for(TuneConfig(steps=steps, threads=(1,)))
    assert [setting.size_hw for setting in swept] == [(32, 48), (64, 96)]


def test_a_size_that_the_file_does_not_take(tiny_onnx: Path) -> None:
    with pytest.raises(ConfigError, match="got 33x48; choose such, or export the model with --dynamic"):
        settings_for(TuneConfig(ModelOptions(tiny_onnx), sizes_hw=((33, 48),)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 1}, "expected a number"),
        ({"target_ms": 0.0}, "expected a number"),
        ({"steps": (Choice(FILE),), "sizes_hw": ((32, 48),)}, "steps: expected neither --model nor --imgsz"),
    ],
)
def test_config_that_measures_nothing(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TuneConfig(**wrong)  # type: ignore[arg-type]
