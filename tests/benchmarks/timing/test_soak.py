from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.machine.usage import Footprint
from benchmarks.timing import soak as soak_module
from benchmarks.timing.soak import Row, SoakConfig, SoakError, judge, soak
from runtime.errors import ConfigError
from runtime.network.options import ModelOptions
from runtime.outputs.options import OutputOptions
from runtime.serve.address import Address
from runtime.sources import FakeSource


def short(model: Path, **settings: float) -> SoakConfig:
    return replace(
        SoakConfig(ModelOptions(model, threads=1), "fake", duration_s=0.4, every_s=0.1, warmup_s=0.1),
        **settings,
    )


def endless() -> FakeSource:
    return FakeSource(itertools.repeat(np.zeros((48, 64, 3), np.uint8)))


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


def test_a_loop_that_stays_as_it_was(tiny_onnx: Path, grown: dict[str, float]) -> None:
    report = soak(short(tiny_onnx), source=endless())
    assert len(report.rows) >= 2
    assert report.problems == ()
    assert all(row.frames > 0 and row.total_ms["max"] > 0 for row in report.rows)


def test_a_robots_whole_loop(
    tiny_onnx: Path, grown: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak_module, "_LOOK_EVERY_S", 0.05)
    outputs = OutputOptions(
        headless=True,
        save=tmp_path / "out.avi",
        jsonl=tmp_path / "out.jsonl",
        serve=Address("127.0.0.1", 0),
    )
    report = soak(replace(short(tiny_onnx), outputs=outputs), source=endless())
    assert report.problems == ()
    assert report.looks > 0
    assert all(path.stat().st_size > 0 for path in tmp_path.iterdir())
    assert {path.suffix for path in tmp_path.iterdir()} == {".avi", ".jsonl", ".onnx"}


@pytest.mark.parametrize(("later_ms", "ratio"), [(10.0, 1.0), (14.0, 1.4), (16.0, 1.6)])
def test_a_p99_that_grows_is_found(later_ms: float, ratio: float) -> None:
    rows = [
        Row(60.0 * n, 100, 10.0, 0, {"p99": 10.0 if n < 6 else later_ms}, Footprint(100, 5, 9))
        for n in range(12)
    ]
    report = judge(rows, (), "clip.mp4", SoakConfig(warmup_s=60), looks=0)
    assert report.p99_ratio == pytest.approx(ratio, abs=0.01)
    assert bool(report.problems) == (ratio > 1.5)


@pytest.mark.parametrize(
    ("held_mb", "grown_mb"),
    [
        ([200 + 0.2 * n for n in range(30)], 6.0),  # a leak, as much as all of it has
        ([200 + 6 * (n >= 15) for n in range(30)], 12.0),
        ([200 + 9 * (n >= 3) for n in range(30)], 0.0),  # a heap that once had to be larger
        ([200 + 9 * (n % 7 == 3) for n in range(30)], 0.0),
        ([209 - 0.3 * n for n in range(30)], -9.0),
        ([200 + 0.9 * n for n in range(8)], 5.4),  # too few for halves
    ],
)
def test_a_leak_is_told_from_a_step(held_mb: list[float], grown_mb: float) -> None:
    rows = [
        Row(60.0 * n, 100, 10.0, 0, {"p99": 10.0}, Footprint(held, 5, 9)) for n, held in enumerate(held_mb)
    ]
    report = judge(rows, (), "clip.mp4", SoakConfig(warmup_s=0.1), looks=0)
    assert report.growth_mb == pytest.approx(grown_mb, abs=0.7)
    assert bool(report.problems) == (grown_mb > 5)


@pytest.mark.parametrize(
    ("what", "by", "problem"),
    [
        ("memory_mb", 6, "memory grew by"),
        ("threads", 1, "more threads than"),
        ("files", 1, "more open files than"),
    ],
)
def test_what_grows_is_found(
    tiny_onnx: Path, grown: dict[str, float], what: str, by: float, problem: str
) -> None:
    grown[what] = by
    (found,) = soak(short(tiny_onnx), source=endless()).problems
    assert problem in found


def test_memory_that_comes_and_goes_is_no_growth(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = itertools.cycle([140.0, 100.0])  # as frames wait for a disk
    monkeypatch.setattr(soak_module, "footprint", lambda: Footprint(next(held), 5, 9))
    report = soak(short(tiny_onnx, duration_s=1.2, every_s=0.4, warmup_s=0.4), source=endless())
    assert report.problems == ()
    assert {row.footprint.memory_mb for row in report.rows} == {100.0}


def test_thread_that_outlives_the_loop_is_found(tiny_onnx: Path, grown: dict[str, float]) -> None:
    done = threading.Event()

    class Leaking(FakeSource):
        def close(self) -> None:
            super().close()
            threading.Thread(target=done.wait, name="left over", daemon=True).start()

    leaking = Leaking(itertools.repeat(np.zeros((48, 64, 3), np.uint8)))
    report = soak(short(tiny_onnx), source=leaking)
    done.set()
    assert report.left_threads == ("left over",)


def test_system_without_psutil_is_a_known_error(tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak_module, "footprint", lambda: None)
    with pytest.raises(SoakError, match=r"expected psutil .*pip install"):
        soak(short(tiny_onnx), source=endless())


def test_source_that_ends_too_soon(tiny_onnx: Path) -> None:
    with pytest.raises(SoakError, match="fake: expected frames for"):
        soak(short(tiny_onnx), source=FakeSource([np.zeros((48, 64, 3), np.uint8)]))


@pytest.mark.parametrize("wrong", [{"duration_s": 0.15}, {"every_s": 0}, {"warmup_s": 0}])
def test_config_that_cannot_work(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="soak: expected a duration of at least"):
        short(Path("model.onnx"), **wrong)


@pytest.mark.parametrize("wrong", [{"growth_mb": -1}, {"duration_s": float("inf")}])
def test_numbers_out_of_range(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"{name}: expected a number"):
        short(Path("model.onnx"), **wrong)
