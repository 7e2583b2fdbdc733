from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmarks.timing.throughput import ThroughputConfig, measure_throughput
from runtime.errors import ConfigError, SourceError
from runtime.network.options import ModelOptions
from runtime.sources import FakeSource

PICTURE = np.zeros((48, 64, 3), np.uint8)


def quick(model: Path) -> ThroughputConfig:
    return ThroughputConfig(ModelOptions(model, threads=1), "fake", frames=4, rounds=3)


def test_the_ratio_is_the_median_of_the_rounds(tiny_onnx: Path) -> None:
    opened: list[FakeSource] = []

    def open_loops_source() -> FakeSource:
        opened.append(FakeSource(itertools.repeat(PICTURE), live=False))
        return opened[-1]

    report = measure_throughput(quick(tiny_onnx), open_loops_source)
    assert len(opened) == 1 + 2 * 3  # one to see its size, then two loops a round
    assert all(source.is_closed for source in opened)
    assert len(report.rounds) == 3
    ratios = sorted(each.loop_fps / each.network_fps for each in report.rounds)
    assert report.loop_ratio == ratios[1] > 0
    assert report.serial_ratio > 0
    assert (report.frame_size_hw, report.threads) == ((48, 64), 1)


def test_a_source_that_ends_is_told(tiny_onnx: Path) -> None:
    with pytest.raises(SourceError, match="fake: expected 4 frames a round"):
        measure_throughput(quick(tiny_onnx), lambda: FakeSource([PICTURE] * 13, live=False))


@pytest.mark.parametrize("wrong", [{"frames": 1}, {"rounds": 0}])
def test_config_that_measures_nothing(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected a number of at least"):
        ThroughputConfig(**wrong)
