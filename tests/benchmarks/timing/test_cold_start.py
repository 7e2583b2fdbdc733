import sys

import numpy as np
import pytest

from benchmarks.timing.cold_start import STAGES, ColdStartError, measure_cold_start
from runtime.base.codec import from_plain, to_plain

FRAME_BGR = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def started(tmp_path_factory, write_tiny_onnx):
    path = write_tiny_onnx(tmp_path_factory.mktemp("cold") / "tiny.onnx")
    return measure_cold_start(path, FRAME_BGR, runs=2, threads=1)


def test_fresh_processes_really_import_open_and_segment(started):
    assert started.runs == 2
    assert tuple(started.samples_ms) == STAGES
    assert all(value > 0 for values in started.samples_ms.values() for value in values)


def test_stages_add_up_to_the_total(started):
    *stages, total = (started.samples_ms[stage] for stage in STAGES)
    assert [sum(values) for values in zip(*stages, strict=True)] == pytest.approx(list(total))
    assert started.p50_ms("total") <= started.max_ms("total")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_memory_is_that_of_the_fresh_process(started):
    assert 10 < started.memory_mb <= started.peak_mb


def test_comes_back_from_json(started):
    assert from_plain(type(started), to_plain(started)) == started


def test_a_process_that_fails_is_a_known_error_with_its_last_words(tmp_path):
    with pytest.raises(ColdStartError, match=r"exited with 1 \(.*ModelLoadError.*gone\.onnx"):
        measure_cold_start(tmp_path / "gone.onnx", FRAME_BGR, runs=1)


def test_a_process_that_hangs_is_a_known_error(tiny_onnx, monkeypatch):
    monkeypatch.setattr("benchmarks.timing.cold_start._TIMEOUT_S", 0.01)
    with pytest.raises(ColdStartError, match="expected a mask within"):
        measure_cold_start(tiny_onnx, FRAME_BGR, runs=1)
