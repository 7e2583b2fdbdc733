from __future__ import annotations

from types import ModuleType

import pytest

from benchmarks.timing import tune as tune_module
from benchmarks.timing.tune import Setting, Trial, TuneConfig, best_of, settings_for
from runtime.errors import ConfigError


def trial(width: int, threads: int, p90: float, processor_ms: float) -> Trial:
    ms = {"p50": p90, "p90": p90, "p99": p90, "max": p90}
    return Trial(Setting((32, width), threads, spin=False), ms, processor_ms)


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


def test_sweeps_threads_and_spinning_at_the_files_own_size(
    tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_module, "default_threads", lambda: 2)
    assert settings_for(tiny.tiny_contract(), TuneConfig()) == [
        Setting((32, 48), 1, spin=False),
        Setting((32, 48), 2, spin=False),
        Setting((32, 48), 2, spin=True),
    ]


def test_sweeps_resolutions_of_a_file_that_takes_any(tiny: ModuleType) -> None:
    contract = tiny.tiny_contract((64, 96)).with_input(is_dynamic=True, size_multiple=16)
    swept = settings_for(contract, TuneConfig(threads=(1,)))
    assert [setting.size_hw for setting in swept] == [(64, 96), (48, 64), (32, 48)]


def test_a_size_that_the_file_does_not_take(tiny: ModuleType) -> None:
    with pytest.raises(ConfigError, match="got 33x48; choose such, or export the model with --dynamic"):
        settings_for(tiny.tiny_contract(), TuneConfig(sizes_hw=((33, 48),)))


@pytest.mark.parametrize("wrong", [{"frames": 1}, {"target_ms": 0.0}])
def test_config_that_measures_nothing(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected a number"):
        TuneConfig(**wrong)  # type: ignore[arg-type]
