import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.contract import CAMVID_CLASSES
from training.data import Sample


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    """A sample whose label can be read off its image: blue is 20 times the class."""

    def make(seed: int = 0, size_hw: tuple[int, int] = (48, 64), name: str = "") -> Sample:
        rng = np.random.default_rng(seed)
        height, width = size_hw
        blocks = rng.integers(0, len(CAMVID_CLASSES), (-(-height // 8), -(-width // 8)), np.uint8)
        label = np.kron(blocks, np.ones((8, 8), np.uint8))[:height, :width].copy()
        image_bgr = rng.integers(0, 256, (height, width, 3), np.uint8)
        image_bgr[:, :, 0] = label * 20
        return Sample(image_bgr, label, name or f"sample_{seed}")

    return make


@pytest.fixture(scope="session")
def make_camvid(make_sample: Callable[..., Sample]) -> Callable[[Path], Path]:
    """Write a tiny folder in CamVid's SegNet layout: 6 train, 3 val and 2 test pairs of 48x64."""

    def make(root: Path) -> Path:
        for seed_base, (split, count) in enumerate({"train": 6, "val": 3, "test": 2}.items()):
            for index in range(count):
                sample = make_sample(seed=100 * seed_base + index)
                label = sample.label.copy()
                label[:2] = 11
                write_png(root / split / f"0001TP_{index:06d}.png", sample.image_bgr)
                write_png(root / f"{split}annot" / f"0001TP_{index:06d}.png", label)
        return root

    return make


@pytest.fixture
def camvid_root(tmp_path: Path, make_camvid: Callable[[Path], Path]) -> Path:
    return make_camvid(tmp_path / "camvid")


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave curves.png out, which takes most of a tiny training's time; there is a test of it elsewhere."""
    monkeypatch.setattr("training.engine.loop.draw_curves", lambda *_: None)


@pytest.fixture
def make_cityscapes(tmp_path: Path) -> Callable[..., Path]:
    """Write a tiny folder in Cityscapes' layout, of which each label row holds `ids`, then void."""

    def make(ending: str = "labelIds", ids: Sequence[int] = tuple(range(34))) -> Path:
        root = tmp_path / "cityscapes"
        label = np.zeros((8, 34), np.uint8)
        label[:, : len(ids)] = ids
        frames = ("train/aachen/aachen_000000", "train/aachen/aachen_000001", "train/bochum/bochum_000000")
        for seed, frame in enumerate((*frames, "val/ulm/ulm_000000")):
            pixels = np.random.default_rng(seed).integers(0, 256, (8, 34, 3), np.uint8)
            write_png(root / "leftImg8bit" / f"{frame}_000019_leftImg8bit.png", pixels)
            write_png(root / "gtFine" / f"{frame}_000019_gtFine_{ending}.png", label)
        return root

    return make


@pytest.fixture
def real_camvid() -> Path:
    """The real CamVid, where this machine has it."""
    root = os.environ.get("EDGESEG_CAMVID")
    if not root:
        pytest.skip("EDGESEG_CAMVID is not set")
    return Path(root)


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
