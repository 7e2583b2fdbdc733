"""Turns on the same frames, in shuffled orders, and no sample lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.results.results import ModelFile
from benchmarks.timing.rounds import RoundsConfig, run_rounds
from runtime.errors import ConfigError
from runtime.frame import Image


class Recorder:
    """An entrant that notes what it sees, and takes as long as it is told."""

    stages: tuple[str, ...] = ("network",)

    def __init__(self, label: str, log: list[tuple[str, int]], slow_at: int | None = None) -> None:
        self.file = ModelFile(label, f"{label}.onnx", "", 1, "foreign", "", "")
        self._log, self._slow_at, self._count = log, slow_at, 0

    def time(self, image_bgr: Image) -> dict[str, float]:
        self._log.append((self.file.label, int(image_bgr[0, 0, 0])))
        self._count += 1
        return {"network": 900.0 if self._count == self._slow_at else 2.0}


class Yardstick:
    def run_ms(self) -> float:
        return 24.0


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    for index in range(7):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((8, 10, 3), index, np.uint8))
    return str(tmp_path / "*.png")


def test_all_see_the_same_frames_in_orders_that_change(pictures: str) -> None:
    log: list[tuple[str, int]] = []
    entrants = [Recorder(label, log) for label in "abc"]
    config = RoundsConfig(rounds=8, frames_a_round=2, settle=1)
    result = run_rounds(entrants, Yardstick(), pictures, config)  # type: ignore[arg-type]
    turns = [log[start : start + 3] for start in range(0, len(log), 3)]
    expected = [[(3 * number + step) % 7 for step in range(3)] for number in range(8)]
    for number in range(8):
        of_round = turns[3 * number : 3 * number + 3]
        assert tuple(turn[0][0] for turn in of_round) == result.orders[number]
        assert sorted(result.orders[number]) == ["a", "b", "c"]
        assert [[seen for _, seen in turn] for turn in of_round] == [expected[number]] * 3
    assert len(set(result.orders)) > 1
    assert result.frame_size_hw == (8, 10)


def test_every_sample_after_the_settling_is_kept(pictures: str) -> None:
    entrants = [Recorder("settling", [], slow_at=1), Recorder("counted", [], slow_at=2)]
    config = RoundsConfig(rounds=4, frames_a_round=3, settle=1)
    result = run_rounds(entrants, Yardstick(), pictures, config)  # type: ignore[arg-type]
    settling, counted = (one["network"] for one in result.stages_ms)
    assert settling == ((2.0, 2.0, 2.0),) * 4
    assert counted == ((900.0, 2.0, 2.0), *((2.0, 2.0, 2.0),) * 3)
    assert result.yardstick_ms == ((24.0,) * 4,) * 4  # two before each turn


def test_the_same_seed_gives_the_same_orders(pictures: str) -> None:
    def orders(seed: int) -> tuple[tuple[str, ...], ...]:
        entrants = [Recorder(label, []) for label in "abcd"]
        config = RoundsConfig(4, 1, 0, seed)
        return run_rounds(entrants, Yardstick(), pictures, config).orders  # type: ignore[arg-type]

    assert orders(1) == orders(1) != orders(2)


def test_the_first_place_is_shared_out(pictures: str) -> None:
    entrants = [Recorder(label, []) for label in "abc"]
    config = RoundsConfig(60, 1, 0)
    result = run_rounds(entrants, Yardstick(), pictures, config)  # type: ignore[arg-type]
    first = Counter(order[0] for order in result.orders)
    assert min(first.values()) > 10


def test_other_frames_have_another_checksum(pictures: str, tmp_path: Path) -> None:
    def digest(frames: str) -> str:
        config = RoundsConfig(4, 1, 0)
        return run_rounds([Recorder("a", [])], Yardstick(), frames, config).frames_sha256  # type: ignore[arg-type]

    assert digest(pictures) == digest(pictures) != digest(str(tmp_path / "3.png"))


def test_frames_of_different_sizes_are_refused(pictures: str, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "8.png"), np.zeros((9, 10, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"\(8, 10\) and \(9, 10\)"):
        run_rounds([Recorder("a", [])], Yardstick(), pictures, RoundsConfig(4, 3, 0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "least"), [({"rounds": 3}, 4), ({"frames_a_round": 0}, 1), ({"seed": -1}, 0)]
)
def test_rounds_that_measure_nothing_are_refused(wrong: dict[str, int], least: int) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"{name}: expected a number of at least {least}"):
        RoundsConfig(**wrong)
