from __future__ import annotations

import importlib.util
from typing import Any

import cv2
import numpy as np
import pytest

from runtime.errors import ConfigError
from runtime.frame import Image
from runtime.network import compiled
from runtime.network.compiled import VARIABLE, compiled_settle, settle_of_environment, settle_one_by_one
from runtime.network.mask import Settle, Window, class_mask, settle_cells
from runtime.segmenter import Segmenter
from tests.runtime.network.test_mask import smooth_logits

NUMBA = importlib.util.find_spec("numba") is not None


@pytest.fixture(
    params=["as it stands", pytest.param("compiled", marks=pytest.mark.skipif(not NUMBA, reason="numba"))]
)
def settle(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settle:
    """The loop in Python, and compiled."""
    if request.param == "as it stands":
        monkeypatch.setattr(compiled, "_compiled", lambda: settle_one_by_one)
    return compiled_settle()


def noise(classes: int, height: int, width: int) -> Any:
    return np.random.default_rng(0).normal(size=(1, classes, height, width)).astype(np.float32)


@pytest.mark.parametrize(
    ("logits", "size_hw"),
    [
        (smooth_logits(6, 12, 16), (48, 64)),
        (smooth_logits(6, 12, 16), (53, 101)),
        (smooth_logits(11, 9, 12, seed=3), (20, 7)),  # smaller than the logits along a row
        (smooth_logits(4, 1, 6), (9, 30)),
        (smooth_logits(4, 6, 1), (30, 9)),
        (smooth_logits(3, 1, 1), (8, 8)),
        (noise(20, 8, 10), (16, 20)),  # whole planes, in numpy in either case
        (np.round(smooth_logits(5, 10, 10) * 40) / 8, (40, 40)),  # coarse values: many ties
        (np.array([[[[9, 0]], [[0, 9]], [[6, 6]]]], np.float32), (1, 8)),  # a third wins at no corner
        (np.zeros((1, 4, 3, 5), np.float32), (30, 50)),
    ],
)
def test_equals_the_numpy_code_on_every_pixel(
    settle: Settle, logits: np.ndarray[Any, np.dtype[np.float32]], size_hw: tuple[int, int]
) -> None:
    logits = logits.astype(np.float32)
    assert np.array_equal(class_mask(logits, size_hw, settle=settle), class_mask(logits, size_hw))


def test_equals_it_where_three_and_more_classes_meet(settle: Settle) -> None:
    few = noise(11, 6, 8) + 3 * smooth_logits(11, 6, 8, seed=1)
    called: list[int] = []

    def counted(*arguments: Any) -> None:
        called.append(len(arguments[2]))
        settle(*arguments)

    window = Window(0.1, 0.9, 0.2, 0.7)  # noise in a window is not taken as whole planes
    assert np.array_equal(class_mask(few, (40, 50), window, counted), class_mask(few, (40, 50), window))
    assert called[0] > 20


@pytest.mark.skipif(not NUMBA, reason="numba is not installed")
def test_equals_it_at_any_size_compiled() -> None:
    settle, rng = compiled_settle(), np.random.default_rng(0)
    for seed in range(40):
        classes, *logits_hw = rng.integers((2, 1, 1), (21, 40, 40)).tolist()
        height, width = (int(side) + 1 for side in rng.uniform(0.4, 9, 2) * logits_hw)
        logits = smooth_logits(classes, *logits_hw, seed)
        assert np.array_equal(
            class_mask(logits, (height, width), settle=settle), class_mask(logits, (height, width))
        )


@pytest.mark.parametrize("value", [None, "", "0"])
def test_numpy_unless_asked(value: str | None) -> None:
    assert settle_of_environment({} if value is None else {VARIABLE: value}) is settle_cells


@pytest.mark.parametrize("value", ["yes", "2", "true"])
def test_a_value_that_is_neither(value: str) -> None:
    with pytest.raises(ConfigError, match=f"{VARIABLE}: expected 0 or 1, got '{value}'"):
        settle_of_environment({VARIABLE: value})


def test_without_numba_it_is_a_known_error(tiny_onnx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: object) -> Any:
        raise ImportError(f"No module named {name!r}")

    compiled._compiled.cache_clear()
    monkeypatch.setattr(compiled.importlib, "import_module", missing)
    monkeypatch.setenv(VARIABLE, "1")
    with pytest.raises(ConfigError, match=r"No module named 'numba'.*pip install 'edgeseg\[compiled\]'"):
        Segmenter(tiny_onnx)


def test_a_segmenter_takes_what_the_environment_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    frame: Image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    frame = np.asarray(cv2.resize(frame, (100, 70)), np.uint8)
    with Segmenter("camvid-n") as segment:
        expected = segment(frame).mask
    called: list[int] = []

    def loop(*arguments: Any) -> None:
        called.append(1)
        settle_one_by_one(*arguments)

    monkeypatch.setattr(compiled, "_compiled", lambda: loop)
    monkeypatch.setenv(VARIABLE, "1")
    with Segmenter("camvid-n") as segment:
        assert np.array_equal(segment(frame).mask, expected)
    assert called
