from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from runtime.contract import ClassMap
from runtime.deadline import (
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    WINDOW,
    Choice,
    DeadlineSegmenter,
    Pace,
    Setting,
    Timed,
    default_choices,
    ladder_of,
    read_contract,
)
from runtime.errors import ConfigError, EdgesegError
from runtime.frame import Image
from runtime.loop import run
from runtime.segmenter import Segmenter
from runtime.sources import FakeSource

FRAME_BGR = np.full((48, 64, 3), 90, np.uint8)


@pytest.mark.parametrize(
    ("costs_ms", "kept"),
    [
        ([10.0], [0]),
        ([20.0, 12.0, 6.0], [0, 1, 2]),
        ([20.0, 19.0, 12.0], [0, 2]),  # a step that gains less than a tenth is none
        ([10.0, 20.0, 9.0], [0, 2]),  # nor is a slower one
        ([5.0, 20.0, 9.0], [0]),
    ],
)
def test_a_ladder_holds_what_is_faster_than_all_above(costs_ms: list[float], kept: list[int]) -> None:
    timed = [Timed(Setting(Path("m"), (32, 48), 1 + n), ms) for n, ms in enumerate(costs_ms)]
    assert ladder_of(timed) == [timed[index] for index in kept]


@pytest.mark.parametrize(
    ("costs_ms", "first"),
    [([30.0, 15.0, 5.0], 1), ([10.0, 5.0], 0), ([20.0, 5.0], 0), ([90.0, 50.0, 30.0], 2)],
)
def test_starts_on_the_first_step_that_holds_the_target(costs_ms: list[float], first: int) -> None:
    assert Pace(20.0, costs_ms, 0.0).step == first


def drive(
    pace: Pace,
    costs_ms: list[float],
    slower: Callable[[float, int], float],
    until_s: float,
    frame_s: float = 1 / 30,
) -> list[tuple[float, int]]:
    """Return the seconds of each change and its step; a frame takes its cost times `slower(s, step)`."""
    changes = []
    for frame in itertools.count():
        now_s = frame * frame_s
        if now_s >= until_s:
            return changes
        if pace.add(pace.step, costs_ms[pace.step] * slower(now_s, pace.step), now_s):
            changes.append((now_s, pace.step))
    raise AssertionError


THREE = [18.0, 9.0, 4.0]


@pytest.mark.parametrize(
    ("slower", "steps"),
    [
        pytest.param(lambda s, step: 1.0, [], id="nothing changes"),
        pytest.param(lambda s, step: 1.09, [], id="a little slower, still within 20 ms"),
        pytest.param(lambda s, step: 1.0 if round(30 * s) % 12 else 10.0, [], id="single late frames"),
        pytest.param(lambda s, step: 1.5, [1], id="throttled for good"),
        pytest.param(lambda s, step: 4.0, [1, 2], id="throttled more"),
        pytest.param(lambda s, step: 40.0, [1, 2], id="nothing holds it: the fastest, and no further"),
        # 18 ms are more than 85 % of the target: where a robot is busy after the start, it stays below.
        pytest.param(lambda s, step: 1.5 if s < 20 else 1.0, [1], id="cooler, but with nothing to spare"),
        pytest.param(lambda s, step: 1.5 if s < 20 else 0.9, [1, 0], id="cooler than in the beginning"),
    ],
)
def test_steps_down_when_late_and_up_when_there_is_time(
    slower: Callable[[float, int], float], steps: list[int]
) -> None:
    changes = drive(Pace(20.0, THREE, 0.0), THREE, slower, until_s=120.0)
    assert [step for _, step in changes] == steps


@pytest.mark.parametrize(("frame_s", "frames"), [(0.01, 20), (1 / 30, 20), (0.15, 15), (0.5, 10), (3.0, 10)])
def test_a_slow_camera_waits_for_fewer_frames(frame_s: float, frames: int) -> None:
    changes = drive(Pace(20.0, THREE, 0.0), THREE, lambda s, step: 2.0, 60.0, frame_s)
    assert changes == [(pytest.approx((frames - 1) * frame_s), 1)]


def test_a_step_up_that_does_not_hold_is_tried_ever_less_often() -> None:
    costs_ms = [10.0, 8.0]
    pace = Pace(20.0, costs_ms, 0.0)
    changes = drive(pace, costs_ms, lambda s, step: 3.0 if step == 0 else 1.0, until_s=1000.0)
    ups_s = [now_s for now_s, step in changes if step == 0]
    waits_s = np.diff(ups_s)
    assert ups_s[0] == pytest.approx(FIRST_WAIT_S, abs=2.0)
    assert (waits_s[1:] >= 1.5 * waits_s[:-1]).all()
    assert len(ups_s) < 10
    assert pace.wait_s <= LONGEST_WAIT_S


def test_a_step_up_that_held_makes_the_wait_short_again() -> None:
    costs_ms = [10.0, 8.0]
    pace = Pace(20.0, costs_ms, 0.0)
    hot = lambda s, step: 3.0 if step == 0 and s < 100.0 else 1.0  # noqa: E731
    assert drive(pace, costs_ms, hot, until_s=1000.0)[-1][1] == 0
    assert pace.wait_s == FIRST_WAIT_S


