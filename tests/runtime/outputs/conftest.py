from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.contract import ClassMap, GraphOutput, ImageInput, ModelContract, Normalization
from runtime.frame import Frame, Segmentation
from runtime.loop import Step
from runtime.masks.overlay import LazyOverlay, Overlay
from runtime.outputs import Stream
from runtime.sources import FakeSource

ROOT = Path(__file__).parents[3]


def _blobs(seed: int = 0, size_hw: tuple[int, int] = (48, 64), labels: int = 3) -> np.ndarray:
    """A mask of smooth regions."""
    noise = np.random.default_rng(seed).normal(size=(*size_hw, labels)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 4).reshape(*size_hw, labels).argmax(axis=2).astype(np.uint8)


@pytest.fixture
def blobs() -> Callable[..., np.ndarray]:
    return _blobs


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


FULL_DISK = """
import resource, sys
from pathlib import Path
sys.path[:0] = [{root!r}]
import numpy as np
from runtime.contract import ClassMap, GraphOutput, ImageInput, ModelContract, Normalization
from runtime.errors import OutputError
from runtime.frame import Frame, Segmentation
from runtime.loop import Step
from runtime.outputs import Stream, {kind}
from runtime.sources import FakeSource

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
classes = ClassMap(names=("road", "sky", "car"), palette_rgb=((1, 2, 3), (4, 5, 6), (7, 8, 9)))
like_is = Normalization((0, 0, 0), (1, 1, 1))
contract = ModelContract("tiny", ImageInput((8, 8)), GraphOutput(8), classes, like_is)
output = {kind}({path!r}{more})
output.open(Stream(contract, FakeSource([], live=False)))
rng = np.random.default_rng(0)
count = 0
try:
    while True:
        side = 16 * (count + 1)
        mask = rng.integers(0, 3, (side, side)).astype(np.uint8)
        frame = Frame(np.repeat(mask[..., None] * 80, 3, axis=2), count, count)
        output.take(Step(frame, Segmentation(mask, dict()), dict(total=1.0), 0))
        count += 1
except OutputError as error:
    print(count, error)
"""


@pytest.fixture
def fill_disk() -> Callable[..., tuple[int, str]]:
    """Write until no file may grow; return the whole writes, and the error."""

    def fill(kind: str, path: Path, more: str = "") -> tuple[int, str]:
        code = FULL_DISK.format(root=str(ROOT), kind=kind, path=str(path), more=more)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        count, _, message = done.stdout.strip().partition(" ")
        return int(count), message

    return fill
