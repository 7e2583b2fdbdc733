from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from runtime.contract import ClassMap, GraphOutput, ImageInput, ModelContract, Normalization
from runtime.frame import Frame, Segmentation
from runtime.loop import Step
from runtime.masks.overlay import LazyOverlay, Overlay
from runtime.outputs import Stream
from runtime.sources import FakeSource


@pytest.fixture
def classes() -> ClassMap:
    return ClassMap(names=("road", "sky", "car"), palette_rgb=((128, 64, 128), (0, 0, 255), (0, 255, 0)))


@pytest.fixture
def make_stream(classes: ClassMap) -> Callable[..., Stream]:
    """A stream of nothing, as outputs are opened with it."""

    def make(*, fps: float | None = 10.0, live: bool = False, alpha: float = 0.5) -> Stream:
        contract = ModelContract(
            "tiny", ImageInput((32, 48)), GraphOutput(8), classes, Normalization((0, 0, 0), (1, 1, 1))
        )
        return Stream(contract, FakeSource([], fps=fps, live=live), "here", alpha)

    return make


@pytest.fixture
def stream(make_stream: Callable[..., Stream]) -> Stream:
    return make_stream()


@pytest.fixture
def step(classes: ClassMap) -> Callable[..., Step]:
    """Make steps as `Outputs` feeds them, or as `run` gives them where they are not fed."""

    def make(
        frame_id: int = 0, mask: np.ndarray | None = None, captured_ns: int | None = None, fed: bool = True
    ) -> Step:
        mask = np.full((48, 64), frame_id % 3, np.uint8) if mask is None else mask
        image = np.full((*mask.shape, 3), 40, np.uint8)
        captured_ns = time.monotonic_ns() if captured_ns is None else captured_ns
        return Step(
            Frame(image, frame_id, captured_ns),
            Segmentation(mask, {"network": 3.0}, frame_id, captured_ns),
            {"network": 3.0, "total": 5.0},
            captured_ns + 5_000_000,
            dropped=2,
            overlay=LazyOverlay(Overlay(classes), image, mask, "") if fed else None,
        )

    return make