def test_frames_that_an_earlier_step_began_do_not_count() -> None:
    pace = Pace(20.0, THREE, 0.0)
    for _ in range(WINDOW):
        pace.add(0, 30.0, 0.0)
    assert pace.step == 1
    assert not any(pace.add(0, 90.0, 1.0) for _ in range(2 * WINDOW))
    assert pace.step == 1


@pytest.fixture(scope="module")
def two_files(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("files")
    return tuple(tiny.write_tiny_onnx(folder / name) for name in ("large.onnx", "small.onnx"))  # type: ignore[return-value]


def costing(large_ms: float, small_ms: float) -> Callable[[Segmenter, Image], list[float]]:
    costs = itertools.chain([large_ms, small_ms, small_ms, large_ms])
    return lambda segment, image_bgr: [next(costs)]


@pytest.mark.parametrize(
    ("target_ms", "large_ms", "small_ms", "files"),
    [
        (1e6, 1e3, 1e2, ["large"]),  # no frame is late
        (1e-9, 1e-10, 1e-11, ["large", "small"]),  # every frame is
        (1.5e6, 2e6, 1e6, ["small", "large"]),  # there is time to spare
        (1e-9, 1.0, 0.5, ["small"]),  # late, and nothing below
    ],
)
def test_every_mask_says_which_file_made_it_and_every_step_is_told(
    two_files: tuple[Path, Path], target_ms: float, large_ms: float, small_ms: float, files: list[str]
) -> None:
    told: list[str] = []
    clock: Iterator[int] = itertools.count(0, 10)
    choices = [Choice(path) for path in two_files]
    with DeadlineSegmenter(
        target_ms,
        choices,
        threads=1,
        on_step=told.append,
        timer=costing(large_ms, small_ms),
        clock_s=lambda: float(next(clock)),
    ) as segment:
        made = [step.segmentation for step in run(FakeSource([FRAME_BGR] * 30), segment)]
    settings = list(dict.fromkeys(one.setting for one in made))
    assert settings == [f"{file} 32x48, 1 thread" for file in files]
    assert all(one.mask.shape == (48, 64) for one in made)
    assert ("DOES NOT hold it" in told[1]) == (files == ["small"])
    assert [line.split(", 1 thread, where the p90 was")[0].split(" ms: ")[1] for line in told[2:]] == [
        f"stepped {'down' if after == 'small' else 'up'} to {after} 32x48, 1 thread from {before} 32x48"
        for before, after in itertools.pairwise(files)
    ]


def test_times_on_the_first_frame_and_tells_of_a_file_that_takes_one_size(
    two_files: tuple[Path, Path],
) -> None:
    told: list[str] = []
    with DeadlineSegmenter(
        1e6, [Choice(two_files[0])], threads=1, on_step=told.append, timer=lambda segment, image: [1.0, 2.0]
    ) as segment:
        assert segment.ladder == ()
        segment(FRAME_BGR)
        (only,) = segment.ladder
        assert only.ms == 2.0
        assert segment.contract == read_contract(two_files[0])
    assert any("takes one size, so only its threads can change" in line for line in told)
    with pytest.raises(ConfigError, match="closed"):
        segment(FRAME_BGR)


def test_files_and_sizes_are_ordered_by_accuracy(tmp_path: Path, tiny: ModuleType) -> None:
    files = [choice.model for choice in default_choices()]
    assert {path.stem for path in files} == {"camvid-s", "camvid-s-int8", "camvid-n", "camvid-n-int8"}
    mious = [accuracy.miou for accuracy in (read_contract(path).accuracy for path in files) if accuracy]
    assert len(mious) == 4
    assert mious == sorted(mious, reverse=True)
    contract = tiny.tiny_contract((64, 96)).with_input(is_dynamic=True, size_multiple=16)
    free = tiny.write_tiny_onnx(
        tmp_path / "any.onnx", contract=contract, input_hw=("height", "width"), batch="batch"
    )
    assert [choice.size_hw for choice in default_choices(free)] == [(64, 96), (48, 64), (32, 48)]


@pytest.mark.parametrize(
    ("target_ms", "choices", "message"),
    [
        (0.0, ["large.onnx"], "target_ms: expected positive milliseconds, got 0"),
        (20.0, ["large.onnx:64x96"], "expected 32x48 .* got 64x96; choose such, or export"),
        (20.0, ["large.onnx", "missing.onnx"], "missing.onnx"),
        (20.0, ["large.onnx", "others.onnx"], "steps: expected files of the same classes"),
    ],
)
def test_what_cannot_be_chosen(
    two_files: tuple[Path, Path], tiny: ModuleType, target_ms: float, choices: list[str], message: str
) -> None:
    folder = two_files[0].parent
    contract = tiny.tiny_contract()
    other = ClassMap(tuple(f"other {name}" for name in contract.classes.names), contract.classes.palette_rgb)
    tiny.write_tiny_onnx(folder / "others.onnx", contract=replace(contract, classes=other))
    with pytest.raises(EdgesegError, match=message):
        DeadlineSegmenter(target_ms, [Choice.parse(f"{folder}/{choice}") for choice in choices], threads=1)
